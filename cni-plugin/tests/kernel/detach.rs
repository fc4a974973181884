//! DEL, and everything after which a DEL must find what is left.

use crate::node::{Node, Pod};
use serde_json::json;
use std::time::{Duration, Instant};

/// cni:E3, cni:D1, cni:D2: DEL with every broken form of CNI_NETNS, twice, and without any ADD.
#[test]
fn del_succeeds_whatever_is_gone_and_gives_the_address_back() {
    let node = Node::new();
    let own_file = std::env::current_exe().unwrap().display().to_string();
    for path in ["", "/var/run/netns/gone", "/proc/self/ns/net", "/dev/null", &own_file] {
        node.del("never-added", path, &json!({}));
        let pod = Pod::new();
        node.add("c1", &pod, &json!({}));
        assert_eq!(node.host_links().len(), 1);
        node.del("c1", path, &json!({}));
        assert_eq!(node.host_links().len(), 0, "{path:?}");
        assert_eq!(node.leases(), Vec::<String>::new(), "{path:?}");
        node.del("c1", path, &json!({}));
    }
}

#[test]
fn del_succeeds_when_the_namespace_is_gone() {
    let node = Node::new();
    let pod = Pod::new();
    let path = pod.path();
    node.add("c1", &pod, &json!({}));
    drop(pod);
    node.del("c1", &path, &json!({}));
    assert_eq!((node.host_links().len(), node.leases().len()), (0, 0));
}

/// cni:P2: killed at whatever instruction it had reached, DEL or GC cleans up and ADD works.
#[test]
fn a_killed_add_leaves_nothing_that_del_or_gc_does_not_find() {
    for mode in ["bridge", "ptp"] {
        let (node, pod, config) = (Node::new(), Pod::new(), json!({"mode": mode}));
        for step in 0..40 {
            let mut process = node.call("ADD", "c1", &pod.path(), &config).start(&node.namespace).unwrap();
            // Nothing is asserted about time: the wait only spreads the kills over the whole run.
            let when = Instant::now() + Duration::from_micros(150 * step);
            while Instant::now() < when {
                std::hint::spin_loop();
            }
            process.kill().unwrap();
            if step % 2 == 0 {
                node.del("c1", &pod.path(), &config);
            } else {
                node.gc(&json!({"mode": mode, "cni.dev/valid-attachments": []}));
            }
            assert_eq!((node.host_links().len(), node.leases().len()), (0, 0), "{mode} {step}");
            assert_eq!(pod.ip(&["link"]).as_array().unwrap().len(), 1);
        }
        node.add("c1", &pod, &config);
    }
}

/// cni:A6: kubelet tries a failed pod again as a new container, before or without a DEL of the old one.
#[test]
fn what_a_dead_container_left_is_not_in_the_way_of_the_next() {
    let node = Node::new();
    let (old, new) = (Pod::new(), Pod::new());
    let ipam = json!({"ipam": {"type": "heddle", "subnet": "10.1.0.0/29"}});
    node.add("dead", &old, &ipam);
    node.add("next", &new, &ipam);
    node.del("dead", "", &ipam);
    assert_eq!((node.leases(), node.host_links().len()), (vec!["next/eth0".to_owned()], 1));
    assert_eq!(new.ip(&["link", "show", "eth0"])[0]["ifname"], "eth0");
}
