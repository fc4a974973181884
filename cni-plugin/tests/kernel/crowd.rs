//! Many at once, and the longest and strangest names.

use crate::node::{Node, Pod, addresses};
use heddle_tests::patience::PATIENCE;
use heddle_tests::process::Invocation;
use serde_json::json;
use std::collections::BTreeSet;

/// cni:P1, cni:#33, cni:#34: all are started before the first one is waited for.
#[test]
fn five_hundred_pods_at_once_get_five_hundred_addresses() {
    let node = Node::new();
    let ipam = json!({"ipam": {"type": "heddle", "ranges": [[{"subnet": "10.244.0.0/16"}], [{"subnet": "fd00:244::/64"}]]}});
    let pods: Vec<_> = (0..500).map(|i| (format!("c{i}"), Pod::new())).collect();
    let start = |(name, pod): &(String, Pod)| {
        node.call("ADD", name, &pod.path(), &ipam).start(&node.namespace).unwrap()
    };
    let running: Vec<_> = pods.iter().map(start).collect();
    let mut all = BTreeSet::new();
    for mut process in running {
        let status = process.wait(3 * PATIENCE).unwrap();
        assert!(status.success(), "{}", process.stdout());
        all.extend(addresses(&process.stdout()));
    }
    assert_eq!((all.len(), node.host_links().len(), node.leases().len()), (1000, 500, 500));
}

/// cni:E7: as long as the kernel takes them, and with every character that the rules allow.
#[test]
fn interfaces_have_any_name_that_the_rules_allow() {
    let (node, pod) = (Node::new(), Pod::new());
    let names = ["fifteen-bytes-x", "a", "eth0@0", "netz-ü", "\"'\\;"];
    let call = |command: &str, name: &str| {
        let call = node
            .call(command, "c1", &pod.path(), &json!({"isDefaultGateway": false}))
            .env("CNI_IFNAME", name);
        let output = call.run(&node.namespace).unwrap();
        assert!(output.status.success(), "{command} {name}: {}", output.stdout);
    };
    for name in names {
        call("ADD", name);
        let listed =
            Invocation::foreign("ip").args(["-j", "link", "show", "dev", name]).run(&pod.namespace).unwrap();
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
        assert_eq!(listed[0]["ifname"], name);
    }
    for name in names {
        call("DEL", name);
    }
    assert_eq!((node.leases(), node.host_links()), (Vec::new(), Vec::new()));
}
