//! How long to wait before what failed is tried again.
//!
//! Pure: it counts failures and knows no clock. Each wait is twice the one before, so that a short disturbance is over
//! soon and a long one costs little.

use std::time::Duration;

/// The wait after a first failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait after repeated failures.
const LONGEST: Duration = Duration::from_secs(10);

/// Counts the failures since the last success.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// True while the last try has failed.
    pub fn is_failing(self) -> bool {
        self.failures > 0
    }

    /// Takes in how a try ended; returns the wait before the next one after a failure.
    pub fn after(&mut self, failed: bool) -> Option<Duration> {
        if !failed {
            self.failures = 0;
            return None;
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).filter_map(|_| backoff.after(true)).map(|w| w.as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert!(backoff.is_failing());
        assert_eq!(backoff.after(false), None);
        assert!(!backoff.is_failing());
        assert_eq!(backoff.after(true), Some(FIRST));
    }
}
