//! What people see of a proxy's inside, word by word. `BLESS=1` rewrites the files in `look/`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]
#![expect(clippy::disallowed_methods, reason = "a test's switch comes from the environment")]

use heddle_proxy::door::Output;
use heddle_proxy::ebpf::tally::{Asked, Sums};
use heddle_proxy::ebpf::view::Held;
use heddle_proxy::ebpf::{State, Told};
use heddle_proxy::frontends::{Frontend, IpFamily, Place};
use heddle_proxy::health::{FamilyReport, Report};
use heddle_proxy::history::{History, Sync};
use heddle_proxy::look::dump::{self, Part};
use heddle_proxy::look::offline::Offline;
use heddle_proxy::look::socket::answer_trace;
use heddle_proxy::look::status::{Holds, Process, Status};
use heddle_proxy::look::words::Words;
use heddle_proxy::model::{Kind, ObjectName, Protocol};
use heddle_proxy::nft::Settings;
use heddle_proxy::nft::settings::Locality;
use heddle_proxy::problems::Problem;
use heddle_proxy::watch::Manifests;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Source and destination of each trace.
const TRACES: [[&str; 2]; 15] = [
    // A cluster IP, from a pod and from elsewhere.
    ["pod", "shop/web:80"],
    ["outside", "10.96.0.10:80/tcp"],
    ["node", "shop/web:80"],
    // A pod behind the Service that it connects to.
    ["10.244.1.2", "shop/web:80"],
    // Only the local endpoint counts.
    ["pod", "shop/self:53/udp"],
    // An external IP that two Services want.
    ["outside", "198.51.100.7:80"],
    // Node ports: served, without a local endpoint, from inside, and on an address that does not serve them.
    ["outside", "node:30080"],
    ["outside", "node:30081"],
    ["pod", "node:30081"],
    ["node", "127.0.0.1:30080"],
    // Source ranges: let in, and then without a local endpoint; and kept out.
    ["203.0.113.1", "192.0.2.20:80"],
    ["203.0.113.99", "192.0.2.20:80"],
    // No endpoint, no such port, no such address.
    ["pod", "shop/empty:80"],
    ["pod", "shop/web:81"],
    ["pod", "10.96.7.7:80"],
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/look")
}

fn settings() -> Settings {
    Settings { locality: Locality::Networks(vec!["10.244.0.0/16".parse().unwrap()]), ..Settings::default() }
}

fn cluster() -> Offline {
    let mut manifests = Manifests::open(&folder().join("manifests"), "node-1").unwrap();
    let changes = manifests.first().unwrap();
    assert_eq!(manifests.take_news(), []);
    Offline::of(("node-1", None), &settings(), changes)
}

fn assert_golden(name: &str, text: &str) {
    let file = folder().join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(golden == text, "{name} is not what is printed now (BLESS=1 rewrites it):\n{text}");
}

fn traced(source: &str, destination: &str, output: Output) -> String {
    let cluster = cluster();
    let words = Words { source: source.into(), destination: destination.into(), in_interface: None };
    answer_trace(&cluster.inside(), (&settings(), &cluster.addresses()), &words, output).unwrap()
}

#[test]
fn traces_say_what_would_become_of_a_connection_and_why() {
    let all = TRACES.map(|[source, destination]| {
        format!(
            "$ heddle-proxy trace {source} {destination}\n{}\n",
            traced(source, destination, Output::Text)
        )
    });
    assert_golden("trace.txt", &all.concat());
}

/// A client of this node is led where it connects; what sockets leave to packets, and who is elsewhere, is not.
#[test]
fn traces_say_what_a_socket_of_this_node_is_told() {
    let cluster = cluster().at_sockets(true);
    let inside = cluster.inside();
    let answer = |source: &str, destination: &str| {
        let words = Words { source: source.into(), destination: destination.into(), in_interface: None };
        answer_trace(&inside, (&settings(), &cluster.addresses()), &words, Output::Text).unwrap()
    };
    let told = |source, destination| {
        let answer = answer(source, destination);
        answer.lines().find_map(|line| line.strip_prefix("socket    ")).map(ToOwned::to_owned)
    };
    let rest = " when it connects; what follows is for sockets that are not seen";
    for (source, destination, expected) in [
        ("10.244.1.7", "shop/web:80", Some("led to one of 2 endpoints")),
        ("node", "shop/web:80", Some("led to one of 2 endpoints")),
        ("10.244.1.7", "node:30080", Some("led to one of 2 endpoints")),
        ("node", "shop/empty:80", Some("refused")),
        ("node", "192.0.2.20:80", None),
        ("10.244.9.7", "shop/web:80", None),
        ("outside", "node:30080", None),
        ("node", "shop/web:81", None),
    ] {
        let expected = expected.map(|what| format!("{what}{rest}"));
        assert_eq!(told(source, destination), expected, "{}", answer(source, destination));
    }
    assert!(answer("node", "shop/web:80").contains("\n  1/2  10.244.1.2:8080 (on this node)\n"));
}

#[test]
fn a_trace_for_programs_has_what_people_read() {
    let [source, destination] = TRACES[0];
    assert_golden("trace.json", &traced(source, destination, Output::Json));
}

#[test]
fn dumps_are_sorted_and_one_thing_is_one_line() {
    let cluster = cluster();
    let inside = cluster.inside();
    let text: String = Part::DEFAULT.into_iter().map(|part| dump::text(&inside, part)).collect();
    assert_golden("dump.txt", &text);
    let json: serde_json::Map<_, _> =
        Part::DEFAULT.into_iter().map(|part| dump::json(&inside, part)).collect();
    assert_golden("dump.json", &format!("{:#}\n", Value::from(json)));
}

#[test]
fn what_the_kernel_lacks_is_named_below_its_tables() {
    let cluster = cluster();
    let want = (*cluster.inside().wanted.first().unwrap()).clone();
    let mut have = want.clone();
    let services = &mut have.sets.get_mut("services").unwrap().elements;
    let first = services.keys().next().unwrap();
    services.remove(&first);
    let text = dump::kernel_text(&[dump::Compared { have: Some(have), want: want.clone() }]);
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("# table ip heddle-proxy: + element services { 10.96.0.10 . tcp . 80 :"),
        "{last}"
    );
    let text = dump::kernel_text(&[dump::Compared { have: Some(want.clone()), want }]);
    assert!(text.ends_with("# table ip heddle-proxy is as planned\n"), "{text}");
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn status() -> Status {
    let took = Duration::from_micros(234);
    let history = History {
        last: Some(Sync { at: at(3_590), took, operations: 2 }),
        syncs: 41,
        failed: 1,
        failing: Vec::new(),
        repairs: 2,
        repaired: Some(at(600)),
        heard: [(Kind::Service, at(0)), (Kind::Slice, at(3_590))].into(),
    };
    let holds = Holds { history, ..Holds::of(&cluster().inside()) };
    let place = Place::Address([198, 51, 100, 7].into());
    let frontend = Frontend { place, protocol: Protocol::Tcp, port: 80 };
    let problem = Problem::set_aside(&frontend, &ObjectName::new("shop", "web"), "file exists");
    let process = Process { node: "node-1".into(), mode: "nftables".into(), started: at(-9_000) };
    let state = FamilyReport { is_healthy: true, written: Some(Duration::from_secs(10)) };
    let families = IpFamily::ALL.map(|family| (family, state));
    let health = Report { families: families.into(), is_eligible: true };
    let problems = vec![(problem, at(3_000))];
    Status { process, health, holds, sockets: None, counted: None, problems, now: at(3_600) }
}

#[test]
fn the_status_is_a_table() {
    assert_golden("status.txt", &status().to_string());
    assert_golden("status.json", &format!("{:#}\n", status().json()));
}

#[test]
fn a_status_says_whether_sockets_are_served_and_else_why_not() {
    let mut status = status();
    let told = Told { frontends: 8, cgroup: Some("/sys/fs/cgroup".into()), takeovers: 1, ..Told::default() };
    status.sockets = Some(told.clone());
    assert!(status.to_string().contains("sockets    not served yet\n"), "{status}");
    let why = "find the node's cgroups: no cgroup v2 is mounted";
    status.sockets = Some(Told { state: State::Packets(why.into()), ..told.clone() });
    let line = format!("sockets    not served, packets are (nftables): {why}\n");
    assert!(status.to_string().contains(&line), "{status}");
    assert_eq!(status.json()["sockets"]["why"], why);
    status.sockets = Some(Told { state: State::Serving, ..told.clone() });
    status.holds.sockets = Some(Held { rows: 12, slots: 30, bytes: 500_000 });
    let lines = "sockets    those of /sys/fs/cgroup are served, 8 frontends\n\
                 pods       connections between them are not tracked\n\
                 maps       12 rows, 30 slots, 488 KiB by the kernel's count\n";
    assert!(status.to_string().contains(lines), "{status}");
    assert_eq!(status.json()["sockets"]["bytes"], 500_000);
    assert_eq!(status.json()["sockets"]["podsTracked"], Value::Null);
    let why = "chain forward of table policies has rules that see their packets";
    status.sockets = Some(Told { state: State::Serving, tracked: Some(why.into()), ..told });
    let line = format!("pods       connections between them are tracked: {why}\n");
    assert!(status.to_string().contains(&line), "{status}");
    assert!(!status.to_string().contains("left out"), "{status}");
    assert_eq!(status.json()["sockets"]["podsTracked"], why);
}

#[test]
fn a_status_counts_connections_at_sockets_and_shows_the_busiest() {
    let mut status = status();
    assert!(!status.to_string().contains("counted"), "{status}");
    let asked = |number: u16| {
        let frontend = Frontend { place: Place::Node(IpFamily::V6), protocol: Protocol::Udp, port: number };
        Asked::of(&frontend, &ObjectName::new("shop", "web"))
    };
    let ports = (0..13).map(|number| (asked(number), [u64::from(number), 0, 1])).collect();
    let endpoints = [("10.244.1.2:80".parse().unwrap(), 5), ("[fd00::2]:8080".parse().unwrap(), 73)].into();
    status.counted = Some(Sums { ports, endpoints });
    let (head, tail) = (
        "counted    78 connections, 0 refused, 13 affinity hits\n  \
           SERVICE          FAMILY  CONNECTIONS  REFUSED  AFFINITY HITS\n  \
           shop/web:12/udp  IPv6    12           0        1\n  \
           shop/web:11/udp  IPv6    11           0        1\n",
        "  shop/web:3/udp   IPv6    3            0        1\n  \
           ... and 2 more: -o json has them\n  \
           ENDPOINT        CONNECTIONS\n  \
           [fd00::2]:8080  73\n  \
           10.244.1.2:80   5\nproblems",
    );
    assert!(status.to_string().contains(head) && status.to_string().contains(tail), "{status}");
    status.sockets = Some(Told { state: State::Serving, ..Told::default() });
    let counted = &status.json()["sockets"]["counted"];
    assert_eq!(counted["services"].as_array().map(Vec::len), Some(12), "what nobody asked for is left out");
    assert_eq!(counted["endpoints"][1]["address"], "fd00::2");
}

#[test]
fn a_status_names_pods_that_are_left_out_and_says_when_one_is_not_yet() {
    let mut status = status();
    let left_out: BTreeSet<IpAddr> = ["10.244.1.9", "fd00::9"].map(|pod| pod.parse().unwrap()).into();
    let told = Told { state: State::Serving, left_out, ..Told::default() };
    status.sockets = Some(told.clone());
    assert!(status.to_string().contains("left out   10.244.1.9, fd00::9\n"), "{status}");
    assert_eq!(status.json()["sockets"]["podsLeftOut"], json!(["10.244.1.9", "fd00::9"]));
    assert_eq!(status.json()["sockets"]["podsNotLeftOut"], Value::Null);
    let why = "no network namespace of a pod has fd00::9";
    status.sockets = Some(Told { not_left_out: Some(why.into()), ..told });
    let line = format!("left out   10.244.1.9, fd00::9; not all of them yet: {why}\n");
    assert!(status.to_string().contains(&line), "{status}");
    assert_eq!(status.json()["sockets"]["podsNotLeftOut"], why);
}

#[test]
fn a_status_says_what_is_awaited_and_what_fails() {
    let mut status = status();
    status.holds.history.failing = vec!["write table ip heddle-proxy: busy".into()];
    assert!(status.to_string().contains("state      failing"), "{status}");
    assert!(status.to_string().contains("failing    write table ip heddle-proxy: busy"), "{status}");
    status.holds.awaited = vec![Kind::Slice];
    assert!(status.to_string().contains("state      waiting"), "{status}");
    assert!(status.to_string().contains("awaited    EndpointSlice"), "{status}");
}

#[test]
fn a_status_names_the_family_that_fails_and_the_one_that_was_never_written() {
    let mut status = status();
    let stale = FamilyReport { is_healthy: false, written: Some(Duration::from_secs(3_000)) };
    status.health.families = [(IpFamily::V4, stale)].into();
    status.health.is_eligible = false;
    let lines = "health     unhealthy, ready, the node is not eligible (/healthz fails)\nIPv4       unhealthy, written 50 min ago\n";
    assert!(status.to_string().contains(lines), "{status}");
    status.health.families = [(IpFamily::V6, FamilyReport { is_healthy: true, written: None })].into();
    let lines = "health     healthy, not ready, the node is not eligible (/healthz fails)\nIPv6       healthy, not written yet\n";
    assert!(status.to_string().contains(lines), "{status}");
}

/// A clock that is set while the process runs changes what is printed and no verdict.
#[test]
fn a_status_in_the_past_of_what_it_tells_is_printed_all_the_same() {
    let status = Status { now: at(-1_000_000), ..status() };
    assert!(status.to_string().contains("last sync  2026-01-01T00:59:50Z (0 s ago)"), "{status}");
    assert!(status.to_string().contains("health     healthy, ready"), "{status}");
}
