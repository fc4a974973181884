//! Both sides on one processor, and their CPU time.
//!
//! Client and server take turns, so the CPU time of both threads is all that the work costs: virtual links hand a packet over within
//! the system call that sent it. CPU time hardly minds other work on the machine, the clock does. Invariant: no thread of the
//! caller is pinned; those that are end with the work.

use crate::Failure;
use heddle_tests::namespace::Namespace;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::thread;
use std::time::Duration;

/// Runs both sides, the asking one inside the client's namespace, and returns their CPU time in seconds and what the client found.
///
/// # Errors
/// When a side fails.
pub fn both<T: Send>(
    client: &Namespace,
    serve: impl FnOnce() -> io::Result<()> + Send,
    ask: impl FnOnce() -> io::Result<T> + Send,
) -> Result<(f64, T), Failure> {
    thread::scope(|scope| {
        let server = scope.spawn(|| costs(serve));
        let asked = client.enter(|| costs(ask))?;
        let served = server.join().map_err(|_| "the server's thread failed")?;
        // A client that fails leaves the server waiting until its own patience ends.
        let (seconds, found) = asked?;
        Ok((seconds + served?.0, found))
    })
}

/// Does something inside a namespace on that processor, and returns what it gave.
///
/// # Errors
/// When it fails.
pub fn alone<T: Send>(
    inside: &Namespace,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> Result<(f64, T), Failure> {
    Ok(inside.enter(|| costs(work))??)
}

/// The CPU time of the calling thread, in seconds.
pub fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::try_from(now).unwrap_or_default();
    seconds.as_secs_f64()
}

/// Does something on the first processor that this process may use, with the thread's CPU time in seconds.
fn costs<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<(f64, T)> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).unwrap_or(0);
    one.set(first);
    sched_setaffinity(None, &one)?;
    let start = cpu_seconds();
    let found = work()?;
    Ok((cpu_seconds() - start, found))
}
