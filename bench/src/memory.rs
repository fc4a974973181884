//! How much memory a process has.

use crate::Failure;
use std::fs;

/// Resident memory, in MB (10^6 bytes).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resident {
    /// Now.
    pub now: f64,
    /// What of that is its own, and no part of the program's file, which is mapped.
    pub own: f64,
    /// At most until now.
    pub peak: f64,
}

/// Reads it from `/proc`.
///
/// # Errors
/// When there is no such process.
pub fn resident(process: u32) -> Result<Resident, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let read = |field| find(&status, field).ok_or_else(|| format!("process {process} has no {field}"));
    Ok(Resident { now: read("VmRSS:")?, own: read("RssAnon:")?, peak: read("VmHWM:")? })
}

/// A line of `status` is `VmRSS:     1024 kB`.
fn find(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_megabytes() {
        assert_eq!(find("VmHWM:\t  20000 kB\nVmRSS:\t   10000 kB\n", "VmRSS:"), Some(10.24));
        assert!(resident(std::process::id()).unwrap().peak > 0.1);
    }
}
