//! The model as text and as JSON.

use crate::model::{Hints, Model, Service, ServicePort, Slice, SliceEndpoint};
use serde_json::{Value, json};
use std::fmt::{Display, Write};

/// Every object a line, what belongs to it below.
pub(super) fn text(model: &Model) -> String {
    let mut text = String::new();
    let node = model.node();
    let zone = node.zone.as_deref().unwrap_or("-");
    // Writing into a string does not fail.
    let _ =
        writeln!(text, "node addresses {} zone {zone} pods {}", list(&node.addresses), list(&node.pod_cidrs));
    let ranges: Vec<_> = model.service_cidrs().into_iter().collect();
    let _ = writeln!(text, "service ranges {}", list(&ranges));
    let left_out: Vec<_> = model.left_out().into_iter().collect();
    if !left_out.is_empty() {
        let _ = writeln!(text, "pods left out {}", list(&left_out));
    }
    for (name, service) in model.services() {
        let _ = writeln!(text, "service {name} {}", facts(service).join(" "));
        for port in &service.ports {
            let _ = writeln!(text, "  {}", port_text(port));
        }
        for slice in model.slices_of(name) {
            slice_text(slice, &mut text);
        }
    }
    text
}

fn list<T: Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What of a Service is not as in most.
fn facts(service: &Service) -> Vec<String> {
    let addresses = [
        ("cluster-ips", list(&service.cluster_ips)),
        ("load-balancer-ips", list(&service.load_balancer_ips)),
        ("external-ips", list(&service.external_ips)),
        ("source-ranges", list(&service.source_ranges)),
    ];
    let mut facts: Vec<String> = addresses
        .iter()
        .filter(|(_, list)| list != "-")
        .map(|(name, list)| format!("{name} {list}"))
        .collect();
    facts.push(format!("internal {:?} external {:?}", service.internal_policy, service.external_policy));
    facts.extend(service.affinity.map(|seconds| format!("affinity {seconds} s")));
    facts.extend(service.health_check_node_port.map(|port| format!("health-check {port}")));
    facts.extend(service.created.map(|created| format!("created {created}")));
    facts
}

fn port_text(port: &ServicePort) -> String {
    let node_port = port.node_port.map(|port| format!(" node-port {port}")).unwrap_or_default();
    format!("port {:?} {}/{}{node_port}", port.name, port.port, port.protocol)
}

fn slice_text(slice: &Slice, text: &mut String) {
    let ports = slice.ports.iter().map(|port| format!("{:?} {}/{}", port.name, port.port, port.protocol));
    let ports: Vec<String> = ports.collect();
    let _ = writeln!(text, "  slice ports {}", list(&ports));
    for endpoint in &slice.endpoints {
        let _ = writeln!(text, "    {}", endpoint_text(endpoint));
    }
}

fn endpoint_text(endpoint: &SliceEndpoint) -> String {
    let states =
        [("ready", endpoint.ready), ("serving", endpoint.serving), ("terminating", endpoint.terminating)];
    let states: Vec<&str> = states.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
    let node = endpoint.node.as_deref().unwrap_or("-");
    let hints = endpoint.hints.as_deref().map(hints).unwrap_or_default();
    format!("endpoint {} {} node {node}{hints}", endpoint.address, list(&states))
}

fn hints(hints: &Hints) -> String {
    format!(" for nodes {} zones {}", list(&hints.nodes), list(&hints.zones))
}

/// The same for programs.
pub(super) fn json(model: &Model) -> Value {
    let node = model.node();
    let services = model.services().map(|(name, service)| {
        let slices: Vec<Value> = model.slices_of(name).map(slice_json).collect();
        service_json(&name.to_string(), service, &slices)
    });
    json!({
        "node": {
            "exists": model.node_exists(),
            "addresses": node.addresses,
            "zone": node.zone.as_deref(),
            "podCIDRs": strings(&node.pod_cidrs),
        },
        "serviceCIDRs": model.service_cidrs().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "podsLeftOut": model.left_out(),
        "services": services.collect::<Vec<_>>(),
    })
}

fn service_json(name: &str, service: &Service, slices: &[Value]) -> Value {
    let port = |port: &ServicePort| {
        json!({
            "name": &*port.name,
            "protocol": port.protocol.to_string(),
            "port": port.port,
            "nodePort": port.node_port,
        })
    };
    json!({
        "service": name,
        "clusterIPs": service.cluster_ips,
        "loadBalancerIPs": service.load_balancer_ips,
        "externalIPs": service.external_ips,
        "sourceRanges": strings(&service.source_ranges),
        "internalPolicy": format!("{:?}", service.internal_policy),
        "externalPolicy": format!("{:?}", service.external_policy),
        "affinitySeconds": service.affinity,
        "healthCheckNodePort": service.health_check_node_port,
        "created": service.created.map(|created| created.to_string()),
        "ports": service.ports.iter().map(port).collect::<Vec<_>>(),
        "slices": slices,
    })
}

fn slice_json(slice: &Slice) -> Value {
    let endpoint = |endpoint: &SliceEndpoint| {
        json!({
            "address": endpoint.address,
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
            "node": endpoint.node.as_deref(),
            "forNodes": endpoint.hints.as_deref().map(|hints| strings(&hints.nodes)),
            "forZones": endpoint.hints.as_deref().map(|hints| strings(&hints.zones)),
        })
    };
    let ports = slice
        .ports
        .iter()
        .map(|port| json!({ "name": &*port.name, "protocol": port.protocol.to_string(), "port": port.port }));
    json!({
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": slice.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn strings<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
