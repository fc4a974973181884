use serde_json::{Value, json};

use super::*;
use crate::convert::tests::{ips, names, prefixes, texts};

fn converted(object: Value) -> (Node, Vec<String>) {
    let object: objects::Node = serde_json::from_value(object).unwrap();
    match node(&object, &mut names()) {
        Ok(Verdict::Ours(Object::Node(node), passed_over)) => (*node, texts(passed_over)),
        other => panic!("{other:?}"),
    }
}

/// kp:J2
#[test]
fn internal_addresses_come_before_external_ones() {
    let (node, _) = converted(json!({"status": {"addresses": [
        {"type": "Hostname", "address": "node-a"}, {"type": "ExternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "10.0.0.5"}, {"type": "InternalIP", "address": "fd00::5"},
    ]}}));
    assert_eq!(node, Node { addresses: ips(&["10.0.0.5", "fd00::5", "192.0.2.1"]), ..Node::default() });
}

#[test]
fn of_its_conditions_the_one_that_is_the_networks_counts() {
    let said =
        |conditions: Value| converted(json!({"status": {"conditions": conditions}})).0.network_unavailable;
    let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
    let network = json!({"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"});
    let wanted = Condition { status: "True".into(), reason: "NoRouteCreated".into() };
    assert_eq!(said(json!([ready, network])), wanted);
    assert_eq!(said(json!([ready])), Condition::default());
    assert_eq!(said(Value::Null), Condition::default());
}

#[test]
fn an_empty_zone_is_no_zone() {
    let zone = |labels: Value| converted(json!({"metadata": {"labels": labels}})).0.zone;
    assert_eq!(zone(json!({"topology.kubernetes.io/zone": "a"})).as_deref(), Some("a"));
    assert_eq!(zone(json!({"topology.kubernetes.io/zone": ""})), None);
    assert_eq!(zone(json!({"failure-domain.beta.kubernetes.io/zone": "a"})), None);
}

#[test]
fn pod_ranges_are_read_from_either_field() {
    let (node, _) =
        converted(json!({"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00::/64"]}}));
    assert_eq!(node.pod_cidrs, prefixes(&["10.1.0.0/24", "fd00::/64"]));
    assert_eq!(
        converted(json!({"spec": {"podCIDR": "10.1.0.0/24"}})).0.pod_cidrs,
        prefixes(&["10.1.0.0/24"])
    );
    let (node, passed_over) = converted(json!({"spec": {"podCIDRs": ["x", "010.1.0.9/24"]}}));
    assert_eq!(node.pod_cidrs, prefixes(&["10.1.0.0/24"]));
    assert_eq!(passed_over, ["spec.podCIDRs[0]: \"x\" is not an IP prefix such as 10.0.0.0/8"]);
}

/// kp:G4: whatever the taint's value and effect.
#[test]
fn a_node_is_leaving_when_it_is_deleted_or_the_autoscaler_is_about_to() {
    let leaving = |object: Value| converted(object).0.is_leaving;
    assert!(!leaving(json!({"spec": {"taints": null}})));
    assert!(!leaving(
        json!({"metadata": {"deletionTimestamp": null}, "spec": {"taints": [{"key": "other"}]}})
    ));
    assert!(leaving(json!({"metadata": {"deletionTimestamp": "2026-05-01T12:00:00Z"}})));
    let taint = json!({"key": "ToBeDeletedByClusterAutoscaler", "value": "17", "effect": "NoSchedule"});
    assert!(leaving(json!({"spec": {"taints": [{"key": "other"}, taint]}})));
}

/// kp:A9
#[test]
fn the_ranges_of_services_are_canonical() {
    let converted = |cidrs: Value| {
        let object: objects::ServiceCidr = serde_json::from_value(json!({"spec": {"cidrs": cidrs}})).unwrap();
        service_cidr(&object, &mut names()).map_err(|error| error.to_string())
    };
    let expected = Object::ServiceCidr(prefixes(&["10.96.0.0/12", "fd00::/112"]));
    assert_eq!(converted(json!(["010.96.0.1/12", "fd00:0::1/112"])), Ok(Verdict::Ours(expected, vec![])));
    let error = converted(json!(["10.96.0.0/12", "10.96.0.0"])).unwrap_err();
    assert_eq!(error, "spec.cidrs[1]: \"10.96.0.0\" is not an IP prefix such as 10.0.0.0/8");
}
