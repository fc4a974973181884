//! Network namespaces: the pod's, opened by its path, entered and left.
//!
//! The program has one thread, and a namespace belongs to a thread. Invariant: outside of [`Namespace::inside`] the
//! thread is in the node's namespace.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// Where the calling thread's own namespace is found.
const OWN: &str = "/proc/thread-self/ns/net";

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path cannot be opened.
    #[error("open network namespace {path:?}")]
    Open {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is no network namespace, or the process may not enter it.
    #[error("enter network namespace {path:?}")]
    Enter {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is the namespace that the plugin runs in: the node's own links would be changed.
    #[error("network namespace {path:?} is the plugin's own")]
    Own {
        /// The path.
        path: String,
    },
}

/// An open network namespace; it exists as long as it is open.
#[derive(Debug)]
pub struct Namespace {
    path: String,
    file: File,
}

impl Namespace {
    /// Opens the namespace at a path.
    ///
    /// # Errors
    /// When nothing can be opened there.
    pub fn open(path: &str) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Opens the namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn own() -> Result<Self, Error> {
        Self::open(OWN)
    }

    /// Fails when both are the same namespace.
    ///
    /// # Errors
    /// [`Error::Own`], or the cause when one cannot be asked.
    pub fn check_differs(&self, own: &Self) -> Result<(), Error> {
        let identity = |namespace: &Self| {
            let found = namespace.file.metadata().map(|m| (m.dev(), m.ino()));
            found.map_err(|source| Error::Open { path: namespace.path.clone(), source })
        };
        if identity(self)? == identity(own)? { Err(Error::Own { path: self.path.clone() }) } else { Ok(()) }
    }

    /// Runs `work` inside this namespace, then returns the thread to `own`.
    ///
    /// # Errors
    /// When the namespace cannot be entered; then `work` did not run.
    pub fn inside<T>(&self, own: &Self, work: impl FnOnce() -> T) -> Result<T, Error> {
        self.enter()?;
        let done = work();
        own.enter()?;
        Ok(done)
    }

    fn enter(&self) -> Result<(), Error> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| Error::Enter { path: self.path.clone(), source: e.into() })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
