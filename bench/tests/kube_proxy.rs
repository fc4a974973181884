//! A real kube-proxy as a subject, with programs in its place: that it is started as it should be, and what is said when it fails.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_bench::report::{Report, json};
use heddle_tests::namespace::Namespace;
use heddle_tests::process::{Invocation, Output, program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// Far more than anything here needs on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);
/// A program cannot be run while another thread, which starts one, has inherited the file that it was written to.
static ONE_BY_ONE: Mutex<()> = Mutex::new(());

/// A program in place of kube-proxy that knows its version.
struct StandIn {
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl StandIn {
    /// It goes on with these commands, and writes down its arguments.
    fn that(commands: &str) -> Self {
        Self::of("v1.36.2", commands)
    }

    /// The same of a version.
    fn of(version: &str, commands: &str) -> Self {
        let alone = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let made = Self { folder: tempfile::tempdir().unwrap(), _alone: alone };
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo Kubernetes {version}; exit; fi\necho \"$*\" > '{}'\n{commands}\n",
            made.file("arguments").display()
        );
        fs::write(made.file("kube-proxy"), script).unwrap();
        fs::set_permissions(made.file("kube-proxy"), fs::Permissions::from_mode(0o755)).unwrap();
        made
    }

    /// It goes on as heddle-proxy, which knows kube-proxy's flags.
    fn that_works() -> Self {
        let heddle = program("heddle-proxy").unwrap();
        Self::that(&format!("exec '{}' \"$@\" --status-socket \"$0.sock\"", heddle.display()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn measured(&self, arguments: &[&str]) -> Output {
        run(
            &self.file("kube-proxy"),
            &[&["--json", self.file("report.json").to_str().unwrap()], arguments].concat(),
        )
    }

    fn report(&self) -> Report {
        json::read(&fs::read_to_string(self.file("report.json")).unwrap()).unwrap()
    }
}

fn run(kube_proxy: &std::path::Path, arguments: &[&str]) -> Output {
    let bench =
        Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench")).args(["run", "--smallest", "--kube-proxy"]);
    let bench = bench.args([kube_proxy]).args(arguments);
    let mut bench = bench.start(&Namespace::new("bench").unwrap()).unwrap();
    Output { status: bench.wait(LIMIT).unwrap(), stdout: bench.stdout(), stderr: bench.stderr() }
}

#[test]
fn what_it_serves_and_how_it_follows_is_measured_beside_others() {
    let stand_in = StandIn::that_works();
    let subjects = "direct,kube-proxy-nftables";
    let ran = stand_in.measured(&[
        "--only",
        "data-plane,control-plane",
        "--subjects",
        subjects,
        "--services",
        "3",
        "--rounds",
        "1",
    ]);
    assert!(ran.status.success(), "{}", ran.stderr);
    let report = stand_in.report();
    assert_eq!(report.environment.programs["kube-proxy"], "v1.36.2");
    for workload in [
        "new connections, one Service",
        "new connections, node port from outside",
        "UDP request and answer",
        "process started to first connection",
        "one endpoint: API write to first connection",
        "churn: CPU of the proxy for a change",
    ] {
        let of_it = |who: String| who == "kube-proxy nftables, 3 × 3";
        assert!(report.figures.iter().any(|f| f.workload == workload && of_it(f.who())), "{}", ran.stdout);
    }
    let arguments = fs::read_to_string(stand_in.file("arguments")).unwrap();
    for flag in [
        "--proxy-mode=nftables",
        "--hostname-override=node-1",
        "--conntrack-max-per-core=0",
        "--kubeconfig=/",
    ] {
        assert!(arguments.contains(flag), "{flag} is not in {arguments}");
    }
}

#[test]
fn one_that_ends_at_once_is_told_in_a_sentence_with_its_last_words() {
    let stand_in =
        StandIn::that("echo Starting; echo 'E1130 \"command failed\" err=\"no such mode\"' >&2; exit 7");
    let ran = stand_in.measured(&["--only", "data-plane", "--subjects", "kube-proxy-iptables"]);
    assert_eq!(ran.status.code(), Some(2));
    let told = ran.stderr.lines().last().unwrap_or_default();
    let words =
        "kube-proxy ended with exit status: 7; its last words: E1130 \"command failed\" err=\"no such mode\"";
    assert!(told.starts_with("error: ") && told.ends_with(words), "{}", ran.stderr);
}

#[test]
fn a_mode_that_it_does_not_have_is_said_before_anything_is_measured() {
    let old = StandIn::of("v1.20.2", "exit 7");
    let ran = old.measured(&["--only", "data-plane", "--subjects", "direct,kube-proxy-nftables"]);
    assert_eq!(ran.stderr, "error: this kube-proxy does not have the mode nftables\n");
}

#[test]
fn figures_are_those_of_the_mode_that_they_are_named_after() {
    // heddle-proxy takes iptables for nftables.
    let other = StandIn::that_works();
    for part in ["data-plane", "control-plane"] {
        let ran = other.measured(&["--only", part, "--services", "1", "--subjects", "kube-proxy-iptables"]);
        let told = ran.stderr.lines().last();
        assert_eq!(told, Some("error: kube-proxy was told iptables, and serves by nftables"), "{part}");
    }
}

#[test]
fn one_that_is_not_there_or_not_given_is_said_before_anything_is_measured() {
    let ran = run("/nowhere/kube-proxy".as_ref(), &[]);
    assert_eq!(ran.stderr, "error: run /nowhere/kube-proxy: there is no such program\n");
    let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench"));
    let ran =
        bench.args(["run", "--subjects", "kube-proxy-ipvs"]).run(&Namespace::new("bench").unwrap()).unwrap();
    assert_eq!(ran.stderr, "error: kube-proxy ipvs needs the binary: --kube-proxy PATH\n");
}
