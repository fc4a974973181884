//! Mode `ptp`: pods without a bridge, each behind a route of its own.

use crate::attach::reaches;
use crate::node::{Node, Pod, addresses};
use heddle_tests::process::Invocation;
use heddle_tests::traffic::{Server, Transport};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A node with an address of each family, and the way to all others.
fn node(number: u8) -> Node {
    let node = Node::new();
    node.ip(&["link", "add", "up0", "type", "veth", "peer", "up1"]);
    connect(&node, "up0", number);
    node.ip(&["link", "set", "up1", "up"]);
    node
}

fn connect(node: &Node, uplink: &str, number: u8) {
    node.ip(&["link", "set", uplink, "up"]);
    node.ip(&["address", "add", &format!("192.0.2.{number}/24"), "dev", uplink]);
    node.ip(&["address", "add", &format!("2001:db8:2::{number}/64"), "dev", uplink, "nodad"]);
}

fn ptp(number: u8, families: &str) -> Value {
    let four = json!([{"subnet": format!("10.7.{number}.0/24")}]);
    let six = json!([{"subnet": format!("fd07:{number}::/64")}]);
    let ranges = match families {
        "IPv4" => json!([four]),
        "IPv6" => json!([six]),
        _ => json!([six, four]),
    };
    json!({"mode": "ptp", "isDefaultGateway": true, "ipam": {"type": "heddle", "ranges": ranges}})
}

/// cni:2.3, cni:#26: a pod reaches itself, its neighbour and the node, and the node reaches it; at once, without a search
/// for duplicates and without a question for an Ethernet address.
#[test]
fn pods_and_node_reach_pods_at_once() {
    for families in ["IPv4", "IPv6", "both"] {
        let (node, config) = (node(1), ptp(1, families));
        let (here, there) = (Pod::new(), Pod::new());
        let mine = addresses(&node.add("here", &here, &config));
        let theirs = addresses(&node.add("there", &there, &config));
        let _pods = Server::start(&there.namespace, "server", Transport::Tcp, 8080).unwrap();
        let _nodes = Server::start(&node.namespace, "server", Transport::Tcp, 8080).unwrap();
        for address in &theirs {
            [&here, &there].iter().for_each(|pod| reaches(&pod.namespace, *address));
            reaches(&node.namespace, *address);
            let nodes: &str = if address.is_ipv4() { "192.0.2.1" } else { "2001:db8:2::1" };
            reaches(&here.namespace, nodes.parse().unwrap());
        }
        assert_eq!(mine.len(), if families == "both" { 2 } else { 1 });
        let asked = |place: &Value| {
            let entries = place.as_array().unwrap().clone();
            entries
                .iter()
                .any(|n| n["dev"] != "up0" && n["dev"] != "up1" && n["state"] != json!(["PERMANENT"]))
        };
        assert!(!asked(&node.ip(&["neigh"])) && !asked(&here.ip(&["neigh"])), "{}", node.ip(&["neigh"]));
    }
}

/// Two nodes on one wire, each with a route to the other's pods: no NAT between them, and no link-local address in the
/// way.
#[test]
fn pods_reach_pods_of_another_node_by_routes() {
    let (one, two) = (Node::new(), Node::new());
    let there = two.namespace.path().display().to_string();
    one.ip(&["link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", &there]);
    connect(&one, "up0", 1);
    connect(&two, "up0", 2);
    for (node, number) in [(&one, 2), (&two, 1)] {
        node.ip(&["route", "add", &format!("10.7.{number}.0/24"), "via", &format!("192.0.2.{number}")]);
        node.ip(&[
            "-6",
            "route",
            "add",
            &format!("fd07:{number}::/64"),
            "via",
            &format!("2001:db8:2::{number}"),
        ]);
    }
    let (mine, theirs) = (Pod::new(), Pod::new());
    let ours = addresses(&one.add("mine", &mine, &ptp(1, "both")));
    let others = addresses(&two.add("theirs", &theirs, &ptp(2, "both")));
    let _mine = Server::start(&mine.namespace, "server", Transport::Tcp, 8080).unwrap();
    let _theirs = Server::start(&theirs.namespace, "server", Transport::Tcp, 8080).unwrap();
    for (address, back) in others.iter().zip(&ours) {
        reaches(&mine.namespace, *address);
        reaches(&one.namespace, *address);
        reaches(&theirs.namespace, *back);
        let outcome = heddle_tests::traffic::tcp(&mine.namespace, (*address, 8080).into()).unwrap();
        assert!(format!("{outcome:?}").contains(&back.to_string()), "the client's own address: {outcome:?}");
    }
}

/// cni:#26: a pod reaches itself through a Service.
#[test]
fn a_pod_reaches_itself_through_the_node() {
    let node = node(1);
    let pod = Pod::new();
    let mine = addresses(&node.add("c1", &pod, &ptp(1, "both")));
    let _server = Server::start(&pod.namespace, "server", Transport::Tcp, 8080).unwrap();
    let service = |address: &IpAddr| if address.is_ipv4() { "10.96.0.1" } else { "fd96::1" };
    let rules = |address: &IpAddr| {
        let (family, service) = (if address.is_ipv4() { "ip" } else { "ip6" }, service(address));
        [
            format!("add table {family} service"),
            format!("add chain {family} service to {{ type nat hook prerouting priority -100; }}"),
            format!("add chain {family} service back {{ type nat hook postrouting priority 100; }}"),
            format!("add rule {family} service to {family} daddr {service} dnat to {address}"),
            format!("add rule {family} service back {family} saddr {address} {family} daddr {address} masquerade\n"),
        ]
        .join("\n")
    };
    let rules: String = mine.iter().map(rules).collect();
    let loaded = Invocation::foreign("nft").args(["-f", "-"]).input(rules).run(&node.namespace).unwrap();
    assert!(loaded.status.success(), "{}", loaded.stderr);
    for address in &mine {
        reaches(&pod.namespace, service(address).parse().unwrap());
    }
}

/// cni:A1, cni:A5, cni:O3.
#[test]
fn the_result_and_the_kernel_say_the_same() {
    let (node, pod) = (node(1), Pod::new());
    let added: Value = serde_json::from_str(&node.add("c1", &pod, &ptp(1, "both"))).unwrap();
    let names: Vec<_> = added["interfaces"].as_array().unwrap().iter().map(|i| i["name"].clone()).collect();
    assert_eq!(names, [json!(node.host_links()[0]), json!("eth0")]);
    assert_eq!(
        (&added["ips"][0]["address"], &added["ips"][0]["gateway"]),
        (&json!("fd07:1::2/128"), &json!("fe80::1"))
    );
    assert_eq!(
        (&added["ips"][1]["address"], &added["ips"][1]["gateway"]),
        (&json!("10.7.1.2/32"), &json!("169.254.1.1"))
    );
    let route = &node.ip(&["-N", "route", "show", "10.7.1.2"])[0];
    assert_eq!((&route["dev"], &route["protocol"]), (&names[0], &json!("104")));
    assert_eq!(
        node.ip(&["-4", "address", "show", "dev", &node.host_links()[0]]),
        json!([]),
        "no address for each pod"
    );
    let forwards = |key: &str| crate::node::setting(&node.namespace, key);
    assert_eq!(
        (forwards("net/ipv4/ip_forward"), forwards("net/ipv6/conf/all/forwarding")),
        ("1".to_owned(), "1".to_owned())
    );
    assert_eq!(pod.ip(&["route"])[0]["gateway"], "169.254.1.1");
}

/// cni:C1, cni:D1, cni:G1, cni:T1: the commands know the mode.
#[test]
fn a_routed_pod_is_checked_and_removed() {
    let (node, pod, config) = (node(1), Pod::new(), ptp(1, "both"));
    let mut checked = config.clone();
    checked["prevResult"] = serde_json::from_str(&node.add("c1", &pod, &config)).unwrap();
    node.succeeds("CHECK", ("c1", &pod.path()), &checked);
    node.status(&config);
    let host = node.host_links()[0].clone();
    for (loss, difference) in [
        ("route del 10.7.1.2", "the node has no route to 10.7.1.2"),
        ("-6 route del fd07:1::2", "the node has no route to fd07:1::2"),
        ("neigh del 10.7.1.2 dev HOST", "the node does not know 10.7.1.2"),
    ] {
        node.ip(&loss.replace("HOST", &host).split(' ').collect::<Vec<_>>());
        let failure = node.fails(108, "CHECK", ("c1", &pod.path()), &checked);
        assert!(failure["details"].as_str().unwrap().contains(difference), "{failure}");
    }
    node.del("c1", "", &config);
    node.del("c1", "", &config);
    node.add("c2", &Pod::new(), &config);
    node.gc(&json!({"cni.dev/valid-attachments": []}));
    assert_eq!((node.host_links().len(), node.leases().len()), (0, 0));
    assert_eq!(node.ip(&["route", "show", "root", "10.7.0.0/16"]), json!([]));
}

/// cni:#9, cni:#20, cni:A4: somebody else has the address already, and keeps it.
#[test]
fn a_route_of_another_pod_is_not_taken_over() {
    let (node, pod) = (node(1), Pod::new());
    node.ip(&["route", "add", "10.7.1.2", "dev", "up0"]);
    let failure = node.fails(104, "ADD", ("c1", &pod.path()), &ptp(1, "IPv4"));
    assert_eq!(
        (&failure["msg"], node.host_links().len(), node.leases().len()),
        (&json!("make the node's route to 10.7.1.2"), 0, 0)
    );
    assert_eq!(node.ip(&["route", "show", "10.7.1.2"])[0]["dev"], "up0");
    assert_eq!(pod.ip(&["link"]).as_array().unwrap().len(), 1);
}

#[test]
fn keys_of_a_bridge_make_no_sense_without_one() {
    let node = Node::new();
    for key in ["promiscMode", "portIsolation"] {
        let mut config = ptp(1, "IPv4");
        (config["hairpinMode"], config[key]) = (json!(false), json!(true));
        let failure = node.fails(7, "ADD", ("c1", "/x"), &config);
        assert_eq!(failure["msg"], format!("{key}: there is no bridge with mode ptp"));
    }
    for (key, value) in [("vlan", json!(7)), ("vlanTrunk", json!([{"id": 7}]))] {
        let mut config = ptp(1, "IPv4");
        config[key] = value;
        let failure = node.fails(7, "ADD", ("c1", "/x"), &config);
        assert_eq!(failure["msg"], format!("{key}: there is no bridge with mode ptp"));
    }
    node.fails(6, "ADD", ("c1", "/x"), &json!({"mode": "vlan"}));
}
