//! What to run, and how it is started.

use super::{Captured, Error, Output, Process};
use crate::namespace::Namespace;
use crate::patience::PATIENCE;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread;

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
    without: CapabilitySet,
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
        let without = CapabilitySet::empty();
        Self { program: program.into(), arguments: Vec::new(), environment, input: Vec::new(), without }
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

    /// Takes rights of root's from the program.
    #[must_use]
    pub fn without(mut self, rights: CapabilitySet) -> Self {
        self.without |= rights;
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
                let _ = started.send(Ok((child.id(), handle)));
                let _ = ended.send(attend(child, &self.input, &captured));
            }
        })?;
        let (id, handle) = start.recv().unwrap_or_else(|_| {
            Err(Error::Start { program: program.clone(), source: io::ErrorKind::BrokenPipe.into() })
        })?;
        Ok(Process { program, id, handle, out, err, end, status: None })
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
        // Ctrl-C on a terminal is for all of a group: what the lab has started ends when the lab wants it to.
        command.process_group(0);
        let (lab, without) = (getpid(), self.without);
        #[expect(unsafe_code, reason = "the only way to die with the parent, even when it is killed")]
        // SAFETY: the closure makes a few system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                // What is out of the bounding set is not given to root's program either.
                without.iter().try_for_each(remove_capability_from_bounding_set)?;
                die_with(lab)
            });
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
