//! Node.

use serde_json::Value;

use super::super::paths::{items, text};
use super::super::resource::{Column, Resource};
use super::service::or_none;

pub(crate) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short: &["no"],
    namespaced: false,
    status: true,
    fields: &["spec.unschedulable"],
    columns: &[
        Column::NAME,
        Column { name: "Status", wide: false, cell: |it, _| status(it) },
        Column { name: "Roles", wide: false, cell: |it, _| or_none(roles(it)) },
        Column {
            name: "Version",
            wide: false,
            cell: |it, _| text(it, "status.nodeInfo.kubeletVersion").to_owned(),
        },
        Column::AGE,
        Column { name: "Internal-IP", wide: true, cell: |it, _| or_none(address(it, "InternalIP")) },
        Column { name: "External-IP", wide: true, cell: |it, _| or_none(address(it, "ExternalIP")) },
        Column { name: "OS-Image", wide: true, cell: |it, _| text(it, "status.nodeInfo.osImage").to_owned() },
        Column {
            name: "Kernel-Version",
            wide: true,
            cell: |it, _| text(it, "status.nodeInfo.kernelVersion").to_owned(),
        },
    ],
    admit: |_| Vec::new(),
    claims: |_| Vec::new(),
    convert: None,
};

fn status(node: &Value) -> String {
    let ready = items(node, "status.conditions").iter().find(|it| text(it, "type") == "Ready");
    let word = match ready.map(|it| text(it, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = node["spec"]["unschedulable"].as_bool() == Some(true);
    format!("{word}{}", if closed { ",SchedulingDisabled" } else { "" })
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: Vec<_> = labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    roles.join(",")
}

fn address(node: &Value, kind: &str) -> String {
    let found = items(node, "status.addresses").iter().find(|it| text(it, "type") == kind);
    found.map(|it| text(it, "address").to_owned()).unwrap_or_default()
}
