//! A real kube-proxy, by the path of its binary: its modes, its command line, and what it says when it ends.
//!
//! Not its rules: these are its own. Flags are those of Kubernetes 1.36, which 1.20 has too. Invariant: nothing outside the node's namespace changes,
//! neither limits of connection tracking nor the process's standing when memory is short.

use crate::Failure;
use heddle_netlink::{Family, Socket, ipvs};
use heddle_tests::lab::Node;
use heddle_tests::namespace::Namespace;
use heddle_tests::process::{Invocation, Process};
use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// Where it tells how it does, on its node.
const METRICS: &str = "127.0.0.1:10249";
/// Far more than such an answer needs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way in which kube-proxy serves Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By rules of iptables.
    Iptables,
    /// By nftables.
    Nftables,
    /// By the load balancer in the kernel.
    Ipvs,
}

impl Mode {
    /// What `--proxy-mode` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
        }
    }
}

/// The first of Kubernetes' minor versions whose kube-proxy has the mode `nftables` without being asked twice.
const WITH_NFTABLES: u32 = 31;

/// Fails when the program or this kernel does not have one of these modes: some kube-proxies take another one then, and say so in their log
/// alone.
///
/// # Errors
/// Then, or when the program cannot be run.
pub fn check_modes(program: &Path, mut modes: impl Iterator<Item = Mode>) -> Result<(), Failure> {
    let has = modes_of(program)?;
    let Some(lacking) = modes.find(|mode| !has.contains(mode)) else { return Ok(()) };
    let whose = if lacking == Mode::Ipvs { "this kernel" } else { "this kube-proxy" };
    Err(format!("{whose} does not have the mode {}", lacking.name()).into())
}

/// The modes that the program has, and this kernel for it.
///
/// # Errors
/// When the program cannot be run, or there can be no namespace.
pub fn modes_of(program: &Path) -> Result<Vec<Mode>, Failure> {
    let is_new = minor(&version(program)?).is_none_or(|minor| minor >= WITH_NFTABLES);
    let all = [(Mode::Iptables, true), (Mode::Nftables, is_new), (Mode::Ipvs, has_ipvs()?)];
    Ok(all.into_iter().filter(|(_, has)| *has).map(|(mode, _)| mode).collect())
}

/// `v1.36.2` is 36.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("v1.")?.split('.').next()?.parse().ok()
}

/// Whether this kernel has what the mode `ipvs` needs. Asked in a namespace of its own, which the question empties.
///
/// # Errors
/// When there can be no namespace, mostly for lack of privilege.
fn has_ipvs() -> Result<bool, Failure> {
    let ask = || ipvs::flush(&mut Socket::open(Family::Generic)?);
    Ok(Namespace::new("ipvs")?.enter(ask)??)
}

/// The version that the program says it is, which also shows that it can be run.
///
/// # Errors
/// When it cannot, or fails.
pub fn version(program: &Path) -> Result<String, Failure> {
    let asked = Invocation::foreign(program).args(["--version"]).run(&Namespace::new("kube-proxy")?);
    let asked = asked.map_err(|error| not_run(program, &error.into()))?;
    if !asked.status.success() {
        return Err(ended(program, &asked.status.to_string(), &(asked.stdout + &asked.stderr)));
    }
    Ok(asked.stdout.trim().trim_start_matches("Kubernetes ").to_owned())
}

/// Fails when one that serves a node does so in another mode than it was told.
///
/// # Errors
/// Then, or when it does not tell.
pub fn check_mode(mode: Mode, node: &Node) -> Result<(), Failure> {
    let ask = || {
        let mut stream = TcpStream::connect(METRICS)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /proxyMode HTTP/1.0\r\n\r\n")?;
        io::read_to_string(stream)
    };
    let answer =
        node.namespace().enter(ask)?.map_err(|cause| format!("ask kube-proxy for its mode: {cause}"))?;
    match answer.rsplit("\r\n").next().unwrap_or_default().trim() {
        serves if serves == mode.name() => Ok(()),
        serves => Err(format!("kube-proxy was told {}, and serves by {serves}", mode.name()).into()),
    }
}

/// Starts it on a node.
///
/// # Errors
/// When there is no such program.
pub fn start(program: &Path, mode: Mode, node: &Node, kubeconfig: &str) -> Result<Process, Failure> {
    let invocation = Invocation::foreign(program).args(flags(mode, node.name(), kubeconfig));
    invocation.start(node.namespace()).map_err(|error| not_run(program, &error.into()))
}

/// What is not said is kube-proxy's default, its pace of syncs among it. The API server of the lab speaks JSON alone.
fn flags(mode: Mode, node: &str, kubeconfig: &str) -> Vec<String> {
    let flags = [
        ("kubeconfig", kubeconfig),
        ("kube-api-content-type", "application/json"),
        ("hostname-override", node),
        ("proxy-mode", mode.name()),
        ("healthz-bind-address", "127.0.0.1:10256"),
        ("metrics-bind-address", METRICS),
        ("conntrack-max-per-core", "0"),
        ("conntrack-min", "0"),
        ("conntrack-tcp-timeout-established", "0"),
        ("conntrack-tcp-timeout-close-wait", "0"),
        ("oom-score-adj", "0"),
    ];
    flags.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// Fails with its last words when it has ended.
///
/// # Errors
/// Then, or when it cannot be watched.
pub fn check(program: &Path, process: &mut Process) -> Result<(), Failure> {
    if process.is_running()? {
        return Ok(());
    }
    let status = process.kill()?;
    Err(ended(program, &status.to_string(), &(process.stdout() + &process.stderr())))
}

fn ended(program: &Path, status: &str, said: &str) -> Failure {
    // Go's log begins a line with how bad it is and the date; where every thread stood may follow.
    let is_bad =
        |line: &&str| line.starts_with(['E', 'F']) && line[1..].starts_with(|it: char| it.is_ascii_digit());
    let mut lines = said.lines().map(str::trim);
    let last = lines.clone().rfind(is_bad).or_else(|| lines.rfind(|line| !line.is_empty()));
    let words = last.map_or_else(|| "it said nothing".to_owned(), |line| format!("its last words: {line}"));
    format!("{} ended with {status}; {words}", program.display()).into()
}

/// The innermost cause alone: the sentence around it says the rest.
fn not_run(program: &Path, error: &Failure) -> Failure {
    let mut cause: &dyn std::error::Error = &**error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let missing = cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == ErrorKind::NotFound);
    let why = if missing { "there is no such program".to_owned() } else { cause.to_string() };
    format!("run {}: {why}", program.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_line_that_says_something() {
        let said = "I1130 start\nE1130 \"command failed\" err=\"no kubeconfig\"\n\n";
        let found = ended(Path::new("/opt/kube-proxy"), "exit status: 1", said).to_string();
        assert_eq!(
            found,
            "/opt/kube-proxy ended with exit status: 1; its last words: E1130 \"command failed\" err=\"no kubeconfig\""
        );
        assert!(ended(Path::new("kube-proxy"), "signal: 9", "\n").to_string().ends_with("it said nothing"));
        let fatal = "W1130 old flags\nF1130 failed validate\ngoroutine 1 [running]:\nErrors elsewhere\n";
        assert!(
            ended(Path::new("kube-proxy"), "exit status: 255", fatal)
                .to_string()
                .ends_with(": F1130 failed validate")
        );
    }

    #[test]
    fn the_minor_version_is_read_of_what_kubernetes_calls_itself() {
        let read = ["v1.20.2", "v1.36.0-rc.1+k3s1", "unknown"].map(minor);
        assert_eq!(read, [Some(20), Some(36), None]);
    }

    #[test]
    fn connection_tracking_and_memory_of_the_machine_stay_as_they_are() {
        let flags = flags(Mode::Ipvs, "node-1", "/tmp/kubeconfig");
        for flag in [
            "--proxy-mode=ipvs",
            "--hostname-override=node-1",
            "--conntrack-max-per-core=0",
            "--oom-score-adj=0",
        ] {
            assert!(flags.iter().any(|given| given == flag), "{flag} is not among {flags:?}");
        }
    }
}
