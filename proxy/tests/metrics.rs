//! The metrics as a scraper reads them: which there are, and how they move with the agent on a (fake) kernel.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::Errno;
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::convert::{Names, Object, Verdict, slice as convert};
use heddle_proxy::frontends::IpFamily;
use heddle_proxy::metrics::agent::MOST_TIMED;
use heddle_proxy::metrics::requests::Sent;
use heddle_proxy::metrics::{Metrics, text};
use heddle_proxy::model::{Change, Kind, ObjectName, Pending, Policy, Protocol, Service, ServicePort};
use heddle_proxy::nft::{FakeKernel, Nft, Settings};
use heddle_proxy::problems::{News, Problem, Reason, Subject};
use jiff::{SignedDuration, Timestamp};
use prometheus_parse::{HistogramCount, Scrape, Value};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const NODE: &str = "node-1";
const FAMILY: &[&str] = &["ip_family"];

/// Name, type and labels: kube-proxy's first, then ours, then those that every process has.
const METRICS: &[(&str, &str, &[&str])] = &[
    ("kubeproxy_sync_proxy_rules_duration_seconds", "histogram", FAMILY),
    ("kubeproxy_sync_full_proxy_rules_duration_seconds", "histogram", FAMILY),
    ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "histogram", FAMILY),
    ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "gauge", FAMILY),
    ("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "gauge", FAMILY),
    ("kubeproxy_network_programming_duration_seconds", "histogram", FAMILY),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "gauge", &[]),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_total", "counter", &[]),
    ("kubeproxy_sync_proxy_rules_service_changes_pending", "gauge", &[]),
    ("kubeproxy_sync_proxy_rules_service_changes_total", "counter", &[]),
    ("kubeproxy_sync_proxy_rules_no_local_endpoints_total", "gauge", &["ip_family", "traffic_policy"]),
    ("kubeproxy_proxy_healthz_total", "counter", &["code"]),
    ("kubeproxy_proxy_livez_total", "counter", &["code"]),
    ("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "counter", FAMILY),
    ("kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total", "counter", FAMILY),
    ("kubeproxy_conntrack_reconciler_sync_duration_seconds", "histogram", FAMILY),
    ("kubeproxy_conntrack_reconciler_deleted_entries_total", "counter", FAMILY),
    ("heddle_problems", "gauge", &["kind", "reason"]),
    ("heddle_kernel_operations_total", "counter", FAMILY),
    ("heddle_tables_compared_total", "counter", FAMILY),
    ("heddle_drift_repairs_total", "counter", &[]),
    ("heddle_services", "gauge", &[]),
    ("heddle_endpoints", "gauge", &[]),
    ("heddle_frontends", "gauge", &[]),
    ("heddle_build_info", "gauge", &["version"]),
    ("rest_client_requests_total", "counter", &["code", "host", "method"]),
    ("rest_client_request_duration_seconds", "histogram", &["host", "verb"]),
    ("process_cpu_seconds_total", "counter", &[]),
    ("process_start_time_seconds", "gauge", &[]),
    ("process_virtual_memory_bytes", "gauge", &[]),
    ("process_resident_memory_bytes", "gauge", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_max_fds", "gauge", &[]),
];

const SENT: Sent<'_> =
    Sent { host: "h:1", method: "GET", code: Some(200), took: Some(Duration::from_millis(30)) };

fn scrape(metrics: &Metrics) -> Scrape {
    let text = text::plain(&metrics.open_metrics());
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The value of a series, given all its labels; for a histogram, of its `_count` or `_sum`.
fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> f64 {
    let scrape = scrape(metrics);
    let found: Vec<_> = scrape
        .samples
        .iter()
        .filter(|sample| sample.metric == name && sample.labels.len() == labels.len())
        .filter(|sample| labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value)))
        .collect();
    match &found[..] {
        [one] => match one.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            ref other => panic!("{name}: {other:?}"),
        },
        _ => panic!("{} series {name}{labels:?} in {:?}", found.len(), scrape.samples),
    }
}

fn of(metrics: &Metrics, name: &str, family: &str) -> f64 {
    value(metrics, name, &[("ip_family", family)])
}

fn bounds(metrics: &Metrics, name: &str) -> Vec<f64> {
    let scrape = scrape(metrics);
    let sample = scrape.samples.iter().find(|sample| sample.metric == name).unwrap();
    let Value::Histogram(counts) = &sample.value else { panic!("{name}: {:?}", sample.value) };
    counts.iter().map(|HistogramCount { less_than, .. }| *less_than).collect()
}

/// From the types that it is told, a scraper makes these values of the series.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Counter(_) => "counter",
        Value::Gauge(_) => "gauge",
        Value::Histogram(_) => "histogram",
        Value::Summary(_) => "summary",
        Value::Untyped(_) => "untyped",
    }
}

#[test]
fn a_scraper_reads_the_metrics_of_the_table_and_no_others() {
    let metrics = Metrics::new(Timestamp::now());
    metrics.problems.take(&News::Began(problem()));
    metrics.requests.take(SENT);
    let mut read: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for sample in scrape(&metrics).samples {
        let of_histogram = sample.metric.strip_suffix("_sum").or(sample.metric.strip_suffix("_count"));
        if of_histogram
            .is_some_and(|name| METRICS.iter().any(|(of, kind, _)| *of == name && *kind == "histogram"))
        {
            continue;
        }
        let labels = sample.labels.keys().cloned().collect();
        read.insert(sample.metric, (kind(&sample.value).to_owned(), labels));
    }
    let expected = METRICS.iter().map(|(name, kind, labels)| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        ((*name).to_owned(), ((*kind).to_owned(), labels))
    });
    assert_eq!(read, expected.collect());
}

#[test]
fn both_formats_have_the_same_series_and_each_metric_says_what_it_is() {
    let metrics = Metrics::new(Timestamp::now());
    let open = metrics.open_metrics();
    let plain = text::plain(&open);
    let lines = |text: &str, with: &dyn Fn(&str) -> bool| text.lines().filter(|line| with(line)).count();
    let is_series = |line: &str| !line.starts_with('#');
    assert_eq!(lines(&open, &is_series), lines(&plain, &is_series));
    assert!(open.ends_with("# EOF\n") && !plain.contains("# EOF"));
    let of_type = |line: &str| line.starts_with("# TYPE ");
    let help = |line: &str| line.starts_with("# HELP ");
    // Nothing is wrong with any object and nothing was asked; of these alone there is no series before the first.
    let all = METRICS.len() - 3;
    assert_eq!((lines(&plain, &of_type), lines(&plain, &help)), (all, all));
}

#[test]
fn buckets_are_kube_proxys() {
    let metrics = Metrics::new(Timestamp::now());
    let durations: Vec<f64> = (0..15).map(|n| 0.001 * f64::from(1 << n)).chain([f64::INFINITY]).collect();
    for name in [
        "kubeproxy_sync_proxy_rules_duration_seconds",
        "kubeproxy_sync_full_proxy_rules_duration_seconds",
        "kubeproxy_sync_partial_proxy_rules_duration_seconds",
        "kubeproxy_conntrack_reconciler_sync_duration_seconds",
    ] {
        assert_eq!(bounds(&metrics, name), durations, "{name}");
    }
    let programming = bounds(&metrics, "kubeproxy_network_programming_duration_seconds");
    assert_eq!(programming[..4], [0.25, 0.5, 1.0, 2.0]);
    assert_eq!(programming[60..64], [59.0, 60.0, 65.0, 70.0]);
    assert_eq!(
        programming[72..],
        [115.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0, f64::INFINITY][..]
    );
}

fn problem() -> Problem {
    let subject = Subject::File("a.yaml".into());
    Problem { subject, reason: Reason::ObjectRefused, text: "it is no object".to_owned() }
}

/// An agent that counts, on a fake kernel.
struct Stage {
    metrics: Metrics,
    agent: Agent<Nft<FakeKernel>>,
    started: Timestamp,
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

impl Stage {
    fn new() -> Self {
        let started = Timestamp::now();
        let metrics = Metrics::new(started);
        let agent = Agent::new(NODE, Nft::new(FakeKernel::default(), &Settings::default()));
        let agent = agent.with_meter(metrics.agent.clone());
        let mut stage = Self { metrics, agent, started };
        stage.tell([Change::Complete(Kind::Service), Change::Complete(Kind::Slice)]);
        stage.agent.sync();
        stage
    }

    fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|change| self.agent.take(Event::Change(change)));
    }

    fn of(&self, name: &str, family: &str) -> f64 {
        of(&self.metrics, name, family)
    }

    fn value(&self, name: &str) -> f64 {
        value(&self.metrics, name, &[])
    }

    fn programming(&self, family: &str) -> f64 {
        self.of("kubeproxy_network_programming_duration_seconds_count", family)
    }

    /// The IPv4 endpoints of a Service, triggered so many seconds after the start.
    fn slice(&self, service: &str, last: &[u8], triggered: i64) -> Change {
        let at = self.started + SignedDuration::from_secs(triggered);
        let endpoint = |last: &u8| json!({"addresses": [format!("10.0.0.{last}")], "nodeName": "node-2"});
        let object = json!({
            "metadata": {
                "name": format!("{service}-1"),
                "labels": {"kubernetes.io/service-name": service},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": at.to_string()},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": last.iter().map(endpoint).collect::<Vec<_>>(),
        });
        let object = serde_json::from_value(object).unwrap();
        match convert(&object, &mut Names::default()).unwrap() {
            Verdict::Ours(Object::Slice(slice), _) => {
                Change::SliceApplied(name(&format!("{service}-1")), slice)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn service(last: u8) -> Service {
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let ips = [[10, 96, 0, last].into(), [0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from(last)].into()];
    Service { cluster_ips: ips.into(), ports: vec![port], ..Service::default() }
}

#[test]
fn changes_are_pending_until_a_sync_takes_them_in() {
    let mut stage = Stage::new();
    let slice = stage.slice("web", &[1], 0);
    stage.tell([Change::ServiceApplied(name("web"), service(1).into()), slice.clone(), slice]);
    let counts = |stage: &Stage| {
        [
            "service_changes_total",
            "service_changes_pending",
            "endpoint_changes_total",
            "endpoint_changes_pending",
        ]
        .map(|of| stage.value(&format!("kubeproxy_sync_proxy_rules_{of}")))
    };
    // A slice that says nothing new is heard of, and waits for nothing.
    assert_eq!(counts(&stage), [1.0, 1.0, 2.0, 1.0]);
    stage.agent.sync();
    assert_eq!(counts(&stage), [1.0, 0.0, 2.0, 0.0]);
    let sizes = ["heddle_services", "heddle_endpoints", "heddle_frontends"].map(|of| stage.value(of));
    assert_eq!(sizes, [1.0, 1.0, 2.0]);
}

/// kp:H7: latencies and stamps are published after a success; those of a failed sync are kept for the next.
#[test]
fn a_changed_slice_is_timed_once_from_its_trigger_to_a_sync_that_succeeds() {
    let mut stage = Stage::new();
    let slice = stage.slice("web", &[1], 1);
    stage.tell([Change::ServiceApplied(name("web"), service(1).into()), slice.clone()]);
    assert_eq!(stage.programming("IPv4"), 0.0);
    stage.agent.dataplane().kernel().refuse = vec![Errno::NOMEM];
    stage.agent.sync();
    assert_eq!(stage.programming("IPv4"), 0.0, "it failed");
    stage.agent.sync();
    assert_eq!(stage.programming("IPv4"), 1.0);
    stage.tell([slice]);
    stage.agent.sync();
    assert_eq!(stage.programming("IPv4"), 1.0, "nothing changed");
    let before_the_start = stage.slice("web", &[1, 2], -1);
    stage.tell([before_the_start]);
    stage.agent.sync();
    stage.tell([Change::SliceGone(name("web-1"))]);
    stage.agent.sync();
    assert_eq!((stage.programming("IPv4"), stage.programming("IPv6")), (1.0, 0.0));
}

#[test]
fn what_a_trigger_took_is_the_time_since_it() {
    let mut stage = Stage::new();
    let metrics = &stage.metrics;
    let mut meter = metrics.agent.clone();
    let slice = stage.slice("web", &[1], 10);
    let trigger = meter.hear(&slice);
    let mut model = heddle_proxy::model::Model::default();
    let before = model.pending();
    model.apply(slice);
    meter.take(trigger, before, model.pending());
    meter.arrive(&[IpFamily::V6], stage.started + Duration::from_secs(12));
    meter.arrive(&[IpFamily::V4], stage.started + Duration::from_secs(13));
    let sum = stage.of("kubeproxy_network_programming_duration_seconds_sum", "IPv4");
    assert!((sum - 3.0).abs() < 1e-3, "{sum}");
    assert_eq!(stage.programming("IPv6"), 0.0);
    stage.agent.sync();
}

#[test]
fn changes_that_never_arrive_are_timed_up_to_a_bound() {
    let stage = Stage::new();
    let mut meter = stage.metrics.agent.clone();
    let trigger = meter.hear(&stage.slice("web", &[1], 1));
    for slices in 0..=MOST_TIMED {
        meter.take(trigger, Pending::default(), Pending { services: 0, slices: slices + 1 });
    }
    meter.arrive(&IpFamily::ALL, stage.started);
    assert_eq!(stage.programming("IPv4"), MOST_TIMED as f64);
}

#[test]
fn a_sync_is_full_where_the_table_was_read_back_and_partial_where_not() {
    let mut stage = Stage::new();
    let counts = |stage: &Stage| {
        ["sync_proxy_rules", "sync_full_proxy_rules", "sync_partial_proxy_rules"]
            .map(|of| stage.of(&format!("kubeproxy_{of}_duration_seconds_count"), "IPv4"))
    };
    assert_eq!(counts(&stage), [1.0, 1.0, 0.0]);
    stage.tell([Change::ServiceApplied(name("web"), service(1).into())]);
    stage.agent.sync();
    assert_eq!(counts(&stage), [2.0, 1.0, 1.0]);
    stage.agent.sync();
    assert_eq!(counts(&stage), [2.0, 1.0, 1.0], "there was nothing to do");
    assert_eq!(stage.of("heddle_tables_compared_total", "IPv6"), 1.0);
}

#[test]
fn a_family_that_fails_is_counted_and_its_last_success_stays() {
    let mut stage = Stage::new();
    let stamp = |stage: &Stage, of: &str, family: &str| {
        stage.of(&format!("kubeproxy_sync_proxy_rules_{of}_seconds"), family)
    };
    let first = stamp(&stage, "last_timestamp", "IPv4");
    assert!(first > 1e9, "{first}");
    stage.tell([Change::ServiceApplied(name("web"), service(1).into())]);
    stage.agent.dataplane().kernel().refuse = vec![Errno::NOMEM];
    stage.agent.sync();
    let failures = |stage: &Stage, family: &str| {
        stage.of("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", family)
    };
    assert_eq!((failures(&stage, "IPv4"), failures(&stage, "IPv6")), (1.0, 0.0));
    assert!(stamp(&stage, "last_timestamp", "IPv4") <= first);
    assert!(stamp(&stage, "last_queued_timestamp", "IPv4") > first);
    assert!(stamp(&stage, "last_timestamp", "IPv6") > first);
}

#[test]
fn only_what_is_written_after_outside_damage_is_a_repair() {
    let mut stage = Stage::new();
    stage.agent.take(Event::Doubt);
    stage.agent.sync();
    assert_eq!(stage.value("heddle_drift_repairs_total"), 0.0);
    stage.agent.dataplane().kernel().tables.clear();
    stage.agent.take(Event::Doubt);
    let operations = stage.of("heddle_kernel_operations_total", "IPv4");
    stage.agent.sync();
    assert_eq!(stage.value("heddle_drift_repairs_total"), 1.0);
    assert!(stage.of("heddle_kernel_operations_total", "IPv4") > operations);
}

/// Each port once, however many addresses it has, and only while there are endpoints elsewhere.
#[test]
fn ports_without_a_local_endpoint_are_counted_by_traffic_and_family() {
    let mut stage = Stage::new();
    let count = |stage: &Stage, traffic: &str, family: &str| {
        let labels = [("traffic_policy", traffic), ("ip_family", family)];
        value(&stage.metrics, "kubeproxy_sync_proxy_rules_no_local_endpoints_total", &labels)
    };
    let mut local = service(1);
    local.internal_policy = Policy::Local;
    local.external_policy = Policy::Local;
    local.external_ips = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
    local.ports[0].node_port = Some(30_000);
    let elsewhere = stage.slice("web", &[1], 0);
    stage.tell([Change::ServiceApplied(name("web"), local.into()), elsewhere]);
    stage.agent.sync();
    assert_eq!((count(&stage, "internal", "IPv4"), count(&stage, "external", "IPv4")), (1.0, 1.0));
    assert_eq!((count(&stage, "internal", "IPv6"), count(&stage, "external", "IPv6")), (0.0, 0.0));
    stage.tell([Change::SliceGone(name("web-1"))]);
    stage.agent.sync();
    assert_eq!((count(&stage, "internal", "IPv4"), count(&stage, "external", "IPv4")), (0.0, 0.0));
}

#[test]
fn problems_are_counted_by_kind_and_reason_while_they_last() {
    let metrics = Metrics::new(Timestamp::now());
    let now = |metrics: &Metrics| {
        value(metrics, "heddle_problems", &[("kind", "File"), ("reason", "ObjectRefused")])
    };
    metrics.problems.take(&News::Began(problem()));
    assert_eq!(now(&metrics), 1.0);
    metrics.problems.take(&News::Ended(problem()));
    assert_eq!(now(&metrics), 0.0);
}

#[test]
fn probes_are_counted_by_path_and_code() {
    let metrics = Metrics::new(Timestamp::now());
    metrics.probes.answer("/healthz", true);
    metrics.probes.answer("/healthz", false);
    metrics.probes.answer("/livez", false);
    metrics.probes.answer("/elsewhere", false);
    let count =
        |path: &str, code| value(&metrics, &format!("kubeproxy_proxy_{path}_total"), &[("code", code)]);
    assert_eq!([count("healthz", "200"), count("healthz", "503")], [1.0, 1.0]);
    assert_eq!([count("livez", "200"), count("livez", "503")], [0.0, 1.0]);
}

#[test]
fn requests_are_counted_by_server_method_and_code_and_only_answers_that_end_are_timed() {
    let metrics = Metrics::new(Timestamp::now());
    let watch = Sent { took: None, ..SENT };
    let lost = Sent { code: None, ..SENT };
    [SENT, watch, lost].into_iter().for_each(|sent| metrics.requests.take(sent));
    let count = |code: &str| {
        let labels = [("code", code), ("host", "h:1"), ("method", "GET")];
        value(&metrics, "rest_client_requests_total", &labels)
    };
    assert_eq!((count("200"), count("<error>")), (2.0, 1.0));
    let name = "rest_client_request_duration_seconds";
    let labels = [("host", "h:1"), ("verb", "GET")];
    assert_eq!(value(&metrics, &format!("{name}_count"), &labels), 1.0);
    let client_gos = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, f64::INFINITY];
    assert_eq!(bounds(&metrics, name), client_gos);
}
