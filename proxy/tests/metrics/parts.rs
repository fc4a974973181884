//! What the other parts count: problems, probes, and requests to the API server.

use super::{SENT, bounds, problem, value};
use heddle_proxy::metrics::Metrics;
use heddle_proxy::metrics::requests::Sent;
use heddle_proxy::problems::News;
use jiff::Timestamp;

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
