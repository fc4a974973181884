//! The kernel's limits for connection tracking, and our own place when memory runs out, set once at the start.
//!
//! The rules are kube-proxy's: a value is written only where it is another one, and hashsize only raised. What may not be
//! written (a container whose `/proc/sys` is read-only, a limit that belongs to the host) is for `--init-only` to
//! insist on; otherwise it is told once and done without. What this process is worth to the kernel is never
//! insisted on, since it would not outlive it.

use crate::config::{Conntrack, GoDuration};
use std::path::{Path, PathBuf};
use std::{fs, io, thread};

/// The most connections that a number of cores stands for: 320 MB of kernel memory.
const MOST: i64 = 1 << 20;

/// Where settings are written if nothing else is said.
const SYSCTL: &str = "proc/sys";
const HASHSIZE: &str = "sys/module/nf_conntrack/parameters/hashsize";
/// The same number among the settings; only the host's namespace may write it.
const BUCKETS: &str = "net/netfilter/nf_conntrack_buckets";
const ONLINE: &str = "sys/devices/system/cpu/online";
const OOM_SCORE: &str = "proc/self/oom_score_adj";

/// A file of the kernel's that could not be set.
#[derive(Debug, thiserror::Error)]
#[error("set {} to {value}: {source}", path.display())]
pub struct Unset {
    /// The file.
    pub path: PathBuf,
    /// What it should say.
    pub value: i64,
    /// Why it does not.
    pub source: io::Error,
}

impl Unset {
    /// Whether the kernel does not have the file: what it belongs to is a module, which our first rule loads.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The kernel's files.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// What they are below: `/` but in tests.
    pub root: &'a Path,
    /// Where settings are written, if not in `proc/sys`: in a container, both that and `sys` are read-only.
    pub sysctl: Option<&'a Path>,
}

impl Files<'_> {
    fn setting(self, name: &str) -> PathBuf {
        self.sysctl.map_or_else(|| self.root.join(SYSCTL), Path::to_owned).join(name)
    }

    fn hashsize(self) -> PathBuf {
        if self.sysctl.is_some() { self.setting(BUCKETS) } else { self.root.join(HASHSIZE) }
    }
}

/// Sets how readily the kernel ends this process when memory runs out, -1000 (never) to 1000. `root` is `/` but in tests.
///
/// # Errors
/// When the kernel refuses: a lower score than its starter's takes `CAP_SYS_RESOURCE`.
pub fn set_oom_score(root: &Path, score: i32) -> Result<(), Unset> {
    write(&root.join(OOM_SCORE), score.into())
}

/// Sets what a configuration asks for. Returns what could not be set; the rest is.
pub fn set_conntrack(files: Files<'_>, conntrack: &Conntrack) -> Vec<Unset> {
    let mut failures = Vec::new();
    let mut set = |path: PathBuf, value| match write(&path, value) {
        Ok(()) => true,
        Err(failure) => {
            failures.push(failure);
            false
        }
    };
    for (name, value) in sysctls(conntrack) {
        set(files.setting(&format!("net/netfilter/{name}")), value);
    }
    if let Some(limit) = limit(conntrack, cores(files.root)) {
        let is_set = set(files.setting("net/netfilter/nf_conntrack_max"), limit);
        // The buckets are the host's: whoever may not set the limit may not set them either.
        if is_set && read(&files.hashsize()).is_none_or(|buckets| buckets < limit / 4) {
            set(files.hashsize(), limit / 4);
        }
    }
    failures
}

/// The files in `net/netfilter` that are to be set, but for the limit.
fn sysctls(conntrack: &Conntrack) -> impl Iterator<Item = (&'static str, i64)> {
    let time = |time: GoDuration| Some(time.as_seconds()).filter(|_| time > GoDuration::default());
    let wanted = [
        ("nf_conntrack_tcp_timeout_established", time(conntrack.tcp_established_timeout)),
        ("nf_conntrack_tcp_timeout_close_wait", time(conntrack.tcp_close_wait_timeout)),
        ("nf_conntrack_tcp_be_liberal", conntrack.tcp_be_liberal.then_some(1)),
        ("nf_conntrack_udp_timeout", time(conntrack.udp_timeout)),
        ("nf_conntrack_udp_timeout_stream", time(conntrack.udp_stream_timeout)),
    ];
    wanted.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// How many connections are tracked at most; none to leave it alone.
fn limit(conntrack: &Conntrack, cores: i64) -> Option<i64> {
    let scaled = Some(i64::from(conntrack.max_per_core) * cores).filter(|scaled| *scaled > 0)?;
    Some(if scaled > MOST { MOST } else { scaled.max(conntrack.min.into()) })
}

/// The machine's cores. Not those that this process may use: limits of the kernel are everybody's.
pub(crate) fn cores(root: &Path) -> i64 {
    let online = fs::read_to_string(root.join(ONLINE)).ok();
    let counted = online.and_then(|list| list.trim().split(',').map(range_length).sum());
    counted.unwrap_or_else(|| {
        thread::available_parallelism().map_or(1, |cores| i64::try_from(cores.get()).unwrap_or(1))
    })
}

/// The length of `4` or `0-3`.
fn range_length(range: &str) -> Option<i64> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some(last.parse::<i64>().ok()? - first.parse::<i64>().ok()? + 1)
}

fn read(path: &Path) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn write(path: &Path, value: i64) -> Result<(), Unset> {
    if read(path) == Some(value) {
        return Ok(());
    }
    let opened = fs::OpenOptions::new().write(true).truncate(true).open(path);
    let written = opened.and_then(|mut file| io::Write::write_all(&mut file, value.to_string().as_bytes()));
    written.map_err(|source| Unset { path: path.to_owned(), value, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NAMES: [&str; 6] = [
        "nf_conntrack_max",
        "nf_conntrack_tcp_be_liberal",
        "nf_conntrack_tcp_timeout_close_wait",
        "nf_conntrack_tcp_timeout_established",
        "nf_conntrack_udp_timeout",
        "nf_conntrack_udp_timeout_stream",
    ];

    /// A tree of the kernel's files, each saying 7, of a machine with six cores.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let sysctls = NAMES.map(|name| format!("proc/sys/net/netfilter/{name}"));
        for path in sysctls.iter().map(String::as_str).chain([HASHSIZE, OOM_SCORE, ONLINE]) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "7\n").unwrap();
        }
        fs::write(root.path().join(ONLINE), "0-3,6,8\n").unwrap();
        root
    }

    fn set_conntrack(root: &Path, conntrack: &Conntrack) -> Vec<Unset> {
        super::set_conntrack(Files { root, sysctl: None }, conntrack)
    }

    fn say(root: &tempfile::TempDir, name: &str) -> i64 {
        read(&root.path().join("proc/sys/net/netfilter").join(name)).unwrap()
    }

    /// kp:F5, kp:I10
    #[test]
    fn limits_and_times_are_set_as_configured() {
        let root = tree();
        let all = Conntrack {
            tcp_be_liberal: true,
            udp_timeout: GoDuration::seconds(11),
            udp_stream_timeout: GoDuration::seconds(12),
            ..Conntrack::default()
        };
        assert!(set_conntrack(root.path(), &all).is_empty());
        set_oom_score(root.path(), -999).unwrap();
        assert_eq!(NAMES.map(|name| say(&root, name)), [6 * 32768, 1, 3600, 86400, 11, 12]);
        assert_eq!(read(&root.path().join(HASHSIZE)), Some(6 * 32768 / 4));
        assert_eq!(read(&root.path().join(OOM_SCORE)), Some(-999));
    }

    /// kp:F5
    #[test]
    fn what_is_zero_or_false_is_left_alone() {
        let root = tree();
        let zero = GoDuration::default();
        let none = Conntrack {
            max_per_core: 0,
            tcp_established_timeout: zero,
            tcp_close_wait_timeout: zero,
            ..Conntrack::default()
        };
        assert!(set_conntrack(root.path(), &none).is_empty());
        assert_eq!(NAMES.map(|name| say(&root, name)), [7; 6]);
        assert_eq!(read(&root.path().join(HASHSIZE)), Some(7));
    }

    /// kp:F5
    #[test]
    fn the_limit_grows_with_the_cores_between_the_least_and_the_most() {
        let of =
            |max_per_core, min, cores| limit(&Conntrack { max_per_core, min, ..Conntrack::default() }, cores);
        assert_eq!(of(32768, 131_072, 2), Some(131_072));
        assert_eq!(of(32768, 131_072, 6), Some(196_608));
        assert_eq!(of(32768, 131_072, 64), Some(1 << 20));
        assert_eq!(of(i32::MAX, i32::MAX, 64), Some(1 << 20));
        assert_eq!(of(1, 3 << 20, 2), Some(3 << 20));
        assert_eq!(of(0, 131_072, 2), None);
    }

    #[test]
    fn files_that_come_with_a_module_are_told_from_those_that_may_not_be_written() {
        let root = tree();
        let folder = root.path().join("proc/sys/net/netfilter");
        fs::rename(&folder, root.path().join("later")).unwrap();
        let failures = set_conntrack(root.path(), &Conntrack::default());
        assert_eq!(failures.len(), 3);
        assert!(failures.iter().all(Unset::is_absent));
        fs::rename(root.path().join("later"), &folder).unwrap();
        fs::remove_file(folder.join(NAMES[0])).unwrap();
        fs::create_dir(folder.join(NAMES[0])).unwrap();
        let failures = set_conntrack(root.path(), &Conntrack::default());
        assert_eq!(failures.iter().map(Unset::is_absent).collect::<Vec<_>>(), [false]);
        assert_eq!(say(&root, NAMES[2]), 3600);
    }

    #[test]
    fn in_a_container_settings_and_buckets_are_written_where_the_nodes_are_mounted() {
        let root = tree();
        let mounted = root.path().join("node");
        fs::create_dir_all(mounted.join("net")).unwrap();
        fs::rename(root.path().join("proc/sys/net/netfilter"), mounted.join("net/netfilter")).unwrap();
        fs::write(mounted.join(BUCKETS), "7\n").unwrap();
        let files = Files { root: root.path(), sysctl: Some(&mounted) };
        assert!(super::set_conntrack(files, &Conntrack::default()).is_empty());
        assert_eq!(read(&mounted.join("net/netfilter/nf_conntrack_max")), Some(6 * 32768));
        assert_eq!(read(&mounted.join(BUCKETS)), Some(6 * 32768 / 4));
        assert_eq!(read(&root.path().join(HASHSIZE)), Some(7));
    }

    #[test]
    fn buckets_are_only_raised() {
        let root = tree();
        fs::write(root.path().join(HASHSIZE), "262144\n").unwrap();
        assert!(set_conntrack(root.path(), &Conntrack::default()).is_empty());
        assert_eq!(read(&root.path().join(HASHSIZE)), Some(262_144));
    }

    #[test]
    fn what_is_said_already_is_not_written_and_what_cannot_be_written_is_named() {
        let root = tree();
        let names = NAMES.map(|name| format!("proc/sys/net/netfilter/{name}"));
        // Not files any more: even root cannot write them.
        for path in [&names[0], &names[2]] {
            fs::remove_file(root.path().join(path)).unwrap();
            fs::create_dir(root.path().join(path)).unwrap();
        }
        let same = root.path().join(&names[3]);
        fs::write(&same, "86400\n").unwrap();
        fs::set_permissions(&same, fs::Permissions::from_mode(0o444)).unwrap();
        let failures = set_conntrack(root.path(), &Conntrack::default());
        let failed: Vec<_> =
            failures.iter().map(|f| f.path.strip_prefix(root.path()).unwrap().to_owned()).collect();
        assert_eq!(failed, [PathBuf::from(&names[2]), PathBuf::from(&names[0])]);
        assert_eq!(fs::read_to_string(&same).unwrap(), "86400\n", "written again without need");
        assert_eq!(read(&root.path().join(HASHSIZE)), Some(7), "raised without the limit");
    }
}
