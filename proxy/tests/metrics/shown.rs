//! Which metrics there are, as both formats show them.

use super::{SENT, bounds, problem, scrape};
use heddle_proxy::metrics::{Metrics, text};
use heddle_proxy::problems::News;
use jiff::Timestamp;
use prometheus_parse::Value;
use std::collections::{BTreeMap, BTreeSet};

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
