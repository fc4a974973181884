//! VLANs on the bridge: whether this kernel has them, and what becomes of an ADD if not.

use crate::node::{Node, Pod};
use serde_json::{Value, json};

const WITHOUT: &str =
    "bridges of this kernel know no VLANs: it was built without CONFIG_BRIDGE_VLAN_FILTERING";

/// What iproute2 sees of a bridge that it made: a kernel that knows VLANs on bridges says which one new ports
/// get. (`vlan_filtering` is there in any, and 0.)
fn kernel_has_vlans() -> bool {
    let node = Node::new();
    node.ip(&["link", "add", "br0", "type", "bridge"]);
    node.ip(&["-d", "link", "show", "br0"])[0]["linkinfo"]["info_data"]["vlan_default_pvid"].is_number()
}

/// cni:A4, cni:T1: before anything is made, STATUS says it as ADD does.
fn refused(keys: &Value, msg: &str) {
    let (node, pod) = (Node::new(), Pod::new());
    let links = || (node.ip(&["-d", "link"]), pod.ip(&["-d", "link"]));
    let forwards = || crate::node::setting(&node.namespace, "net/ipv4/ip_forward");
    let before = (links(), forwards());
    for (code, command) in [(2, "ADD"), (50, "STATUS")] {
        let failure = node.fails(code, command, ("c1", &pod.path()), keys);
        assert_eq!((&failure["msg"], &failure["details"]), (&json!(msg), &json!(WITHOUT)), "{command}");
    }
    assert_eq!(((links(), forwards()), node.leases().len()), (before, 0));
    assert!(!node.table().exists());
    node.del("c1", &pod.path(), keys);
}

/// What CHECK says when the port has lost what it was given; a kernel without VLANs never gave it.
fn checked(keys: &Value, difference: &str) {
    let (node, pod) = (Node::new(), Pod::new());
    let mut config = keys.clone();
    config["isGateway"] = json!(false);
    config["isDefaultGateway"] = json!(false);
    let mut plain = config.clone();
    (plain["vlan"], plain["vlanTrunk"]) = (json!(0), json!([]));
    config["prevResult"] = serde_json::from_str(&node.add("c1", &pod, &plain)).unwrap();
    let failure = node.fails(108, "CHECK", ("c1", &pod.path()), &config);
    let details = failure["details"].as_str().unwrap();
    assert!(details.contains("bridge cni0 does not tell VLANs apart"), "{details}");
    assert!(details.contains(difference), "{details}");
}

/// On a kernel with VLANs: the gateway is on a link of its own, and the attachment passes its check.
fn attached(keys: &Value) {
    let (node, pod) = (Node::new(), Pod::new());
    node.status(keys);
    let mut config = keys.clone();
    config["prevResult"] = serde_json::from_str(&node.add("c1", &pod, keys)).unwrap();
    node.succeeds("CHECK", ("c1", &pod.path()), &config);
    if !keys["vlan"].is_null() {
        let gateway = node.ip(&["address", "show", "cni0.7"]);
        assert_eq!(gateway[0]["addr_info"][0]["local"], "10.244.1.1");
    }
}

/// One of two worlds, and each is tested: this kernel's, as a program of others sees it, says which.
#[test]
fn vlans_are_there_or_refused_with_the_key_and_the_kernels_option() {
    let cases = [
        (json!({"vlan": 7, "preserveDefaultVlan": false}), "unsupported field: vlan is 7"),
        (
            json!({"vlanTrunk": [{"minID": 10, "maxID": 12}, {"id": 20}]}),
            "unsupported field: vlanTrunk is 10-12,20",
        ),
    ];
    let has_vlans = kernel_has_vlans();
    for (keys, msg) in cases {
        if has_vlans {
            attached(&keys);
        } else {
            refused(&keys, msg);
        }
    }
}

/// cni:C1: the VLANs of a port are read back.
#[test]
fn a_check_misses_vlans_that_a_port_does_not_have() {
    checked(&json!({"vlan": 7}), "the port is not, or not so, in VLAN 7");
    checked(
        &json!({"vlanTrunk": [{"minID": 10, "maxID": 12}]}),
        "the port is not, or not so, in VLAN 10, 11, 12",
    );
}
