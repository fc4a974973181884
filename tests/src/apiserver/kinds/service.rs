//! Service: defaults, and the order in which it is completed and checked.
//!
//! As `pkg/registry/core/service` and `pkg/apis/core/v1/defaults.go` of Kubernetes 1.34 do it, for the fields that a
//! node network reads.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::paths::{find, items, remove, set, set_default, text, texts};
use super::super::refusal::Cause;
use super::super::resource::{Admission, Claim, Column, Resource};
use super::{service_addresses as addresses, service_checks as checks, service_ports as ports};

pub(crate) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    singular: "service",
    short: &["svc"],
    namespaced: true,
    status: true,
    fields: &["spec.clusterIP", "spec.type"],
    columns: COLUMNS,
    admit,
    claims,
    convert: None,
};

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column { name: "Type", wide: false, cell: |it, _| text(it, "spec.type").to_owned() },
    Column { name: "Cluster-IP", wide: false, cell: |it, _| or_none(text(it, "spec.clusterIP").to_owned()) },
    Column { name: "External-IP", wide: false, cell: external_addresses },
    Column { name: "Port(s)", wide: false, cell: |it, _| or_none(ports_cell(it)) },
    Column::AGE,
    Column { name: "Selector", wide: true, cell: |it, _| or_none(selector_cell(find(it, "spec.selector"))) },
];

fn admit(admission: &mut Admission<'_>) -> Vec<Cause> {
    set_defaults(admission.object);
    let mut causes = checks::check(admission.object);
    if !causes.is_empty() {
        return causes;
    }
    if let Some(old) = admission.old {
        keep_what_was_allocated(admission.object, old);
    }
    causes.extend(addresses::allocate(admission));
    causes.extend(ports::allocate(admission));
    causes
}

fn claims(service: &Value) -> Vec<Claim> {
    let addresses =
        texts(service, "spec.clusterIPs").into_iter().filter_map(|it| it.parse().ok()).map(Claim::Address);
    let ports = ports::node_ports(service).into_iter().map(Claim::NodePort);
    addresses.chain(ports).collect()
}

fn set_defaults(service: &mut Value) {
    set_default(service, "spec.type", "ClusterIP");
    set_default(service, "spec.sessionAffinity", "None");
    set_default(service, "status.loadBalancer", json!({}));
    if text(service, "spec.sessionAffinity") == "ClientIP" {
        // Three hours: DefaultClientIPServiceAffinitySeconds.
        set_default(service, "spec.sessionAffinityConfig.clientIP.timeoutSeconds", 10_800);
    }
    let kind = text(service, "spec.type").to_owned();
    if kind != "ExternalName" {
        set_default(service, "spec.internalTrafficPolicy", "Cluster");
    }
    if has_node_ports(&kind) || !items(service, "spec.externalIPs").is_empty() {
        set_default(service, "spec.externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set_default(service, "spec.allocateLoadBalancerNodePorts", true);
    }
    ports::set_defaults(service);
}

/// A client that replaces a Service need not repeat what the server chose, and loses what the new type cannot have.
fn keep_what_was_allocated(service: &mut Value, old: &Value) {
    if text(service, "spec.type") == "ExternalName" {
        for field in ["spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"] {
            if find(service, field) == find(old, field) {
                remove(service, field);
            }
        }
    } else if text(old, "spec.type") != "ExternalName" {
        for field in ["spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"] {
            set_default(service, field, find(old, field).clone());
        }
    }
    ports::keep_node_ports(service, old);
    if !has_node_ports(text(service, "spec.type"))
        && items(service, "spec.externalIPs").is_empty()
        && find(service, "spec.externalTrafficPolicy") == find(old, "spec.externalTrafficPolicy")
    {
        remove(service, "spec.externalTrafficPolicy");
    }
}

pub(super) fn has_node_ports(kind: &str) -> bool {
    ["NodePort", "LoadBalancer"].contains(&kind)
}

pub(super) fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// `app=web,tier=front`.
pub(super) fn selector_cell(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(",")
}

fn ports_cell(service: &Value) -> String {
    let one = |port: &Value| {
        let (number, protocol) = (&port["port"], text(port, "protocol"));
        match port["nodePort"].as_u64() {
            Some(node_port) => format!("{number}:{node_port}/{protocol}"),
            None => format!("{number}/{protocol}"),
        }
    };
    items(service, "spec.ports").iter().map(one).collect::<Vec<_>>().join(",")
}

fn external_addresses(service: &Value, _now: Timestamp) -> String {
    let ingress = items(service, "status.loadBalancer.ingress").iter();
    let balanced = ingress.map(|it| if it["ip"].is_string() { text(it, "ip") } else { text(it, "hostname") });
    let addresses: Vec<_> = balanced.chain(texts(service, "spec.externalIPs")).collect();
    match (text(service, "spec.type"), addresses.is_empty()) {
        ("ExternalName", _) => text(service, "spec.externalName").to_owned(),
        ("LoadBalancer", true) => "<pending>".to_owned(),
        _ => or_none(addresses.join(",")),
    }
}

/// Marks a Service that never gets cluster IPs.
pub(super) fn is_headless(service: &Value) -> bool {
    text(service, "spec.clusterIP") == "None" || texts(service, "spec.clusterIPs").first() == Some(&"None")
}

/// Sets both forms of the cluster IPs, of which the singular always repeats the first.
pub(super) fn set_cluster_ips(service: &mut Value, addresses: &[String]) {
    set(service, "spec.clusterIPs", json!(addresses));
    set(service, "spec.clusterIP", addresses.first().cloned().unwrap_or_default());
}
