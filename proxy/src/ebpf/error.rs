//! Why Services cannot be served at sockets.

use std::error::Error;
use std::io;

/// What could not be done, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Unable {
    /// What was tried.
    pub what: String,
    /// The cause.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl Unable {
    /// From a cause of any kind.
    pub fn new(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: source.into() }
    }

    /// From what the kernel says.
    pub(super) fn at<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::new(what, source.into())
    }
}
