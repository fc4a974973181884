//! What a Service may not be: the refusals that people meet, with the API server's own words.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::paths::{find, items, text, texts};
use super::super::refusal::Cause;
use super::service::is_headless;

pub(super) fn check(service: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (field, supported) in WORDS {
        let value = find(service, field);
        if !value.is_null() && !value.as_str().is_some_and(|it| supported.contains(&it)) {
            causes.push(Cause::unsupported(*field, value, supported));
        }
    }
    let ports = items(service, "spec.ports");
    if ports.is_empty() && !is_headless(service) && text(service, "spec.type") != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    if text(service, "spec.type") == "ExternalName" && text(service, "spec.externalName").is_empty() {
        causes.push(Cause::required("spec.externalName", ""));
    }
    for (index, address) in texts(service, "spec.externalIPs").into_iter().enumerate() {
        if address.parse::<IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.push(Cause::invalid(format!("spec.externalIPs[{index}]"), &json!(address), why));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        causes.extend(check_port(index, port, ports));
    }
    causes
}

const WORDS: &[(&str, &[&str])] = &[
    ("spec.type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]),
    ("spec.sessionAffinity", &["ClientIP", "None"]),
    ("spec.internalTrafficPolicy", &["Cluster", "Local"]),
    ("spec.externalTrafficPolicy", &["Cluster", "Local"]),
    ("spec.ipFamilyPolicy", &["PreferDualStack", "RequireDualStack", "SingleStack"]),
];

fn check_port(index: usize, port: &Value, all: &[Value]) -> Vec<Cause> {
    let field = |name: &str| format!("spec.ports[{index}].{name}");
    let mut causes = Vec::new();
    let name = text(port, "name");
    if name.is_empty() && all.len() > 1 {
        causes.push(Cause::required(field("name"), ""));
    }
    if !name.is_empty() && all[..index].iter().any(|it| text(it, "name") == name) {
        causes.push(Cause::duplicate(field("name"), &json!(name)));
    }
    if !is_port_number(&port["port"]) {
        causes.push(Cause::invalid(field("port"), &port["port"], "must be between 1 and 65535, inclusive"));
    }
    let target = &port["targetPort"];
    if !is_port_number(target) && !target.as_str().is_some_and(is_port_name) {
        causes.push(Cause::invalid(
            field("targetPort"),
            target,
            "must be between 1 and 65535, inclusive, or a port name",
        ));
    }
    let protocols = ["SCTP", "TCP", "UDP"];
    if !protocols.contains(&text(port, "protocol")) {
        causes.push(Cause::unsupported(field("protocol"), &port["protocol"], &protocols));
    }
    let same = |it: &Value| it["port"] == port["port"] && it["protocol"] == port["protocol"];
    if all[..index].iter().any(same) {
        let shown = json!({"protocol": port["protocol"], "port": port["port"]});
        causes.push(Cause::duplicate(format!("spec.ports[{index}]"), &shown));
    }
    causes
}

pub(super) fn is_port_number(value: &Value) -> bool {
    value.as_u64().is_some_and(|it| (1..=65_535).contains(&it))
}

/// An IANA service name: at most 15 of `a-z0-9-`, with a letter.
fn is_port_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-')
        && name.chars().any(|it| it.is_ascii_lowercase())
}
