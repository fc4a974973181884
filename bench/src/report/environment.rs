//! Where something was measured: the machine and the programs, as far as files say.
//!
//! No program is started to ask it for its version: that of a package is read where Debian's package manager keeps it, and is
//! not there on other systems. Invariant: no name of the machine, and no address, gets into a report.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::thread;

/// Packages whose programs are measured, or measured with.
const PACKAGES: [&str; 5] = ["containerd", "containernetworking-plugins", "iptables", "nftables", "runc"];

/// The machine, and the programs on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Environment {
    /// When the run started, in RFC 3339 and UTC.
    pub date: String,
    /// heddle's own version.
    pub version: String,
    /// The commit that the programs were built from, as far as the caller said.
    pub commit: String,
    /// The arguments that the bench was called with; of a path its last name alone.
    pub arguments: Vec<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name, as the kernel gives it.
    pub processor: String,
    /// How many of them this process may use.
    pub processors: usize,
    /// Memory of the machine, in MB (10^6 bytes).
    pub memory: f64,
    /// What the kernel does about each flaw of the processor, by the flaw's name in
    /// `/sys/devices/system/cpu/vulnerabilities`; only flaws that it has.
    pub mitigations: BTreeMap<String, String>,
    /// Load averages of 1, 5 and 15 minutes at the start.
    pub load_at_start: Vec<f64>,
    /// The same at the end.
    pub load_at_end: Vec<f64>,
    /// Versions of other programs, by name.
    pub programs: BTreeMap<String, String>,
}

impl Environment {
    /// This machine, now.
    pub fn this(commit: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            date: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit.to_owned(),
            arguments: env::args().skip(1).map(|argument| last_name(&argument).to_owned()).collect(),
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            memory: field(&read("/proc/meminfo"), "MemTotal").map_or(0.0, megabytes),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            load_at_start: load(&read("/proc/loadavg")),
            load_at_end: Vec::new(),
            programs: packages(&read("/var/lib/dpkg/status")),
        }
    }

    /// The run is over.
    pub fn end(&mut self) {
        self.load_at_end = load(&fs::read_to_string("/proc/loadavg").unwrap_or_default());
    }

    /// The machine in a line.
    pub fn machine(&self) -> String {
        let load =
            |of: &[f64]| of.iter().map(|average| format!("{average:.2}")).collect::<Vec<_>>().join(" ");
        let (start, end) = (load(&self.load_at_start), load(&self.load_at_end));
        let (kernel, count, processor) = (&self.kernel, self.processors, &self.processor);
        format!("Linux {kernel}, {count} × {processor}; load {start} at the start, {end} at the end")
    }

    /// Whether figures of both can be compared as they are; ratios can be all the same.
    pub fn is_like(&self, other: &Self) -> bool {
        let machine =
            |of: &Self| (of.kernel.clone(), of.processor.clone(), of.processors, of.mitigations.clone());
        machine(self) == machine(other)
    }
}

/// Where somebody keeps files is nobody's business.
fn last_name(argument: &str) -> &str {
    argument.trim_end_matches('/').rsplit('/').next().unwrap_or(argument)
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn megabytes(text: &str) -> f64 {
    let kib: f64 = text.trim_end_matches(" kB").parse().unwrap_or_default();
    (kib * 1024.0 / 1e6).round()
}

fn load(averages: &str) -> Vec<f64> {
    averages.split(' ').take(3).filter_map(|average| average.parse().ok()).collect()
}

fn mitigations(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let read = |path: &Path| Some((path.file_name()?.to_str()?.to_owned(), fs::read_to_string(path).ok()?));
    let all = entries.filter_map(|entry| read(&entry.path()));
    let stripped = all.map(|(name, state)| (name, state.trim().to_owned()));
    stripped.filter(|(_, state)| state != "Not affected").collect()
}

/// The versions of [`PACKAGES`] in the list of what is installed: a paragraph each.
fn packages(status: &str) -> BTreeMap<String, String> {
    let paragraphs = status.split("\n\n").filter(|text| text.contains("\nStatus: install ok installed"));
    let versions = paragraphs.filter_map(|text| Some((field(text, "Package")?, field(text, "Version")?)));
    let wanted = versions.filter(|(name, _)| PACKAGES.contains(name));
    wanted.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_packages_that_are_installed() {
        let status = "Package: runc\nStatus: install ok installed\nVersion: 1.1.5+ds1-1\n\n\
                      Package: nftables\nStatus: deinstall ok config-files\nVersion: 1.0.6\n\n\
                      Package: zsh\nStatus: install ok installed\nVersion: 5\n";
        assert_eq!(packages(status), BTreeMap::from([("runc".to_owned(), "1.1.5+ds1-1".to_owned())]));
    }

    #[test]
    fn files_of_the_kernel_are_read() {
        assert_eq!(load("0.50 1.00 2.25 1/200 4711"), [0.5, 1.0, 2.25]);
        assert_eq!(field("processor\t: 0\nmodel name\t: Some CPU\n", "model name"), Some("Some CPU"));
        assert!((megabytes("1000000 kB") - 1024.0).abs() < 1e-9);
        assert_eq!((last_name("--json"), last_name("/home/me/plugins/")), ("--json", "plugins"));
        let this = Environment::this("abc");
        assert!(!this.kernel.is_empty() && this.processors > 0 && this.date.ends_with('Z'), "{this:?}");
    }

    #[test]
    fn a_flaw_that_the_processor_does_not_have_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("meltdown"), "Not affected\n").unwrap();
        fs::write(folder.path().join("retbleed"), "Mitigation: IBRS\n").unwrap();
        let told = mitigations(folder.path());
        assert_eq!(told, BTreeMap::from([("retbleed".to_owned(), "Mitigation: IBRS".to_owned())]));
    }
}
