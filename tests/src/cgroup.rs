//! A cgroup of a test's own, in which the threads of a node and of its pods live.
//!
//! It is threaded (Linux 4.14), so that threads of one process can be in several of them. What a killed test leaves is an empty
//! folder, which the next test removes. Invariant: it lies below the cgroup that the test was started in.

use crate::patience::eventually;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How the names of all of them begin; the process's id follows.
const PREFIX: &str = "heddle-test-";
/// Tasks that end leave their cgroup a moment after whoever waited for them knows.
const PATIENCE: Duration = Duration::from_secs(1);

/// One that is gone with this value.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes an empty one.
    ///
    /// # Errors
    /// When there is no cgroup v2, or the process may not make one.
    pub fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let above = own()?;
        sweep_in(&above);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = above.join(format!("{PREFIX}{}-{number}", process::id()));
        fs::create_dir(&path)?;
        let made = Self { path };
        fs::write(made.path.join("cgroup.type"), "threaded")?;
        Ok(made)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the calling thread into it; what that starts is in it too.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.threads"), "0")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A thread that was inside may be the last that knows of it.
        let above = self.path.parent().unwrap_or(Path::new("/"));
        let _ = fs::write(above.join("cgroup.threads"), "0");
        // What is left is swept by the next test.
        let _ = eventually("an empty cgroup", PATIENCE, || match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(error.to_string()),
            _ => Ok(()),
        });
    }
}

/// Those that a process has made, or has left behind, beside those of this one.
pub fn of_process(id: u32) -> Vec<PathBuf> {
    let entries = own().and_then(fs::read_dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let prefix = format!("{PREFIX}{id}-");
    paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect()
}

/// The folder of the cgroup that this process is in.
fn own() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?
    });
    let mount = mount.ok_or_else(|| io::Error::other("no cgroup v2 is mounted"))?;
    let of_process = fs::read_to_string("/proc/self/cgroup")?;
    let path = of_process.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Ok(Path::new(mount).join(path))
}

/// Removes those of processes that are no more, beside those of this one.
///
/// # Errors
/// When there is no cgroup v2.
pub fn sweep() -> io::Result<()> {
    sweep_in(&own()?);
    Ok(())
}

fn sweep_in(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            // Another test may be faster.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_enters_and_the_rest_of_the_process_does_not() {
        let cgroup = Cgroup::new().unwrap();
        let listed = || fs::read_to_string(cgroup.path().join("cgroup.threads")).unwrap();
        let inside = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                cgroup.enter().unwrap();
                listed().lines().count()
            });
            inside.join().unwrap()
        });
        assert_eq!(inside, 1);
        let path = cgroup.path().to_owned();
        drop(cgroup);
        assert!(!path.exists());
    }
}
