//! Host ports: whose a port is, who may not have it, and how it comes back.

use crate::node::Pod;
use crate::site::{NODE, SECOND, Site, answer, ports};
use heddle_tests::traffic::{Server, Transport};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn tcp(port: u16, address: &str) -> Value {
    ports(&[(port, 80, "tcp", address)])
}

/// cni:#17: the second one is refused with the port and the owner, before anything is made for it.
#[test]
fn a_port_that_a_pod_has_is_refused_to_others() {
    let site = Site::new();
    let (first, second) = (Pod::new(), Pod::new());
    site.node.add("first", &first, &tcp(8080, ""));
    let before = (site.node.host_links(), site.node.leases(), site.elements());
    for (address, says) in [
        ("", "tcp port 8080 of the node is held by pods/first/eth0 default/first"),
        (NODE[0], "tcp port 8080 of 192.0.2.1 of the node is held by"),
        ("::", "tcp port 8080 of the node is held by"),
    ] {
        let failure = site.node.fails(111, "ADD", ("second", &second.path()), &tcp(8080, address));
        assert!(failure["msg"].as_str().unwrap().starts_with(says), "{failure}");
        assert_eq!((site.node.host_links(), site.node.leases(), site.elements()), before);
    }
    site.node.del("first", &first.path(), &json!({}));
    site.node.add("second", &second, &tcp(8080, ""));
}

/// The HostPort case of Kubernetes' conformance tests: the same port by another address, and by another protocol.
#[test]
fn the_same_port_of_another_address_or_protocol_is_another_port() {
    let site = Site::new();
    let pods = [Pod::new(), Pod::new(), Pod::new()];
    let mut servers = Vec::new();
    for (pod, (name, protocol, address)) in
        pods.iter().zip([("pod1", "tcp", NODE[0]), ("pod2", "tcp", SECOND[0]), ("pod3", "udp", SECOND[0])])
    {
        site.node.add(name, pod, &ports(&[(54323, 8080, protocol, address)]));
        for transport in [Transport::Tcp, Transport::Udp] {
            servers.push(Server::start(&pod.namespace, name, transport, 8080).unwrap());
        }
    }
    for from in [&site.outside, &site.node.namespace] {
        assert_eq!(answer(from, Transport::Tcp, (NODE[0], 54323)).0, "pod1");
        assert_eq!(answer(from, Transport::Tcp, (SECOND[0], 54323)).0, "pod2");
        assert_eq!(answer(from, Transport::Udp, (SECOND[0], 54323)).0, "pod3");
    }
    site.node.fails(111, "ADD", ("pod4", &Pod::new().path()), &tcp(54323, ""));
}

/// cni:P1: all come at once, for one port, by one address and by all: one gets it, and nothing is left of the others.
#[test]
fn of_many_that_want_one_port_at_once_one_gets_it() {
    let site = Site::new();
    let pods: Vec<_> = (0..8).map(|i| (format!("c{i}"), Pod::new())).collect();
    let call = |(i, (name, pod)): (usize, &(String, Pod))| {
        let address = if i % 2 == 0 { "" } else { NODE[0] };
        site.node.call("ADD", name, &pod.path(), &tcp(8080, address)).start(&site.node.namespace).unwrap()
    };
    let mut running: Vec<_> = pods.iter().enumerate().map(call).collect();
    let mut served = 0;
    for process in &mut running {
        if process.wait(heddle_tests::patience::PATIENCE).unwrap().success() {
            served += 1;
        } else {
            assert!(process.stdout().contains("\"code\":111,"), "{}", process.stdout());
        }
    }
    assert_eq!((served, site.node.host_links().len(), site.node.leases().len()), (1, 1, 1));
    let owners: std::collections::BTreeSet<_> =
        site.elements().iter().map(|e| e.split("pods/").nth(1).unwrap()[..2].to_owned()).collect();
    assert_eq!(owners.len(), 1, "{:?}", site.elements());
}

/// Different ports come at once, too: everybody's edit is overtaken by somebody, and none is lost.
#[test]
fn many_that_want_different_ports_at_once_get_them() {
    let site = Site::new();
    let pods: Vec<_> = (0..20).map(|i| (format!("c{i}"), Pod::new(), tcp(8000 + i, ""))).collect();
    let call = |(name, pod, keys): &(String, Pod, Value)| {
        site.node.call("ADD", name, &pod.path(), keys).start(&site.node.namespace).unwrap()
    };
    let mut running: Vec<_> = pods.iter().map(call).collect();
    for process in &mut running {
        let status = process.wait(heddle_tests::patience::PATIENCE).unwrap();
        assert!(status.success(), "{}", process.stdout());
    }
    // A port and a hairpin in each family.
    assert_eq!(site.elements().len(), 80);
}

/// cni:#10: containerd forgets the DEL of an ADD that never ended, and never calls GC.
#[test]
fn the_port_of_a_pod_that_is_gone_without_a_del_is_free() {
    let site = Site::new();
    let dead = Pod::new();
    site.node.add("dead", &dead, &tcp(8080, ""));
    drop(dead);
    heddle_tests::patience::eventually("the link to go", heddle_tests::patience::PATIENCE, || {
        let links = site.node.host_links();
        if links.is_empty() { Ok(()) } else { Err(format!("{links:?}")) }
    })
    .unwrap();
    let pod = Pod::new();
    site.node.add("next", &pod, &tcp(8080, ""));
    let _server = Server::start(&pod.namespace, "next", Transport::Tcp, 80).unwrap();
    assert_eq!(answer(&site.outside, Transport::Tcp, (NODE[0], 8080)).0, "next");
    // The late DEL of the old one takes nothing from the new one.
    site.node.del("dead", "", &json!({}));
    assert_eq!(answer(&site.outside, Transport::Tcp, (NODE[0], 8080)).0, "next");
}

/// cni:P2: killed wherever it was, an ADD leaves no port behind that its DEL does not find; and neither does a DEL.
#[test]
fn a_killed_add_or_del_leaves_no_port() {
    let site = Site::new();
    let pod = Pod::new();
    let keys = ports(&[(8080, 80, "tcp", ""), (8053, 53, "udp", "")]);
    for step in 0..40 {
        let command = if step % 2 == 0 { "ADD" } else { "DEL" };
        if command == "DEL" {
            site.node.add("c1", &pod, &keys);
        }
        let mut process =
            site.node.call(command, "c1", &pod.path(), &keys).start(&site.node.namespace).unwrap();
        // Nothing is asserted about time: the wait only spreads the kills over the whole run.
        let when = Instant::now() + Duration::from_micros(200 * step);
        while Instant::now() < when {
            std::hint::spin_loop();
        }
        process.kill().unwrap();
        site.node.del("c1", &pod.path(), &json!({}));
        assert_eq!(
            (site.elements().len(), site.node.host_links().len(), site.node.leases().len()),
            (0, 0, 0)
        );
    }
}

/// cni:G1, cni:G2: those of attachments that are gone, and of this network alone.
#[test]
fn gc_removes_the_ports_of_attachments_that_are_gone() {
    let site = Site::new();
    let (kept, gone, elsewhere) = (Pod::new(), Pod::new(), Pod::new());
    site.node.add("kept", &kept, &tcp(8080, ""));
    site.node.add("gone", &gone, &tcp(8081, ""));
    let mut other = tcp(8082, "");
    other["name"] = json!("other");
    other["bridge"] = json!("cni1");
    other["ipam"] = json!({"type": "heddle", "subnet": "10.8.0.0/24"});
    site.node.add("elsewhere", &elsewhere, &other);
    let owners = || -> std::collections::BTreeSet<String> {
        let owner = |element: &String| element.split('/').nth(1).map(str::to_owned);
        site.elements().iter().filter_map(owner).collect()
    };
    site.node.gc(&json!({}));
    assert_eq!(owners().len(), 3, "without a list nothing goes");
    site.node.gc(&json!({"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]}));
    assert_eq!(owners().into_iter().collect::<Vec<_>>(), ["elsewhere", "kept"]);
}

/// cni:C1: what is no part of the result; a ruleset that somebody flushed is told, and made whole by the next pod.
#[test]
fn a_check_tells_what_became_of_the_ports() {
    let site = Site::new();
    let pod = Pod::new();
    let mut keys = ports(&[(8080, 80, "tcp", ""), (53, 53, "udp", NODE[0])]);
    keys["prevResult"] = serde_json::from_str(&site.node.add("c1", &pod, &keys)).unwrap();
    site.node.succeeds("CHECK", ("c1", &pod.path()), &keys);
    for (damage, says) in [
        (
            "delete element ip heddle-hostports ports { tcp . 8080 }",
            "tcp port 8080 of the node does not lead to 10.244.1.2:80",
        ),
        ("flush chain ip6 heddle-hostports lead", "table ip6 heddle-hostports was edited"),
        ("flush ruleset", "udp port 53 of 192.0.2.1 of the node does not lead to 10.244.1.2:53"),
        ("flush ruleset", "table ip heddle-hostports is missing"),
    ] {
        site.nft(&damage.split(' ').collect::<Vec<_>>());
        let failure = site.node.fails(108, "CHECK", ("c1", &pod.path()), &keys);
        assert!(failure["details"].as_str().unwrap().contains(says), "{damage}: {failure}");
    }
    site.node.add("c2", &Pod::new(), &tcp(8081, ""));
    assert_eq!(site.nft(&["list", "chains"]).matches("chain lead").count(), 2);
}

/// What is asked for and cannot be had is told by its key, and nothing is made.
#[test]
fn a_port_that_can_lead_nowhere_is_refused() {
    let site = Site::new();
    let pod = Pod::new();
    let four = json!({"type": "heddle", "subnet": "10.8.0.0/24"});
    for (code, address, says) in
        [(2, "::1", "hostIP of port 80 is ::1"), (7, "2001:db8::1", "hostIP of port 80 is 2001:db8::1")]
    {
        let mut keys = tcp(80, address);
        keys["ipam"] = four.clone();
        let failure = site.node.fails(code, "ADD", ("c1", &pod.path()), &keys);
        assert!(failure["msg"].as_str().unwrap().contains(says), "{failure}");
        assert_eq!((site.node.host_links().len(), site.node.leases().len()), (0, 0));
    }
    let twice = ports(&[(80, 80, "tcp", ""), (80, 81, "tcp", NODE[0])]);
    site.node.fails(7, "ADD", ("c1", &pod.path()), &twice);
}
