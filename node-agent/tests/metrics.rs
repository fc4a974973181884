//! The metrics as a scraper reads them: which there are, and how they move.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::link::LinkIndex;
use heddle_netlink::{Error, Refusal};
use heddle_node::board::Board;
use heddle_node::kernel::Failure;
use heddle_node::metrics::Metrics;
use heddle_node::problem::Problem;
use heddle_node::supply::sweep::Counts;
use heddle_node::view::{Own, Path, Peer, Standing, View, Way};
use heddle_proxy::metrics::requests::Sent;
use heddle_proxy::metrics::text;
use jiff::Timestamp;
use prometheus_parse::{Scrape, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn scrape(metrics: &Metrics) -> Scrape {
    let text = text::plain(&metrics.open_metrics());
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The value of a series, given all its labels.
fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let scrape = scrape(metrics);
    let mut found = scrape.samples.iter().filter(|sample| {
        let has = |(label, value): &(&str, &str)| sample.labels.get(label) == Some(value);
        sample.metric == name && sample.labels.len() == labels.len() && labels.iter().all(has)
    });
    let one = found.next()?;
    assert!(found.next().is_none(), "{name} is there twice");
    match one.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => Some(value),
        ref other => panic!("{name}: {other:?}"),
    }
}

fn metrics() -> (Metrics, Board<View>, Arc<Counts>) {
    let (views, counts) = (Board::default(), Arc::default());
    (Metrics::new(views.clone()).with_sweeps(Arc::clone(&counts)), views, counts)
}

fn path(range: &str, way: Option<Way>) -> Path {
    Path { range: range.parse().unwrap(), way, mtu: None }
}

fn view() -> View {
    let (to, link) = ([192, 168, 0, 2].into(), LinkIndex(2));
    let near = [
        path("10.244.2.0/24", Some(Way::Direct { via: to, link })),
        path("fd00:244:2::/64", Some(Way::Vxlan { to, link })),
    ];
    let lost = [path("10.244.3.0/24", None), path("10.244.4.0/24", None)];
    let peer = |paths: &[Path]| Peer { addresses: vec![to], paths: paths.to_owned() };
    let problem = |path: &Path| Problem::NoAddress { node: "far".into(), range: path.range };
    View {
        standing: Standing::Whole,
        whole: Some(Timestamp::from_second(1_000).unwrap()),
        own: Some(Own::default()),
        peers: [("near".into(), peer(&near)), ("far".into(), peer(&lost))].into(),
        mtu: Some(1450),
        routes: 2,
        problems: lost.iter().map(|path| (problem(path), Timestamp::UNIX_EPOCH)).collect(),
        ..View::default()
    }
}

#[test]
fn every_name_is_documented_and_is_there_from_the_start() {
    let (metrics, ..) = metrics();
    let text = text::plain(&metrics.open_metrics());
    let table = include_str!("../../docs/metrics.md");
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let names: BTreeSet<&str> = types.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names.len(), types.len(), "{types:?}");
    for name in &names {
        let is_shared = name.starts_with("process_") || name.starts_with("rest_client_");
        assert!(is_shared || name.starts_with("heddle_node_"), "{name}");
        assert!(name.starts_with("process_") || table.contains(&format!("`{name}`")), "{name} in the table");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    for (name, labels) in [
        ("heddle_node_sync_duration_seconds_count", &[][..]),
        ("heddle_node_failures_total", &[("kind", "route")]),
        ("heddle_node_drift_repairs_total", &[]),
        ("heddle_node_last_successful_sync_timestamp_seconds", &[]),
        ("heddle_node_paths", &[("kind", "vxlan"), ("ip_family", "IPv6")]),
        ("heddle_node_leftovers_swept_total", &[("kind", "lease")]),
        ("heddle_node_whole", &[]),
    ] {
        assert_eq!(value(&metrics, name, labels), Some(0.0), "{name}{labels:?}");
    }
    assert!(value(&metrics, "process_resident_memory_bytes", &[]).unwrap() > 0.0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(value(&metrics, "heddle_node_build_info", &version), Some(1.0));
}

#[test]
fn what_the_agent_believes_is_read_from_its_newest_view() {
    let (metrics, views, _) = metrics();
    views.post(view());
    for (name, labels, expected) in [
        ("heddle_node_whole", &[][..], 1.0),
        ("heddle_node_last_successful_sync_timestamp_seconds", &[], 1_000.0),
        ("heddle_node_nodes", &[], 3.0),
        ("heddle_node_routes", &[], 2.0),
        ("heddle_node_mtu_bytes", &[], 1_450.0),
        ("heddle_node_paths", &[("kind", "direct"), ("ip_family", "IPv4")], 1.0),
        ("heddle_node_paths", &[("kind", "direct"), ("ip_family", "IPv6")], 0.0),
        ("heddle_node_paths", &[("kind", "vxlan"), ("ip_family", "IPv6")], 1.0),
        ("heddle_node_paths", &[("kind", "none"), ("ip_family", "IPv4")], 2.0),
        ("heddle_node_problems", &[("reason", "NodeAddressMissing")], 2.0),
    ] {
        assert_eq!(value(&metrics, name, labels), Some(expected), "{name}{labels:?}");
    }
    views.post(View { standing: Standing::Failing, ..View::default() });
    assert_eq!(value(&metrics, "heddle_node_whole", &[]), Some(0.0));
    assert_eq!(value(&metrics, "heddle_node_problems", &[("reason", "NodeAddressMissing")]), None);
}

#[test]
fn syncs_refusals_and_repairs_are_counted_when_they_happen() {
    let (metrics, ..) = metrics();
    let refused = || {
        let why = Refusal { index: 0, errno: heddle_netlink::Errno::NOMEM, text: None };
        Failure::Route { to: "10.244.2.0/24".parse().unwrap(), why }
    };
    let unread = Failure::Look { what: "routes", source: Error::Malformed { what: "route" } };
    metrics.agent.sync(Duration::from_millis(3), &[refused(), refused(), unread], false);
    metrics.agent.sync(Duration::from_millis(1), &[], true);
    let failures = |kind| value(&metrics, "heddle_node_failures_total", &[("kind", kind)]);
    assert_eq!(["route", "look", "table"].map(failures), [Some(2.0), Some(1.0), Some(0.0)]);
    assert_eq!(value(&metrics, "heddle_node_drift_repairs_total", &[]), Some(1.0));
    assert_eq!(value(&metrics, "heddle_node_sync_duration_seconds_count", &[]), Some(2.0));
    assert_eq!(value(&metrics, "heddle_node_sync_duration_seconds_sum", &[]), Some(0.004));
}

#[test]
fn what_is_swept_and_asked_is_counted() {
    let (metrics, _, counts) = metrics();
    counts.sweeps.store(7, Ordering::Relaxed);
    counts.failures.store(1, Ordering::Relaxed);
    counts.dead.store(2, Ordering::Relaxed);
    counts.leases.store(3, Ordering::Relaxed);
    counts.ports.store(4, Ordering::Relaxed);
    let swept = |kind| value(&metrics, "heddle_node_leftovers_swept_total", &[("kind", kind)]);
    assert_eq!((swept("lease"), swept("host_ports")), (Some(3.0), Some(4.0)));
    let names = ["sweeps_total", "sweep_failures_total", "leftovers"];
    let values = names.map(|name| value(&metrics, &format!("heddle_node_{name}"), &[]));
    assert_eq!(values, [Some(7.0), Some(1.0), Some(2.0)]);
    metrics.requests.take(Sent { host: "h:1", method: "GET", code: Some(200), took: None });
    let labels = [("code", "200"), ("host", "h:1"), ("method", "GET")];
    assert_eq!(value(&metrics, "rest_client_requests_total", &labels), Some(1.0));
}
