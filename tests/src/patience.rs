//! Waiting for something that another thread, process or the kernel brings about.
//!
//! It is not a sleep: what is awaited ends the wait, the deadline only ends a test that has failed already.

use std::thread;
use std::time::{Duration, Instant};

/// How long a lab waits for anything that must happen: far more than a loaded machine with two cores needs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// What was awaited did not happen.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} in vain for {what}; the last look gave: {last}")]
pub struct Vain {
    /// What was awaited.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What the last look gave.
    pub last: String,
}

/// Looks again and again until `look` gives a value, or until `limit` has passed. A look that fails says what it saw.
///
/// # Errors
/// [`Vain`] with the last thing seen.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, Vain> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => {
                return Err(Vain { what: what.to_owned(), waited: start.elapsed(), last });
            }
            Err(_) => thread::park_timeout(PAUSE),
        }
    }
}
