//! Bandwidth: what the kernel says about the limits, and that bytes wait for them.

use crate::node::{Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::process::Invocation;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// As containerd writes it: bits, in Go's spelling.
fn limits(ingress: (u64, u64), egress: (u64, u64)) -> Value {
    json!({"runtimeConfig": {"bandwidth": {"IngressRate": ingress.0, "IngressBurst": ingress.1,
        "EgressRate": egress.0, "EgressBurst": egress.1}}})
}

/// What `tc`, which we did not write, says about the root of a link.
fn root(inside: &Namespace, link: &str) -> Value {
    let shown = Invocation::foreign("tc")
        .args(["-s", "-j", "qdisc", "show", "dev", link, "root"])
        .run(inside)
        .unwrap();
    assert!(shown.status.success(), "{}", shown.stderr);
    serde_json::from_str::<Value>(&shown.stdout).unwrap()[0].clone()
}

fn is_limited(root: &Value, rate: u64, burst: u64) {
    assert_eq!((&root["kind"], root["options"]["rate"].as_u64()), (&json!("tbf"), Some(rate)), "{root}");
    let has = root["options"]["burst"].as_u64().unwrap();
    assert!(has.abs_diff(burst) <= 8, "{root}");
}

/// cni:2.4: each direction has its own limit, in bits; and what tc shows is in bytes.
#[test]
fn each_direction_has_its_limit() {
    for mode in ["bridge", "ptp"] {
        let (node, pod) = (Node::new(), Pod::new());
        let mut keys = limits((8_000_000, 800_000), (16_000_000, 1_600_000));
        keys["mode"] = json!(mode);
        let added = node.add("c1", &pod, &keys);
        is_limited(&root(&node.namespace, &node.host_links()[0]), 1_000_000, 100_000);
        is_limited(&root(&pod.namespace, "eth0"), 2_000_000, 200_000);
        keys["prevResult"] = serde_json::from_str(&added).unwrap();
        node.succeeds("CHECK", ("c1", &pod.path()), &keys);
        let lost =
            Invocation::foreign("tc").args(["qdisc", "del", "dev", "eth0", "root"]).run(&pod.namespace);
        assert!(lost.unwrap().status.success());
        let failure = node.fails(108, "CHECK", ("c1", &pod.path()), &keys);
        let details = failure["details"].as_str().unwrap();
        assert_eq!(details, "what the pod sends is not limited to 2000000 bytes a second");
    }
}

#[test]
fn one_direction_alone_leaves_the_other_free() {
    let (node, pod) = (Node::new(), Pod::new());
    // The burst that containerd writes when nobody asked for one.
    node.add("c1", &pod, &limits((0, 0), (8_000_000, u64::from(u32::MAX))));
    assert_eq!(root(&node.namespace, &node.host_links()[0])["kind"], "noqueue");
    is_limited(&root(&pod.namespace, "eth0"), 1_000_000, 100_000);
}

/// The keys of the reference plugin's configuration; what the runtime says for one pod counts before them.
#[test]
fn a_limit_of_the_configuration_holds_for_every_pod_without_its_own() {
    let (node, usual, special) = (Node::new(), Pod::new(), Pod::new());
    let configured = json!({"ingressRate": 8_000_000, "ingressBurst": 800_000});
    node.add("usual", &usual, &configured);
    is_limited(&root(&node.namespace, &node.host_links()[0]), 1_000_000, 100_000);
    let mut own = limits((0, 0), (16_000_000, 1_600_000));
    own.as_object_mut().unwrap().extend(configured.as_object().unwrap().clone());
    node.add("special", &special, &own);
    is_limited(&root(&special.namespace, "eth0"), 2_000_000, 200_000);
    let kinds = node.host_links().into_iter().map(|link| root(&node.namespace, &link)["kind"].clone());
    assert_eq!(kinds.filter(|kind| kind == "tbf").count(), 1);
    let failure = node.fails(7, "ADD", ("c3", &Pod::new().path()), &json!({"egressRate": 5}));
    assert!(failure["msg"].as_str().unwrap().contains("egressRate is 5 and egressBurst is 0"), "{failure}");
}

/// Sends so many bytes to a listener, all of which arrive.
fn transfer((from, to): (&Namespace, &Namespace), address: &str, bytes: usize) {
    let listener = to.enter(|| TcpListener::bind((address, 5001))).unwrap().unwrap();
    let mut sender = from.enter(|| TcpStream::connect((address, 5001))).unwrap().unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let reading = std::thread::spawn(move || receiver.read_to_end(&mut Vec::new()).unwrap());
    sender.write_all(&vec![7; bytes]).unwrap();
    drop(sender);
    assert_eq!(reading.join().unwrap(), bytes);
}

/// The kernel counts how often there was no token for the next packet. The burst alone is spent in the time of a few packets.
#[test]
fn bytes_above_the_burst_wait_for_the_rate() {
    let (node, pod) = (Node::new(), Pod::new());
    // 2 MB a second, 64 KiB at once.
    node.add("c1", &pod, &limits((16_000_000, 524_288), (16_000_000, 524_288)));
    let (here, there) = ((&node.namespace, "10.244.1.1"), (&pod.namespace, "10.244.1.2"));
    for (from, to, link) in [(here, there, node.host_links()[0].as_str()), (there, here, "eth0")] {
        let before = root(from.0, link);
        assert_eq!(before["overlimits"], 0, "{before}");
        transfer((from.0, to.0), to.1, 1_065_536);
        let after = root(from.0, link);
        let (sent, waits) = (after["bytes"].as_u64().unwrap(), after["overlimits"].as_u64().unwrap());
        assert!(sent > 1_065_536 && waits > 0, "{link}: {after}");
    }
}

/// cni:D1: they go with the pair; a limit that cannot be set takes all back.
#[test]
fn limits_leave_nothing_behind() {
    let (node, pod) = (Node::new(), Pod::new());
    node.add("c1", &pod, &limits((8_000_000, 800_000), (8_000_000, 800_000)));
    node.del("c1", &pod.path(), &json!({}));
    let links = node.ip(&["link"]);
    let names: Vec<_> = links.as_array().unwrap().iter().map(|link| link["ifname"].clone()).collect();
    assert_eq!(names, ["lo", "cni0"]);
}

/// cni:A3: a pair that another plugin made is limited at both ends; what is no pair is refused.
#[test]
fn an_interface_of_another_plugin_is_limited() {
    let (node, pod) = (Node::new(), Pod::new());
    let path = pod.path();
    node.ip(&["link", "add", "other0", "type", "veth", "peer", "eth0", "netns", &path]);
    let mut keys = limits((8_000_000, 800_000), (16_000_000, 1_600_000));
    keys["prevResult"] =
        json!({"cniVersion": "1.0.0", "ips": [], "interfaces": [{"name": "eth0", "sandbox": path}]});
    node.add("c1", &pod, &keys);
    is_limited(&root(&node.namespace, "other0"), 1_000_000, 100_000);
    is_limited(&root(&pod.namespace, "eth0"), 2_000_000, 200_000);
    pod.ip(&["link", "add", "br0", "type", "bridge"]);
    keys["prevResult"]["interfaces"][0]["name"] = json!("br0");
    let output = node.call("ADD", "c2", &path, &keys).env("CNI_IFNAME", "br0").run(&node.namespace).unwrap();
    assert!(output.stdout.contains("at the node's end of the pod's interface"), "{}", output.stdout);
}
