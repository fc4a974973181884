//! Nodes, and the ranges that cluster IPs come from: what is not namespaced.

use ipnetwork::IpNetwork;

use super::objects::{self, NodeSpec, NodeStatus};
use super::{FieldError, Names, Object, PassedOver, Verdict, ip, prefix};
use crate::model::{Condition, Node};

/// The taint of a node that the cluster autoscaler is about to delete.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Converts a Node.
///
/// # Errors
/// The first address that cannot be used.
pub fn node(object: &objects::Node, names: &mut Names) -> Result<Verdict, FieldError> {
    let mut addresses = Vec::new();
    for wanted in ["InternalIP", "ExternalIP"] {
        for (index, entry) in object.status.addresses.iter().enumerate() {
            if entry.address_type == wanted {
                let address = ip(&entry.address);
                addresses
                    .push(address.map_err(|fault| fault.at(format!("status.addresses[{index}].address")))?);
            }
        }
    }
    let zone = object.metadata.labels.zone.as_deref().filter(|zone| !zone.is_empty());
    let mut passed_over = PassedOver::default();
    let pod_cidrs = pod_cidrs(&object.spec, &mut passed_over);
    let node = Node {
        name: object.metadata.name.as_deref().unwrap_or_default().into(),
        addresses,
        zone: zone.map(|zone| names.share(zone)),
        pod_cidrs,
        is_leaving: object.metadata.deletion_timestamp.is_some()
            || object.spec.taints.iter().any(|taint| taint.key == TO_BE_DELETED),
        network_unavailable: network_unavailable(&object.status),
    };
    Ok(passed_over.verdict(Object::Node(node.into())))
}

fn network_unavailable(status: &NodeStatus) -> Condition {
    let found = status.conditions.iter().find(|condition| condition.condition_type == "NetworkUnavailable");
    found
        .map(|it| Condition { status: it.status.as_str().into(), reason: it.reason.as_str().into() })
        .unwrap_or_default()
}

/// The API server fills in both fields; a manifest written by hand may have `podCIDR` alone.
fn pod_cidrs(spec: &NodeSpec, passed_over: &mut PassedOver) -> Vec<IpNetwork> {
    if spec.pod_cidrs.is_empty() && !spec.pod_cidr.is_empty() {
        let range = prefix(&spec.pod_cidr).map_err(|fault| fault.at("spec.podCIDR"));
        return passed_over.take(range).into_iter().collect();
    }
    let read = spec.pod_cidrs.iter().enumerate();
    let read =
        read.map(|(index, text)| prefix(text).map_err(|fault| fault.at(format!("spec.podCIDRs[{index}]"))));
    read.filter_map(|range| passed_over.take(range)).collect()
}

/// Converts a `ServiceCIDR`.
///
/// # Errors
/// The first range that cannot be used: without it, what nobody serves in it would be let through.
pub fn service_cidr(object: &objects::ServiceCidr, _: &mut Names) -> Result<Verdict, FieldError> {
    let cidrs = object.spec.cidrs.iter().enumerate();
    let ranges =
        cidrs.map(|(index, text)| prefix(text).map_err(|fault| fault.at(format!("spec.cidrs[{index}]"))));
    Ok(PassedOver::default().verdict(Object::ServiceCidr(ranges.collect::<Result<_, _>>()?)))
}

#[cfg(test)]
mod tests;
