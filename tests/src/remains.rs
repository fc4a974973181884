//! What is left of a process that has had a lab: nothing, if all went well.
//!
//! It looks from outside, at what the kernel shows of every process. Directories and BPF file systems of a lab have no name anywhere
//! ([`scratch`](mod@crate::scratch)): whoever holds none of its namespaces is no program of it that could hold one of those.

use crate::cgroup;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The namespaces that a process held when somebody looked, and its id.
#[derive(Clone, Debug)]
pub struct Remains {
    process: u32,
    namespaces: BTreeSet<PathBuf>,
}

impl Remains {
    /// Looks at what a running process holds.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(process: u32) -> io::Result<Self> {
        let files = fs::read_dir(format!("/proc/{process}/fd"))?.flatten();
        let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        let is_network = |target: &PathBuf| target.to_string_lossy().starts_with("net:[");
        Ok(Self { process, namespaces: targets.filter(is_network).collect() })
    }

    /// How many namespaces there were.
    pub fn namespaces(&self) -> usize {
        self.namespaces.len()
    }

    /// What is left of all that.
    pub fn left(&self) -> Vec<PathBuf> {
        users_of(&self.namespaces).into_iter().chain(cgroup::of_process(self.process)).collect()
    }
}

/// The processes that run in one of these namespaces, as the kernel names them (`net:[…]`), or hold one open.
pub fn users_of(namespaces: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let uses = |link: &Path| fs::read_link(link).is_ok_and(|target| namespaces.contains(&target));
    let holds = |process: &Path| {
        let open = fs::read_dir(process.join("fd"));
        open.is_ok_and(|files| files.flatten().any(|file| uses(&file.path())))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    processes.filter(|process| uses(&process.join("ns/net")) || holds(process)).collect()
}
