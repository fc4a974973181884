//! What probes and load balancers are told, in kube-proxy's words.

use super::Report;
use crate::http::{Request, Response, StatusCode, not_found, response};
use crate::model::ObjectName;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

const JSON: &str = "application/json";
/// What never happened, as Go writes it.
const NEVER: Timestamp = Timestamp::constant(-62_135_596_800, 0);
/// How many connections the node should get in proportion to others.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// The body of `/healthz`, `/livez` and `/readyz`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    last_updated: Timestamp,
    current_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    healthy: bool,
    status: BTreeMap<&'static str, FamilyStatus>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyStatus {
    last_updated: Timestamp,
    healthy: bool,
}

/// Answers a request to the health server. The time is only printed: a clock that jumps changes no verdict.
pub fn probe(request: &Request, report: &Report, now: Timestamp) -> Response {
    let is_healthy = report.is_healthy();
    let (passes, node_eligible, ready) = match request.uri.path() {
        "/healthz" => (is_healthy && report.is_eligible, Some(report.is_eligible), None),
        "/livez" => (is_healthy, None, None),
        "/readyz" => (report.is_ready(), None, Some(report.is_ready())),
        _ => return not_found(),
    };
    let status = report.families.iter().map(|(family, state)| {
        let status = FamilyStatus { last_updated: ago(now, state.written), healthy: state.is_healthy };
        (family.name(), status)
    });
    let body = Probe {
        // "Now" has meant for long that all is well, and kube-proxy keeps it so.
        last_updated: if passes { now } else { ago(now, report.written()) },
        current_time: now,
        node_eligible,
        ready,
        healthy: passes,
        status: status.collect(),
    };
    response(code(passes), JSON, serde_json::to_string(&body).unwrap_or_default())
}

/// The body of a Service's health check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Debug, Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// Answers a request to a Service's health check: has this node ready endpoints, and will they be reached?
pub fn check(service: &ObjectName, local_endpoints: usize, is_healthy: bool) -> Response {
    let body = Check {
        service: Name { namespace: &service.namespace, name: &service.name },
        local_endpoints,
        service_proxy_healthy: is_healthy,
    };
    let text = serde_json::to_string_pretty(&body).unwrap_or_default();
    let mut response = response(code(local_endpoints > 0 && is_healthy), JSON, text);
    response.headers_mut().insert(WEIGHT, HeaderValue::from(local_endpoints));
    response
}

fn code(passes: bool) -> StatusCode {
    if passes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn ago(now: Timestamp, passed: Option<Duration>) -> Timestamp {
    passed.and_then(|passed| now.checked_sub(passed).ok()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests;
