//! One network namespace, held by a file descriptor.
//!
//! It is not a named namespace: there is no file under `/run/netns`, so that nothing is left when the test is
//! killed. Invariant: no thread of the caller ever changes its namespace; work inside is done on threads of its own.

use crate::cgroup::Cgroup;
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread;

/// Why a namespace could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a new namespace.
    #[error("create network namespace {name} (the lab needs root)")]
    Create {
        /// The namespace's name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No thread could be moved into it.
    #[error("enter network namespace {name}")]
    Enter {
        /// The namespace's name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error("set {key} to {value} in network namespace {name}")]
    Sysctl {
        /// The namespace's name.
        name: String,
        /// Path of the setting below `/proc/sys/net`.
        key: String,
        /// What was written.
        value: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A network namespace; it lives as long as a clone of this value, or anything running inside.
#[derive(Clone)]
pub struct Namespace {
    name: Arc<str>,
    file: Arc<OwnedFd>,
    /// Whoever enters is in it too.
    cgroup: Option<Arc<Cgroup>>,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({} at {})", self.name, self.path().display())
    }
}

impl Namespace {
    /// Makes a namespace that is empty but for a loopback device, which is down. `name` is for messages only.
    ///
    /// # Errors
    /// [`Error::Create`], mostly for lack of privilege.
    pub fn new(name: &str) -> Result<Self, Error> {
        let made = thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("make {name}")).spawn_scoped(scope, unshared)?;
            thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
        });
        let file = made.map_err(|source| Error::Create { name: name.to_owned(), source })?;
        Ok(Self { name: name.into(), file: Arc::new(file), cgroup: None })
    }

    /// The same one, whose threads and programs are in this cgroup, if there is one.
    #[must_use]
    pub fn in_cgroup(self, cgroup: Option<Arc<Cgroup>>) -> Self {
        Self { cgroup, ..self }
    }

    /// The cgroup of its threads and programs, if it is one of their own.
    pub fn cgroup(&self) -> Option<&Arc<Cgroup>> {
        self.cgroup.as_ref()
    }

    /// A namespace that another program made, by the file that holds it.
    ///
    /// # Errors
    /// As the file system says.
    pub fn existing(name: &str, file: &Path) -> io::Result<Self> {
        let file = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { name: name.into(), file: Arc::new(file), cgroup: None })
    }

    /// The name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path that other programs can open while this process lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` on a fresh thread inside the namespace and waits for it. Sockets that it returns stay in the
    /// namespace.
    ///
    /// # Errors
    /// [`Error::Enter`]; a panic of `work` goes on in the caller.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let entered = thread::scope(|scope| {
            let inside = || move_here(self).map(|()| work());
            let thread = thread::Builder::new().name(self.name.to_string()).spawn_scoped(scope, inside)?;
            thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
        });
        entered.map_err(|source| self.not_entered(source))
    }

    /// Starts a thread that works inside the namespace.
    ///
    /// # Errors
    /// [`Error::Enter`] when there is no thread; a thread that cannot enter gives its error when joined.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T, Error>>, Error> {
        let inside = self.clone();
        thread::Builder::new()
            .name(self.name.to_string())
            .spawn(move || match move_here(&inside) {
                Ok(()) => Ok(work()),
                Err(source) => Err(inside.not_entered(source)),
            })
            .map_err(|source| self.not_entered(source))
    }

    /// Writes a kernel setting; `key` is its path below `/proc/sys/net`, as in `ipv4/ip_forward`.
    ///
    /// # Errors
    /// [`Error::Sysctl`], also when this kernel has no such setting.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), Error> {
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.enter(|| fs::write(format!("/proc/sys/net/{key}"), value))?.map_err(|source| Error::Sysctl {
            name: self.name.to_string(),
            key: key.to_owned(),
            value: value.to_owned(),
            source,
        })
    }

    fn not_entered(&self, source: io::Error) -> Error {
        Error::Enter { name: self.name.to_string(), source }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Moves the calling thread, which belongs to the lab and ends soon.
fn move_here(namespace: &Namespace) -> io::Result<()> {
    if let Some(cgroup) = &namespace.cgroup {
        cgroup.enter()?;
    }
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Gives the calling thread a namespace of its own and returns the file that holds it.
fn unshared() -> io::Result<OwnedFd> {
    #[expect(
        unsafe_code,
        reason = "only CLONE_FILES is unsafe: NEWNET moves this thread to another network"
    )]
    // SAFETY: no file descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
