//! EndpointSlice, in the version that is stored and in the one before, which can be read.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::paths::{items, items_mut, remove, set_default, text, texts};
use super::super::refusal::Cause;
use super::super::resource::{Admission, Column, Resource};
use super::service_checks::is_port_number;

pub(crate) const RESOURCE: Resource = Resource {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    short: &[],
    namespaced: true,
    status: false,
    fields: &[],
    columns: &[
        Column::NAME,
        Column { name: "AddressType", wide: false, cell: |it, _| text(it, "addressType").to_owned() },
        Column { name: "Ports", wide: false, cell: |it, _| shown(&ports(it)) },
        Column { name: "Endpoints", wide: false, cell: |it, _| shown(&addresses(it)) },
        Column::AGE,
    ],
    admit,
    claims: |_| Vec::new(),
    convert: None,
};

/// What proxies of Kubernetes 1.20 and before read.
pub(crate) const OLDER: Resource = Resource { version: "v1beta1", convert: Some(convert), ..RESOURCE };

/// Where an endpoint is was one map of labels, which held the node too.
fn convert(slice: &mut Value) {
    for endpoint in items_mut(slice, "endpoints") {
        let mut topology =
            remove(endpoint, "deprecatedTopology").filter(Value::is_object).unwrap_or_else(|| json!({}));
        if let Some(zone) = remove(endpoint, "zone") {
            topology["topology.kubernetes.io/zone"] = zone;
        }
        let node = endpoint["nodeName"].clone();
        if !node.is_null() && topology["kubernetes.io/hostname"].is_null() {
            topology["kubernetes.io/hostname"] = node;
        }
        if topology.as_object().is_some_and(|labels| !labels.is_empty()) {
            endpoint["topology"] = topology;
        }
    }
}

fn admit(admission: &mut Admission<'_>) -> Vec<Cause> {
    let (slice, old) = (&mut *admission.object, admission.old);
    for port in items_mut(slice, "ports") {
        set_default(port, "protocol", "TCP");
        if port["name"].is_null() {
            port["name"] = json!("");
        }
    }
    let mut causes = Vec::new();
    let family = text(slice, "addressType");
    if family.is_empty() {
        causes.push(Cause::required("addressType", ""));
    } else if !["FQDN", "IPv4", "IPv6"].contains(&family) {
        causes.push(Cause::unsupported("addressType", &json!(family), &["FQDN", "IPv4", "IPv6"]));
    }
    if old.is_some_and(|old| text(old, "addressType") != family) {
        causes.push(Cause::invalid("addressType", &json!(family), "field is immutable"));
    }
    for (index, endpoint) in items(slice, "endpoints").iter().enumerate() {
        causes.extend(check_addresses(index, endpoint, family));
    }
    for (index, port) in items(slice, "ports").iter().enumerate() {
        if !port["port"].is_null() && !is_port_number(&port["port"]) {
            let field = format!("ports[{index}].port");
            causes.push(Cause::invalid(field, &port["port"], "must be between 1 and 65535, inclusive"));
        }
    }
    causes
}

fn check_addresses(index: usize, endpoint: &Value, family: &str) -> Vec<Cause> {
    let field = format!("endpoints[{index}].addresses");
    let addresses = texts(endpoint, "addresses");
    if addresses.is_empty() {
        return vec![Cause::required(field, "must contain at least 1 address")];
    }
    let wrong = addresses.iter().enumerate().filter(|(_, address)| match family {
        "IPv4" => !matches!(address.parse(), Ok(IpAddr::V4(_))),
        "IPv6" => !matches!(address.parse(), Ok(IpAddr::V6(_))),
        _ => false,
    });
    wrong
        .map(|(at, it)| {
            Cause::invalid(format!("{field}[{at}]"), &json!(it), &format!("must be an {family} address"))
        })
        .collect()
}

fn ports(slice: &Value) -> Vec<String> {
    items(slice, "ports")
        .iter()
        .map(|it| it["port"].as_u64().map_or("*".to_owned(), |it| it.to_string()))
        .collect()
}

fn addresses(slice: &Value) -> Vec<String> {
    items(slice, "endpoints").iter().flat_map(|it| texts(it, "addresses")).map(str::to_owned).collect()
}

/// The first three, as kubectl users know it.
fn shown(all: &[String]) -> String {
    match all.len() {
        0 => "<unset>".to_owned(),
        1..=3 => all.join(","),
        more => format!("{} + {} more...", all[..3].join(","), more - 3),
    }
}
