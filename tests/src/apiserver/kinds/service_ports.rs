//! The ports of a Service: their defaults, and the node ports that they get.

use serde_json::{Value, json};

use super::super::paths::{find, is_unset, items, items_mut, remove, set, set_default, text};
use super::super::refusal::Cause;
use super::super::resource::{Admission, Claim};
use super::service::has_node_ports;

pub(super) fn set_defaults(service: &mut Value) {
    for port in items_mut(service, "spec.ports") {
        set_default(port, "protocol", "TCP");
        let number = port["port"].clone();
        set_default(port, "targetPort", number);
    }
}

/// The node ports that it holds, the one of its health check included.
pub(super) fn node_ports(service: &Value) -> Vec<u16> {
    let health = find(service, "spec.healthCheckNodePort");
    let all = items(service, "spec.ports").iter().map(|port| &port["nodePort"]).chain([health]);
    all.filter_map(Value::as_u64)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .collect()
}

/// A port that a client sends without its node port keeps it; one that the new type cannot have is dropped.
pub(super) fn keep_node_ports(service: &mut Value, old: &Value) {
    let wants = has_node_ports(text(service, "spec.type"));
    let had = has_node_ports(text(old, "spec.type"));
    for port in items_mut(service, "spec.ports") {
        let same = |it: &&Value| it["port"] == port["port"] && text(it, "protocol") == text(port, "protocol");
        let Some(before) = items(old, "spec.ports").iter().find(same) else { continue };
        if wants && !is_unset(&before["nodePort"]) {
            set_default(port, "nodePort", before["nodePort"].clone());
        } else if !wants && had && port["nodePort"] == before["nodePort"] {
            remove(port, "nodePort");
        }
    }
    if needs_health_port(service) {
        set_default(service, "spec.healthCheckNodePort", find(old, "spec.healthCheckNodePort").clone());
    } else {
        remove(service, "spec.healthCheckNodePort");
    }
}

/// Hands out node ports where the type asks for them.
pub(super) fn allocate(admission: &mut Admission<'_>) -> Vec<Cause> {
    let mut causes = check_wanted(admission);
    let service = &mut *admission.object;
    let kind = text(service, "spec.type").to_owned();
    let allocates = kind == "NodePort"
        || kind == "LoadBalancer" && find(service, "spec.allocateLoadBalancerNodePorts") != &json!(false);
    let mut taken = node_ports(service);
    let full =
        || Cause::invalid("spec.ports", &json!([]), "failed to allocate a nodePort: the range is full");
    if allocates {
        for port in items_mut(service, "spec.ports").iter_mut().filter(|port| is_unset(&port["nodePort"])) {
            match admission.claims.find_free_node_port(&taken) {
                Some(free) => {
                    set(port, "nodePort", free);
                    taken.push(free);
                }
                None => causes.push(full()),
            }
        }
    }
    if needs_health_port(service) && is_unset(find(service, "spec.healthCheckNodePort")) {
        match admission.claims.find_free_node_port(&taken) {
            Some(free) => set(service, "spec.healthCheckNodePort", free),
            None => causes.push(full()),
        }
    }
    causes
}

fn needs_health_port(service: &Value) -> bool {
    text(service, "spec.type") == "LoadBalancer" && text(service, "spec.externalTrafficPolicy") == "Local"
}

fn check_wanted(admission: &Admission<'_>) -> Vec<Cause> {
    let (service, claims) = (&*admission.object, admission.claims);
    let ours = admission.old.map(node_ports).unwrap_or_default();
    let mut causes = Vec::new();
    for (index, port) in items(service, "spec.ports").iter().enumerate() {
        let Some(wanted) = port["nodePort"].as_u64().filter(|wanted| *wanted != 0) else { continue };
        let field = format!("spec.ports[{index}].nodePort");
        let kind = text(service, "spec.type");
        let number = u16::try_from(wanted).unwrap_or_default();
        let (low, high) = claims.node_ports().into_inner();
        if !has_node_ports(kind) {
            causes.push(Cause::forbidden(field, &format!("may not be used when `type` is '{kind}'")));
        } else if !(low..=high).contains(&number) {
            let why =
                format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
            causes.push(Cause::invalid(field, &json!(wanted), &why));
        } else if !ours.contains(&number) && claims.holder(Claim::NodePort(number)).is_some() {
            causes.push(Cause::invalid(field, &json!(wanted), "provided port is already allocated"));
        }
    }
    causes
}
