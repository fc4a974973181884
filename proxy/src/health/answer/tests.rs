use super::*;
use crate::frontends::IpFamily;
use crate::health::FamilyReport;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Status, headers and body as JSON.
fn read(response: Response) -> (u16, Vec<(String, String)>, Value) {
    let (head, body) = response.into_parts();
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let collect = pin!(body.collect());
    let Poll::Ready(Ok(bytes)) = collect.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("the whole body is there");
    };
    (head.status.as_u16(), headers, serde_json::from_slice(&bytes.to_bytes()).unwrap_or(Value::Null))
}

fn ask(path: &str, report: &Report) -> (u16, Value) {
    let (request, ()) = hyper::Request::builder().uri(path).body(()).unwrap().into_parts();
    let (code, headers, body) = read(probe(&request, report, "2026-05-01T12:00:00Z".parse().unwrap()));
    if code != 404 {
        let wanted = [("content-type", "application/json"), ("x-content-type-options", "nosniff")];
        assert_eq!(headers, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    (code, body)
}

/// A report: for each family whether it is healthy and how many seconds ago it was written.
fn report(v4: (bool, Option<u64>), v6: (bool, Option<u64>), is_eligible: bool) -> Report {
    let family = |(is_healthy, written): (bool, Option<u64>)| FamilyReport {
        is_healthy,
        written: written.map(Duration::from_secs),
    };
    Report { families: [(IpFamily::V4, family(v4)), (IpFamily::V6, family(v6))].into(), is_eligible }
}

const NOW: &str = "2026-05-01T12:00:00Z";
const GO_ZERO: &str = "0001-01-01T00:00:00Z";

/// kp:G3, kp:G4, kp:G5
#[test]
fn a_working_eligible_node_answers_200_and_updated_now() {
    let all_well = report((true, Some(60)), (true, Some(30)), true);
    let status = json!({
        "IPv4": { "lastUpdated": "2026-05-01T11:59:00Z", "healthy": true },
        "IPv6": { "lastUpdated": "2026-05-01T11:59:30Z", "healthy": true },
    });
    let mut body = json!({ "lastUpdated": NOW, "currentTime": NOW, "nodeEligible": true, "healthy": true, "status": status });
    assert_eq!(ask("/healthz", &all_well), (200, body.clone()));
    assert_eq!(ask("/healthz?verbose=1", &all_well), (200, body.clone()));
    body.as_object_mut().unwrap().remove("nodeEligible");
    assert_eq!(ask("/livez", &all_well), (200, body.clone()));
    body["ready"] = json!(true);
    assert_eq!(ask("/readyz", &all_well), (200, body));
}

/// kp:G4, kp:G5: the proxy lives on such a node, and its probes say so.
#[test]
fn a_node_that_is_to_go_fails_healthz_alone() {
    let leaving = report((true, Some(60)), (true, Some(30)), false);
    let (code, body) = ask("/healthz", &leaving);
    assert_eq!((code, &body["nodeEligible"], &body["healthy"]), (503, &json!(false), &json!(false)));
    assert_eq!(body["lastUpdated"], "2026-05-01T11:59:30Z", "of an unhealthy one, the newest real time");
    assert_eq!(ask("/livez", &leaving).0, 200);
    assert_eq!(ask("/readyz", &leaving).0, 200);
}

/// kp:G3, kp:G5
#[test]
fn one_family_that_fails_makes_the_node_unhealthy_and_is_named() {
    let failing = report((true, Some(0)), (false, None), true);
    for path in ["/healthz", "/livez"] {
        let (code, body) = ask(path, &failing);
        assert_eq!((code, &body["healthy"]), (503, &json!(false)), "{path}");
        assert_eq!(body["status"]["IPv4"], json!({ "lastUpdated": NOW, "healthy": true }));
        assert_eq!(body["status"]["IPv6"], json!({ "lastUpdated": GO_ZERO, "healthy": false }));
    }
}

#[test]
fn before_the_first_write_the_proxy_lives_and_is_not_ready() {
    let fresh = report((true, None), (true, Some(1)), true);
    assert_eq!(ask("/livez", &fresh).0, 200);
    let (code, body) = ask("/readyz", &fresh);
    assert_eq!((code, &body["ready"]), (503, &json!(false)));
}

#[test]
fn there_is_nothing_at_other_paths() {
    let all_well = report((true, Some(60)), (true, Some(30)), true);
    for path in ["/", "/healthz/", "/metrics"] {
        assert_eq!(ask(path, &all_well).0, 404, "{path}");
    }
}

/// kp:G7
#[test]
fn a_health_check_passes_with_local_endpoints_behind_a_healthy_proxy() {
    let web = ObjectName::new("shop", "web");
    for (local, is_healthy, code) in [(2, true, 200), (0, true, 503), (2, false, 503), (0, false, 503)] {
        let (got, headers, body) = read(check(&web, local, is_healthy));
        assert_eq!(got, code);
        let service = json!({ "namespace": "shop", "name": "web" });
        let wanted =
            json!({ "service": service, "localEndpoints": local, "serviceProxyHealthy": is_healthy });
        assert_eq!(body, wanted);
        let count = local.to_string();
        let wanted = [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
            ("x-load-balancing-endpoint-weight", &count),
        ];
        assert_eq!(headers, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
