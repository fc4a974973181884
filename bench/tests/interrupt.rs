//! A run that ends early leaves nothing behind, and tells what it has measured.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_bench::report::{Report, json};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::eventually;
use heddle_tests::process::{Invocation, Process};
use heddle_tests::remains::Remains;
use rustix::process::Signal;
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

/// Far more than anything here needs on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A run of one part, which somebody will end.
struct Run {
    bench: Process,
    folder: TempDir,
}

impl Run {
    fn start(arguments: &[&str]) -> Self {
        Self::of("data-plane", arguments)
    }

    fn of(part: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench"));
        let bench = bench.args(["run", "--smallest", "--only", part, "--json"]);
        let bench = bench.args([folder.path().join("report.json")]).args(arguments);
        Self { bench: bench.start(&Namespace::new("bench").unwrap()).unwrap(), folder }
    }

    /// Waits until it says that it does this, and looks at what it holds.
    fn reaches(&self, step: &str) -> Remains {
        eventually(step, LIMIT, || {
            let said = self.bench.stderr();
            if said.contains(step) { Ok(()) } else { Err(said) }
        })
        .unwrap();
        Remains::of(self.bench.id()).unwrap()
    }

    fn ends(&mut self) -> Option<i32> {
        self.bench.wait(LIMIT).unwrap().code()
    }

    fn report(&self) -> Report {
        json::read(&fs::read_to_string(self.folder.path().join("report.json")).unwrap()).unwrap()
    }
}

fn await_nothing(remains: &Remains) {
    eventually("the end of all that the run had", LIMIT, || match remains.left() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .unwrap();
}

#[test]
fn interrupted_while_a_ruleset_is_loaded_it_leaves_nothing() {
    let mut run = Run::start(&["--subjects", "direct,ebpf,nftables-layout", "--services", "3000"]);
    let remains = run.reaches("load kube-proxy nftables layout, 3000");
    assert!(remains.namespaces() >= 10, "two subjects with five hosts: {remains:?}");
    assert!(remains.left().len() >= 2, "the run itself, and the cgroup of a node: {remains:?}");
    run.bench.signal(Signal::INT).unwrap();
    assert_eq!(run.ends(), Some(130), "{}", run.bench.stderr());
    await_nothing(&remains);
    let report = run.report();
    assert!(report.interrupted && report.figures.is_empty(), "{report:?}");
}

#[test]
fn terminated_in_a_round_it_leaves_nothing_and_tells_the_rounds_before() {
    let subjects = "direct,ebpf,iptables-layout";
    let mut run = Run::start(&["--subjects", subjects, "--services", "3", "--rounds", "1000000"]);
    let remains = run.reaches("round 3 of");
    run.bench.signal(Signal::TERM).unwrap();
    assert_eq!(run.ends(), Some(130), "{}", run.bench.stderr());
    await_nothing(&remains);
    let report = run.report();
    assert!(report.interrupted && run.bench.stdout().contains("INTERRUPTED"));
    let whole = |subject: &str| {
        let mut figures = report.figures.iter().filter(|figure| figure.subject == subject);
        figures.all(|figure| figure.values.len() >= 2)
    };
    assert!(["direct", "heddle ebpf", "kube-proxy iptables layout", "loopback"].into_iter().all(whole));
    assert!(!report.claims.is_empty(), "what can be said is said");
}

#[test]
fn other_parts_end_with_the_step_that_they_are_at() {
    for (part, step, next) in [
        ("control-plane", "heddle nft follows an API server with 1 × 3", "with 20 × 3"),
        ("plugin", "plugins, round 1 of 2", "many leases"),
    ] {
        let mut run = Run::of(part, &[]);
        let remains = run.reaches(step);
        run.bench.signal(Signal::INT).unwrap();
        assert_eq!(run.ends(), Some(130), "{}", run.bench.stderr());
        await_nothing(&remains);
        assert!(!run.bench.stderr().contains(next), "{}", run.bench.stderr());
        assert!(run.report().interrupted);
    }
}

#[test]
fn what_a_killed_run_leaves_is_gone_after_the_next_one() {
    let mut run = Run::start(&["--subjects", "ebpf", "--services", "3", "--rounds", "1000000"]);
    let remains = run.reaches("round 1 of");
    run.bench.kill().unwrap();
    let mut next = Run::start(&["--subjects", "direct"]);
    assert_eq!(next.ends(), Some(0), "{}", next.bench.stderr());
    await_nothing(&remains);
}
