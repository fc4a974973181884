//! Programs under test, started inside a namespace.
//!
//! It is not a supervisor: a program that ends stays ended. Invariant: no program outlives its [`Process`], nor the
//! test's own process, however that ends.

mod invocation;

pub use invocation::{Invocation, program};

use crate::namespace;
use crate::patience::{PATIENCE, Vain, eventually};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program has not been built.
    #[error("find {name} in {}: build it with `cargo build --workspace --bins`", folder.display())]
    Missing {
        /// The program's name.
        name: String,
        /// Where it is looked for: the folder that holds the running test's profile.
        folder: PathBuf,
    },
    /// The kernel did not start it.
    #[error("start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It did not take a signal or its output could not be read.
    #[error("watch {}", program.display())]
    Watch {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It did not end in time.
    #[error("{} still runs after {limit:?}", program.display())]
    Running {
        /// The program.
        program: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// There is no way into its namespace.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
}

/// Text that grows while the program prints.
#[derive(Clone, Debug, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn drain(&self, source: Option<impl Read>) {
        let Some(mut source) = source else { return };
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = source.read(&mut piece) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..read]);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn lines(&self, from: usize) -> (String, usize) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = all.get(from..).unwrap_or_default();
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        (String::from_utf8_lossy(&new[..whole]).into_owned(), from + whole)
    }
}

/// What a program that ended has left.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything on its standard output.
    pub stdout: String,
    /// Everything on its standard error.
    pub stderr: String,
}

/// A running program. It is killed when this value is dropped; if that happens because a test fails, the test's
/// output shows what the program printed.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    id: u32,
    handle: OwnedFd,
    out: Captured,
    err: Captured,
    end: Receiver<io::Result<ExitStatus>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Its process id. No other program has it before this value is dropped or has seen the end.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it has printed to standard output so far.
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// What it has printed to standard error so far.
    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// The whole lines that it has printed to standard error after so many bytes, and after how many the next one begins.
    pub fn stderr_lines(&self, from: usize) -> (String, usize) {
        self.err.lines(from)
    }

    /// Waits until it has printed `text` on either output.
    ///
    /// # Errors
    /// [`Vain`] with everything that it printed instead.
    pub fn prints(&self, text: &str) -> Result<(), Vain> {
        eventually(&format!("{} to print {text:?}", self.program.display()), PATIENCE, || {
            let printed = self.stdout() + &self.stderr();
            if printed.contains(text) { Ok(()) } else { Err(printed) }
        })
    }

    /// Sends a signal; a program that has ended already is no error.
    ///
    /// # Errors
    /// [`Error::Watch`] when the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(self.unwatched(e.into())),
        }
    }

    /// Stops all its threads until [`Signal::CONT`], and waits until the last one stands: the signal is one thread's, which
    /// may wait for a processor while the others go on.
    ///
    /// # Errors
    /// [`Error::Watch`] when the kernel refuses, or the program has ended.
    pub fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)?;
        let stopped = waitid(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::STOPPED);
        stopped.map(|_| ()).map_err(|e| self.unwatched(e.into()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::Running`] when it has not ended after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = match self.end.recv_timeout(limit) {
            Ok(ended) => ended.map_err(|source| self.unwatched(source))?,
            Err(RecvTimeoutError::Timeout) => {
                return Err(Error::Running { program: self.program.clone(), limit });
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(self.unwatched(io::ErrorKind::BrokenPipe.into()));
            }
        };
        self.status = Some(status);
        Ok(status)
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn is_running(&mut self) -> Result<bool, Error> {
        match self.wait(Duration::ZERO) {
            Ok(_) => Ok(false),
            Err(Error::Running { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Kills it with SIGKILL, as the kernel does when memory is short, and waits until it is gone.
    ///
    /// # Errors
    /// As [`signal`](Self::signal) and [`wait`](Self::wait).
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.signal(Signal::KILL)?;
        self.wait(PATIENCE)
    }

    fn unwatched(&self, source: io::Error) -> Error {
        Error::Watch { program: self.program.clone(), source }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test's own output is where its reader looks")]
            {
                eprintln!("--- {} printed:\n{}{}", self.program.display(), self.stdout(), self.stderr());
            }
        }
    }
}
