//! The cluster as it is, measured on a node of the lab: its real proxy serves the Services, and nothing of it changes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_bench::api::Api;
use heddle_bench::cluster::{Size, probed_service};
use heddle_bench::control::follower::{Follower, Source};
use heddle_bench::control::probe::Ground;
use heddle_bench::interrupt::Interrupt;
use heddle_bench::report::json;
use heddle_bench::subjects::Subject;
use heddle_tests::namespace::Namespace;
use heddle_tests::process::{Invocation, Output};
use std::fs;
use std::time::Duration;

/// Far more than it needs on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

fn run(inside: &Namespace, arguments: &[&str]) -> Output {
    let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench")).args(["run", "--here", "--smallest"]);
    let mut bench = bench.args(arguments).start(inside).unwrap();
    Output { status: bench.wait(LIMIT).unwrap(), stdout: bench.stdout(), stderr: bench.stderr() }
}

#[test]
fn connections_to_services_are_compared_with_those_to_their_endpoints_and_nothing_changes() {
    let ground = Ground::build(false).unwrap();
    let node = ground.node();
    // Nobody is behind a Service without a slice: it is not asked.
    let objects = [ground.leading_to(0), probed_service(), Size::from((1, 1)).service(0), node.object()];
    let api = Api::open(node, objects).unwrap();
    let mut proxy = Follower::start(Subject::Nft, node, Source::Server(api.kubeconfig()), None).unwrap();
    ground.watch().unwrap().until(0, &Interrupt::default(), || proxy.check()).unwrap();
    let before = node.nft(["list", "ruleset"]).unwrap().stdout;
    let file = node.directory().join("report.json");
    let ran = run(node.namespace(), &["--kubeconfig", api.kubeconfig(), "--json", file.to_str().unwrap()]);
    assert!(ran.status.success(), "{}", ran.stderr);
    assert!(ran.stderr.contains("round 2 of 2, 1 Services"), "{}", ran.stderr);
    assert_eq!(node.nft(["list", "ruleset"]).unwrap().stdout, before);
    let report = json::read(&fs::read_to_string(file).unwrap()).unwrap();
    for workload in ["connect: p50", "connect: p90", "connect: p99"] {
        let through =
            report.figures.iter().find(|it| it.workload == workload && it.subject == "Services").unwrap();
        assert_eq!(report.ratios(through).unwrap().len(), 2, "one a round, to direct");
    }
    let failed = report.figures.iter().filter(|figure| figure.workload == "connections that failed");
    assert!(failed.flat_map(|figure| &figure.values).all(|count| *count == 0.0), "{}", ran.stdout);
}

#[test]
fn a_cluster_that_cannot_be_read_and_one_without_services_are_told_in_a_sentence() {
    let ground = Ground::build(false).unwrap();
    let api = Api::open(ground.node(), [ground.node().object()]).unwrap();
    let ran = run(ground.node().namespace(), &["--kubeconfig", api.kubeconfig()]);
    let told = "error: no Service of this cluster has a cluster IP with a TCP port and ready endpoints";
    assert_eq!((ran.status.code(), ran.stderr.lines().last()), (Some(2), Some(told)));
    let ran = run(ground.node().namespace(), &["--kubeconfig", "/nowhere/kubeconfig"]);
    let told = ran.stderr.lines().last().unwrap_or_default();
    assert!(told.starts_with("error: ") && told.contains("/nowhere/kubeconfig"), "{}", ran.stderr);
}
