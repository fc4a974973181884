//! The bench as a whole, on its smallest profile: that it runs and tells everything, not what it finds.

use heddle_tests::namespace::Namespace;
use heddle_tests::process::Invocation;
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// Far more than it needs on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_smallest_profile_runs_and_its_report_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let host = Namespace::new("bench").unwrap();
    let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench"));
    let bench = bench.args(["--smallest", "--commit", "abc123", "--json", file.to_str().unwrap()]);
    let mut bench = bench.start(&host).unwrap();
    let status = bench.wait(LIMIT).unwrap();
    assert!(status.success(), "{status}\n{}", bench.stderr());
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["machine"]["commit"]), (&1.into(), &"abc123".into()));
    let rows = report["rows"].as_array().unwrap();
    let lacking: Vec<&Value> = rows.iter().filter(|row| !row["median"].is_f64()).collect();
    assert!(lacking.is_empty(), "figures without a number: {lacking:?}");
    for (what, samples) in [
        ("20 × 3: one endpoint: event to kernel committed", 5),
        ("20 × 3: one endpoint: kernel operations", 5),
        ("20 × 3: new Service: API write to kernel notified", 2),
        ("new connection: heddle nft, 20 / heddle nft, 1", 2),
        ("new connection: heddle nft, 20 / kube-proxy's nft layout, 20", 2),
        ("bulk TCP: heddle nft, 20 / direct", 2),
    ] {
        let row = rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("no row {what}"));
        assert_eq!(row["samples"], samples, "{what}");
        assert!(bench.stdout().contains(what), "not printed: {what}");
    }
    let operations =
        rows.iter().find(|row| row["what"] == "20 × 3: one endpoint: kernel operations").unwrap();
    assert_eq!(operations["median"], 2.0, "one element goes and one comes");
    let elements = rows.iter().find(|row| row["what"] == "20 × 3: elements").unwrap();
    assert_eq!(elements["median"], 100.0, "a Service, its address and three endpoints, twenty times");
}

#[test]
fn sockets_are_measured_beside_packets_and_a_node_without_rules() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let host = Namespace::new("bench").unwrap();
    let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench"));
    let mut bench =
        bench.args(["--smallest", "--json", file.to_str().unwrap(), "sockets"]).start(&host).unwrap();
    let status = bench.wait(LIMIT).unwrap();
    assert!(status.success(), "{status}\n{}", bench.stderr());
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let lacking: Vec<&Value> = rows.iter().filter(|row| !row["median"].is_f64()).collect();
    assert!(lacking.is_empty(), "figures without a number: {lacking:?}");
    for what in [
        "new connections: heddle ebpf, 20 × 3 / direct beside sockets, 20 × 3",
        "new connections: heddle ebpf, untracked, 20 × 3 / direct, no rules",
        "UDP there and back: heddle ebpf, 1 × 1 / direct beside sockets, 1 × 1",
        "20 × 3: memory of the maps",
    ] {
        assert!(rows.iter().any(|row| row["what"] == what), "no row {what}");
    }
}

#[test]
fn the_plugin_is_measured_beside_the_reference_plugins_and_a_list_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let (file, list) = (folder.path().join("report.json"), folder.path().join("own.conflist"));
    let ipam = serde_json::json!({"type": "host-local", "subnet": "10.9.0.0/24"});
    let plugin = serde_json::json!({"type": "ptp", "ipam": ipam});
    let own = serde_json::json!({"name": "own", "cniVersion": "1.0.0", "plugins": [plugin]});
    fs::write(&list, own.to_string()).unwrap();
    let host = Namespace::new("bench").unwrap();
    let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench"));
    let bench = bench.args(["--smallest", "--json", file.to_str().unwrap(), "cni", "--path", "/usr/lib/cni"]);
    let mut bench = bench.args(["--list", list.to_str().unwrap()]).start(&host).unwrap();
    let status = bench.wait(LIMIT).unwrap();
    assert!(status.success(), "{status}\n{}", bench.stderr());
    let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["median"].is_f64()), "{report:#}");
    for (what, samples) in [
        ("heddle-cni: ADD", 2),
        ("heddle-cni, one host port: ADD", 2),
        ("heddle-cni: DEL beyond that", 2),
        ("ADD: heddle-cni, IPv4 alone / bridge + host-local, IPv4 alone", 2),
        ("ADD: heddle-cni, IPv4 alone / own", 2),
        ("ADD: 10 leases / 1 leases", 2),
        ("4 ADDs at once: all", 2),
        ("memory at its peak", 1),
    ] {
        let row = rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("no row {what}"));
        assert_eq!(row["samples"], samples, "{what}");
    }
}
