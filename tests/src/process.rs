//! Programs under test, started inside a namespace.
//!
//! It is not a supervisor: a program that ends stays ended. Invariant: no program outlives its [`Process`], nor the
//! test's own process, however that ends.

use crate::namespace::{self, Namespace};
use crate::patience::{PATIENCE, Vain, eventually};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
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

/// Path of one of heddle's own programs, built in the same profile as the running test or program.
///
/// # Errors
/// [`Error::Missing`] says how to build it.
pub fn program(name: &str) -> Result<PathBuf, Error> {
    let running = std::env::current_exe().map_err(|source| Error::Start { program: name.into(), source })?;
    let folder = running.parent().unwrap_or(Path::new("."));
    // Tests lie in target/<profile>/deps, programs in target/<profile>.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::Missing { name: name.to_owned(), folder: folder.into() })
    }
}

/// What to run: a program with its arguments and environment (and no other environment than this).
#[derive(Clone, Debug)]
pub struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Vec<u8>,
}

impl Invocation {
    /// One of heddle's own programs, see [`program`].
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn of(name: &str) -> Result<Self, Error> {
        Ok(Self::foreign(program(name)?))
    }

    /// A program of the system, as an oracle that we did not write (`nft`, `kubectl`).
    pub fn foreign(program: impl Into<PathBuf>) -> Self {
        let environment = vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())];
        Self { program: program.into(), arguments: Vec::new(), environment, input: Vec::new() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What the program reads from its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Starts the program inside a namespace, to run beside the test.
    ///
    /// # Errors
    /// [`Error::Start`] when the kernel cannot start it.
    pub fn start(self, inside: &Namespace) -> Result<Process, Error> {
        let program = self.program.clone();
        let (started, start) = channel();
        let (ended, end) = channel();
        let (out, err) = (Captured::default(), Captured::default());
        let captured = (out.clone(), err.clone());
        // The death signal fires when the *thread* that started the program ends: so that thread stays and waits.
        inside.spawn(move || match self.launch() {
            Err(error) => drop(started.send(Err(error))),
            Ok((child, handle)) => {
                let _ = started.send(Ok(handle));
                let _ = ended.send(attend(child, &self.input, &captured));
            }
        })?;
        let handle = start.recv().unwrap_or_else(|_| {
            Err(Error::Start { program: program.clone(), source: io::ErrorKind::BrokenPipe.into() })
        })?;
        Ok(Process { program, handle, out, err, end, status: None })
    }

    /// Runs the program inside a namespace until it ends by itself.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`Error::Running`] when it does not end within [`PATIENCE`].
    pub fn run(self, inside: &Namespace) -> Result<Output, Error> {
        let mut process = self.start(inside)?;
        let status = process.wait(PATIENCE)?;
        Ok(Output { status, stdout: process.stdout(), stderr: process.stderr() })
    }

    fn launch(&self) -> Result<(Child, OwnedFd), Error> {
        #[expect(clippy::disallowed_methods, reason = "the lab starts the programs under test")]
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let lab = getpid();
        #[expect(unsafe_code, reason = "the only way to die with the parent, even when it is killed")]
        // SAFETY: the closure makes two system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || die_with(lab));
        }
        let child = command.spawn().map_err(|source| self.failed(source))?;
        let handle =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(|e| self.failed(e.into()))?;
        Ok((child, handle))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Start { program: self.program.clone(), source }
    }
}

/// Asks the kernel to kill this process when its parent ends; a parent that has ended already is not its parent now.
fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Feeds the program, collects what it prints, and waits for its end.
fn attend(mut child: Child, input: &[u8], captured: &(Captured, Captured)) -> io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(|| captured.0.drain(stdout));
        scope.spawn(|| captured.1.drain(stderr));
        // A program may end without reading its input.
        let _ = stdin.map(|mut pipe| pipe.write_all(input));
    });
    child.wait()
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
    handle: OwnedFd,
    out: Captured,
    err: Captured,
    end: Receiver<io::Result<ExitStatus>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// What it has printed to standard output so far.
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// What it has printed to standard error so far.
    pub fn stderr(&self) -> String {
        self.err.text()
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
