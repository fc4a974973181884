//! A client that connects all the time and remembers every failure.

use crate::namespace::{self, Namespace};
use crate::patience::{PATIENCE, Vain, eventually};
use crate::traffic::Transport;
use crate::traffic::client::{Outcome, PATIENT, attempt_here};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two attempts: often enough that no gap of a few milliseconds is missed, seldom enough to leave the two
/// processors of a test machine to the proxy.
const PACE: Duration = Duration::from_millis(1);
/// After this the kernel repeats a lost SYN.
const LATE: Duration = Duration::from_secs(1);

/// One attempt that no server answered.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it ended, since the start.
    pub at: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a steady client went through.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Number of attempts.
    pub attempts: usize,
    /// How many attempts each server answered.
    pub answered: BTreeMap<String, usize>,
    /// The attempts that no server answered, in order.
    pub failures: Vec<Failure>,
    /// When those attempts began that were answered only after a lost SYN would have been repeated.
    pub late: Vec<Duration>,
    /// How many SYNs the kernel repeated for any client in the namespace.
    pub repeated_syns: u64,
}

impl Report {
    /// Whether every attempt was answered in time and no SYN was lost on the way.
    pub fn is_flawless(&self) -> bool {
        self.failures.is_empty() && self.late.is_empty() && self.repeated_syns == 0
    }
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
        Self::paced(PACE, from, transport, to)
    }

    /// The same with another pause between two attempts.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn paced(
        pace: Duration,
        from: &Namespace,
        transport: Transport,
        to: SocketAddr,
    ) -> Result<Self, namespace::Error> {
        let attempts = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = channel();
        let counter = Arc::clone(&attempts);
        let thread = from.spawn(move || attempt_until((&stopped, pace), &counter, transport, to))?;
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
    (stopped, pace): (&Receiver<()>, Duration),
    counter: &AtomicUsize,
    transport: Transport,
    to: SocketAddr,
) -> Report {
    let (start, repeated) = (Instant::now(), repeated_syns());
    let mut report = Report::default();
    while stopped.recv_timeout(pace) == Err(RecvTimeoutError::Timeout) {
        let begun = start.elapsed();
        let outcome = attempt_here(transport, to, PATIENT);
        if start.elapsed() - begun >= LATE {
            report.late.push(begun);
        }
        report.attempts += 1;
        counter.store(report.attempts, Ordering::Relaxed);
        match outcome.endpoint() {
            Some(endpoint) => *report.answered.entry(endpoint.to_owned()).or_default() += 1,
            None => report.failures.push(Failure { at: start.elapsed(), outcome }),
        }
    }
    report.repeated_syns = repeated_syns() - repeated;
    report
}

/// How many SYNs the kernel repeated for any client in the calling thread's namespace.
///
/// # Panics
/// Where the kernel has no such count (before 3.13).
pub fn repeated_syns() -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/netstat").expect("a kernel with TCP counts");
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, counts) = rows.next().zip(rows.next()).expect("a row of names and one of counts");
    let mut counters = names.split(' ').zip(counts.split(' '));
    let (_, count) = counters.find(|(name, _)| *name == "TCPSynRetrans").expect("Linux 3.13 has this count");
    count.parse().expect("counts are numbers")
}
