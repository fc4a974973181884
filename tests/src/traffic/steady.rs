//! A client that connects all the time and remembers every failure.

use crate::namespace::{self, Namespace};
use crate::patience::{PATIENCE, Vain, eventually};
use crate::traffic::Transport;
use crate::traffic::client::{Outcome, attempt_here};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two attempts: often enough that no gap of a few milliseconds is missed, seldom enough to leave the two
/// processors of a test machine to the proxy.
const PACE: Duration = Duration::from_millis(1);
/// Below the second after which the kernel repeats a lost SYN: one lost packet is a failure here.
const IMPATIENT: Duration = Duration::from_millis(900);

/// One attempt that no server answered.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it ended, since the start.
    pub at: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a steady client went through.
#[derive(Clone, Debug)]
pub struct Report {
    /// Number of attempts.
    pub attempts: usize,
    /// The attempts that no server answered, in order.
    pub failures: Vec<Failure>,
}

/// A client in a thread of its own.
#[derive(Debug)]
pub struct Steady {
    attempts: Arc<AtomicUsize>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<Report, namespace::Error>>>,
}

impl Steady {
    /// Starts to connect to `to` from a namespace, again and again.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(from: &Namespace, transport: Transport, to: SocketAddr) -> Result<Self, namespace::Error> {
        let attempts = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = channel();
        let counter = Arc::clone(&attempts);
        let thread = from.spawn(move || attempt_until(&stopped, &counter, transport, to))?;
        Ok(Self { attempts, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until `more` further attempts have ended.
    ///
    /// # Errors
    /// [`Vain`] when they take longer than a lab waits for anything.
    pub fn sees(&self, more: usize) -> Result<(), Vain> {
        let goal = self.attempts.load(Ordering::Relaxed) + more;
        eventually(&format!("{more} more attempts"), PATIENCE, || {
            let now = self.attempts.load(Ordering::Relaxed);
            if now >= goal { Ok(()) } else { Err(format!("{now} of {goal}")) }
        })
    }

    /// Ends it and says what it went through.
    ///
    /// # Errors
    /// When its namespace could not be entered.
    pub fn stop(mut self) -> Result<Report, namespace::Error> {
        self.stop = None;
        let thread = self.thread.take().expect("a steady client has its thread until it is stopped");
        thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn attempt_until(
    stopped: &Receiver<()>,
    counter: &AtomicUsize,
    transport: Transport,
    to: SocketAddr,
) -> Report {
    let start = Instant::now();
    let mut report = Report { attempts: 0, failures: Vec::new() };
    while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
        let outcome = attempt_here(transport, to, IMPATIENT);
        report.attempts += 1;
        counter.store(report.attempts, Ordering::Relaxed);
        if outcome.endpoint().is_none() {
            report.failures.push(Failure { at: start.elapsed(), outcome });
        }
    }
    report
}
