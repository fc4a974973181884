//! What a daemon does as a process: threads with names, and the wait for a signal that says to stop.
//!
//! It knows nothing of what runs in them. heddle-node is built on the same.

use std::io;
use std::thread;
use tokio::signal::unix::{SignalKind, signal};

/// A thread, a signal handler or a runtime could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("start {what}")]
pub struct ProcessError {
    /// Which part.
    pub what: &'static str,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl ProcessError {
    /// Says of which part an error is.
    pub fn of(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self { what, source }
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When they cannot be listened for.
pub async fn stopped() -> Result<(), ProcessError> {
    let start = ProcessError::of("the signal handlers");
    let mut terminate = signal(SignalKind::terminate()).map_err(&start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(&start)?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Starts a thread of this name.
///
/// # Errors
/// When the kernel gives none.
pub fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), ProcessError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(ProcessError::of(name))
}
