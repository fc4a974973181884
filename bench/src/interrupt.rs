//! Ctrl-C, and a service manager's way to say the same: the run ends early, tidily, and tells what it has.
//!
//! Invariant: whoever waits for long asks here meanwhile. A second signal ends the process at once; what it leaves then is what
//! every run removes that finds it.

use crate::Failure;
use heddle_tests::patience::eventually;
use heddle_tests::process::{self, Process};
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What shells give for a program that SIGINT ended.
pub const EXIT: u8 = 130;
/// Between two looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Somebody wants the run to end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Whether anybody does.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to hear signals in place of dying of them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch() -> io::Result<Self> {
        let told = Self::default();
        let teller = told.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut int, mut term) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(either(&mut int, &mut term));
            teller.0.store(true, Ordering::Relaxed);
            runtime.block_on(either(&mut int, &mut term));
            std::process::exit(EXIT.into());
        })?;
        Ok(told)
    }

    /// Fails once somebody does.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// Looks again and again until `look` gives something other than a complaint.
    ///
    /// # Errors
    /// [`Interrupted`], or with the last complaint when it takes longer than `limit`.
    pub fn eventually<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<T, String>,
    ) -> Result<T, Failure> {
        let stopped_or = || self.check().map_or_else(|stop| Ok(Err(stop)), |()| look().map(Ok));
        Ok(eventually(what, limit, stopped_or)??)
    }

    /// Waits for the end of a program.
    ///
    /// # Errors
    /// [`Interrupted`], or when it takes longer than `limit`.
    pub fn await_end(&self, program: &mut Process, limit: Duration) -> Result<ExitStatus, Failure> {
        let start = Instant::now();
        loop {
            self.check()?;
            match program.wait(LOOK) {
                Err(process::Error::Running { .. }) if start.elapsed() < limit => {}
                ended => return Ok(ended?),
            }
        }
    }
}

async fn either(int: &mut Signal, term: &mut Signal) {
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
}
