//! CPU time and memory of a program with all that it has started, from `/proc`.
//!
//! A child that has ended counts with whoever waited for it; one whose parent has ended is nobody's any more. Memory that two programs
//! share counts twice; a copy that a program has made of itself, on the way to start another one, has no memory of its own.

use crate::Failure;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two looks at the memory: programs that live shorter may be missed.
const LOOK: Duration = Duration::from_millis(50);

/// What a program and its children have used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds of CPU since the program started, its own and the kernel's for it.
    pub cpu: f64,
    /// Resident memory now, in MB (10^6 bytes).
    pub now: f64,
    /// What of that is no part of a file, which is mapped.
    pub own: f64,
}

impl Usage {
    /// Of this process and its descendants.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(process: u32) -> Result<Self, Failure> {
        let mut sum = Self::one(process)?;
        // Those that end while somebody looks are not there any more.
        for child in descendants(process) {
            let Ok(other) = Self::one(child) else { continue };
            sum.cpu += other.cpu;
            if !is_copy(child) {
                sum.now += other.now;
                sum.own += other.own;
            }
        }
        Ok(sum)
    }

    fn one(process: u32) -> Result<Self, Failure> {
        let folder = format!("/proc/{process}");
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let read = |field| megabytes(&status, field).unwrap_or_default();
        let cpu = seconds(&stat).ok_or_else(|| format!("{folder}/stat cannot be read"))?;
        Ok(Self { cpu, now: read("VmRSS:"), own: read("RssAnon:") })
    }
}

/// At most how much memory it had by itself until now, in MB.
///
/// # Errors
/// When there is no such process.
pub fn most_alone(process: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    Ok(megabytes(&status, "VmHWM:").ok_or_else(|| format!("process {process} has no memory"))?)
}

/// Looks how much memory a program and its children have, again and again.
pub struct Peak {
    process: u32,
    stop: Arc<AtomicBool>,
    looking: Option<JoinHandle<f64>>,
}

impl Peak {
    /// Begins to look.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn watch(process: u32) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let look = move || {
            let mut most = 0.0_f64;
            while !told.load(Ordering::Relaxed) {
                most = most.max(Usage::of(process).unwrap_or_default().now);
                thread::park_timeout(LOOK);
            }
            most
        };
        let looking = Some(thread::Builder::new().name("memory".to_owned()).spawn(look)?);
        Ok(Self { process, stop, looking })
    }

    /// The most that there was until now.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn end(mut self) -> Result<f64, Failure> {
        let together = self.join().unwrap_or_default();
        Ok(together.max(most_alone(self.process)?))
    }

    fn join(&mut self) -> Option<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let looking = self.looking.take()?;
        looking.thread().unpark();
        looking.join().ok()
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.join();
    }
}

/// All that it has started and that still runs, and what those have.
fn descendants(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(Path::new("/proc").join(process.to_string()).join("task"));
    let lists =
        tasks.into_iter().flatten().flatten().map(|task| fs::read_to_string(task.path().join("children")));
    let text: String = lists.map(Result::unwrap_or_default).collect();
    let children = text.split_whitespace().filter_map(|id| id.parse().ok());
    children.flat_map(|child| [child].into_iter().chain(descendants(child))).collect()
}

/// Whether a process runs nothing but what its parent does: it was forked, and has not called `exec` yet. Each call of that puts
/// the stack elsewhere.
fn is_copy(process: u32) -> bool {
    let stat = |process: &str| fs::read_to_string(format!("/proc/{process}/stat")).ok();
    let Some(this) = stat(&process.to_string()) else { return false };
    let parent = fields(&this).and_then(|fields| stat(fields.get(1)?));
    let stack = |stat: &str| fields(stat)?.get(25).map(|stack| (*stack).to_owned());
    stack(&this).is_some_and(|stack_of_this| parent.as_deref().and_then(stack) == Some(stack_of_this))
}

/// What follows the name in a line of `stat`: the name may hold anything.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

/// CPU time in a line of `stat`: of the process, and of its children that it has waited for.
fn seconds(stat: &str) -> Option<f64> {
    let ticks: f64 = fields(stat)?.get(11..15)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    let a_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(ticks / f64::from(a_second))
}

/// A line of `status` is `VmRSS:     1024 kB`.
fn megabytes(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_tests::namespace::Namespace;
    use heddle_tests::patience::{PATIENCE, eventually};
    use heddle_tests::process::Invocation;

    #[test]
    fn memory_is_read_in_megabytes() {
        assert_eq!(megabytes("VmHWM:\t  20000 kB\nVmRSS:\t   10000 kB\n", "VmRSS:"), Some(10.24));
        assert!(Usage::of(std::process::id()).unwrap().now > 0.1);
    }

    #[test]
    fn cpu_time_is_all_four_fields_whatever_the_programs_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 1 2 3 4 20 0 1 0 100";
        let ticks = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap());
        assert_eq!(seconds(stat), Some(10.0 / ticks));
    }

    #[test]
    fn a_copy_on_the_way_to_another_program_has_no_memory_of_its_own() {
        // It keeps no output open: whoever waits for the end of the shell waits for the end of that first.
        let script = "(while [ -d /proc/$$ ]; do :; done) >/dev/null 2>&1 & wait";
        let host = Namespace::new("usage").unwrap();
        let shell = Invocation::foreign("/bin/sh").args(["-c", script]).start(&host).unwrap();
        eventually("the copy", PATIENCE, || {
            let copies = descendants(shell.id()).into_iter().filter(|child| is_copy(*child)).count();
            let (all, alone) = (Usage::of(shell.id()).unwrap(), Usage::one(shell.id()).unwrap());
            let is_alike = copies == 1 && (all.now, all.own) == (alone.now, alone.own);
            if is_alike { Ok(()) } else { Err(format!("{copies} copies, {all:?} of which {alone:?}")) }
        })
        .unwrap();
    }

    #[test]
    fn children_count_after_they_were_waited_for() {
        let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let script = format!("sh -c '{work}'; echo waited; kill -STOP $$");
        let host = Namespace::new("usage").unwrap();
        let shell = Invocation::foreign("/bin/sh").args(["-c", &script]).start(&host).unwrap();
        shell.prints("waited").unwrap();
        assert!(Usage::of(shell.id()).unwrap().cpu > 0.0);
        assert!(most_alone(shell.id()).unwrap() > 0.1);
    }
}
