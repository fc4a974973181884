//! A real kube-proxy, by the path of its binary: its modes, its command line, and what it says when it ends.
//!
//! Not its rules: these are its own. Flags are those of Kubernetes 1.36. Invariant: nothing outside the node's namespace changes,
//! neither limits of connection tracking nor the process's standing when memory is short.

use crate::Failure;
use heddle_netlink::{Family, Socket, ipvs};
use heddle_tests::lab::Node;
use heddle_tests::namespace::Namespace;
use heddle_tests::process::{Invocation, Process};
use std::io::{self, ErrorKind};
use std::path::Path;

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

/// Whether this kernel has what the mode `ipvs` needs. Asked in a namespace of its own, which the question empties.
///
/// # Errors
/// When there can be no namespace, mostly for lack of privilege.
pub fn has_ipvs() -> Result<bool, Failure> {
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
        ("metrics-bind-address", "127.0.0.1:10249"),
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
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
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
