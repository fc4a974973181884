//! ADD: what it prints, what the kernel has then, and that packets pass.

use crate::node::{Node, Pod, addresses, setting};
use heddle_tests::namespace::Namespace;
use heddle_tests::traffic::{self, Server, Transport};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// The kind of every character that differs from run to run.
fn without_ids(document: &str) -> String {
    let value: Value = serde_json::from_str(document).unwrap();
    let mac = value["interfaces"][0]["mac"].as_str().unwrap();
    let sandbox = value["interfaces"][2]["sandbox"].as_str().unwrap();
    document.replace(mac, "<bridge mac>").replace(sandbox, "<sandbox>")
}

/// cni:A1, cni:A5, cni:O3, and cni:#2: no Ethernet address of a pair is the kernel's choice, which udev would change.
#[test]
fn add_prints_the_result_of_each_version() {
    let node = Node::new();
    let added = node.add("golden", &Pod::new(), &json!({"cniVersion": "1.1.0", "mtu": 1400}));
    assert_eq!(
        without_ids(&added),
        concat!(
            r#"{"cniVersion":"1.1.0","interfaces":[{"name":"cni0","mac":"<bridge mac>","mtu":1400},"#,
            r#"{"name":"hdlac57b344c1be","mac":"c6:37:e0:79:1d:84","mtu":1400},"#,
            r#"{"name":"eth0","mac":"ae:a3:34:4b:50:36","mtu":1400,"sandbox":"<sandbox>"}],"#,
            r#""ips":[{"interface":2,"address":"10.244.1.2/24","gateway":"10.244.1.1"},"#,
            r#"{"interface":2,"address":"fd00:244:1::2/64","gateway":"fd00:244:1::1"}],"#,
            r#""routes":[{"dst":"0.0.0.0/0","gw":"10.244.1.1"},{"dst":"::/0","gw":"fd00:244:1::1"}]}"#,
            "\n"
        )
    );
    let resolv = node.file("resolv.conf", "nameserver 10.96.0.10\n");
    let ipam = json!({"type": "heddle", "subnet": "10.244.2.0/24", "resolvConf": resolv});
    let dns = json!({"cniVersion": "1.0.0", "ipam": ipam, "forceAddress": true});
    let added = node.add("older", &Pod::new(), &dns);
    assert!(!added.contains("mtu"), "{added}");
    assert!(added.ends_with("\"dns\":{\"nameservers\":[\"10.96.0.10\"]}}\n"), "{added}");
}

/// cni:1.7: each version's result says what the kernel has, in that version's form.
#[test]
fn every_version_gets_its_result() {
    let node = Node::new();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let pod = Pod::new();
        let config = json!({"cniVersion": version});
        let added: Value = serde_json::from_str(&node.add(version, &pod, &config)).unwrap();
        let eth0 = &pod.ip(&["address", "show", "eth0"])[0]["addr_info"];
        let has = format!("{}/24", eth0[0]["local"].as_str().unwrap());
        let (said, family) = if version < "0.3.0" {
            (&added["ip4"]["ip"], &Value::Null)
        } else {
            (&added["ips"][0]["address"], &added["ips"][0]["version"])
        };
        assert_eq!((&added["cniVersion"], said), (&json!(version), &json!(has)), "{added}");
        assert_eq!(family.is_string(), ("0.3.0".."1.0.0").contains(&version), "{added}");
        node.del(version, &pod.path(), &config);
    }
}

/// cni:L1, cni:L2: what a runtime hands over of the list that ships.
#[test]
fn the_shipped_configuration_gives_a_pod_both_families() {
    let node = Node::new();
    let list: Value = serde_json::from_str(include_str!("../../../conf/10-heddle.conflist")).unwrap();
    let mut config = list["plugins"][0].clone();
    assert_eq!(config["type"], "heddle-cni");
    (config["name"], config["cniVersion"]) = (list["name"].clone(), list["cniVersion"].clone());
    config["ipam"]["dataDir"] = json!(node.file("unused", "").parent());
    assert_eq!(addresses(&node.add("c1", &Pod::new(), &config)).len(), 2);
    // containerd 1.6 and 1.7 take what `cniVersion` says, later ones the highest that they know of the list.
    assert_eq!(
        (&list["cniVersion"], &list["cniVersions"]),
        (&json!("1.0.0"), &json!(["0.4.0", "1.0.0", "1.1.0"]))
    );
    for version in list["cniVersions"].as_array().unwrap() {
        let offered = node.program().env("CNI_COMMAND", "VERSION").input("{}").run(&node.namespace).unwrap();
        assert!(offered.stdout.contains(&version.to_string()), "{version} of {}", offered.stdout);
    }
}

pub(crate) fn reaches(from: &Namespace, to: IpAddr) {
    let outcome = traffic::tcp(from, SocketAddr::new(to, 8080)).unwrap();
    assert_eq!(outcome.endpoint(), Some("server"), "{to}: {outcome:?}");
}

fn everyone_reaches_everyone(ipam: &Value) {
    let node = Node::new();
    let (here, there) = (Pod::new(), Pod::new());
    let mine = addresses(&node.add("here", &here, &json!({"ipam": ipam})));
    let theirs = addresses(&node.add("there", &there, &json!({"ipam": ipam})));
    let _server = Server::start(&there.namespace, "server", Transport::Tcp, 8080).unwrap();
    for address in theirs {
        reaches(&here.namespace, address);
        reaches(&node.namespace, address);
        reaches(&there.namespace, address);
    }
    assert_eq!(mine.len(), ipam["ranges"].as_array().unwrap().len());
}

#[test]
fn pods_and_node_reach_pods_over_ipv4() {
    everyone_reaches_everyone(&json!({"type": "heddle", "ranges": [[{"subnet": "10.1.0.0/16"}]]}));
}

#[test]
fn pods_and_node_reach_pods_over_ipv6() {
    everyone_reaches_everyone(&json!({"type": "heddle", "ranges": [[{"subnet": "fd01::/64"}]]}));
}

#[test]
fn pods_and_node_reach_pods_over_both_families() {
    everyone_reaches_everyone(
        &json!({"type": "heddle", "ranges": [[{"subnet": "fd01::/64"}], [{"subnet": "10.1.0.0/24"}]]}),
    );
}

/// An address is used at once by the next pod: whoever still knows the old pod's Ethernet address is right.
#[test]
fn an_address_that_changes_hands_is_reached_at_once() {
    let node = Node::new();
    let ipam = json!({"ipam": {"type": "heddle", "subnet": "10.1.0.0/30"}});
    for name in ["first", "second"] {
        let pod = Pod::new();
        node.add(name, &pod, &ipam);
        let _server = Server::start(&pod.namespace, "server", Transport::Tcp, 8080).unwrap();
        reaches(&node.namespace, "10.1.0.2".parse().unwrap());
        node.del(name, &pod.path(), &ipam);
    }
}

#[test]
fn the_kernel_has_what_the_configuration_asks_for() {
    let node = Node::new();
    let pod = Pod::new();
    let route = json!([{"dst": "192.0.2.0/24", "mtu": 1300, "priority": 7}, {"dst": "198.51.100.0/24", "table": 300}]);
    let ipam = json!({"type": "heddle", "routes": route,
        "ranges": [[{"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.9", "gateway": "10.244.1.254"}]]});
    let extra =
        json!({"ipam": ipam, "mtu": 1400, "hairpinMode": false, "promiscMode": true, "portIsolation": true});
    node.add("c1", &pod, &extra);
    let bridge = &node.ip(&["-d", "link", "show", "cni0"])[0];
    assert!(bridge["promiscuity"].as_u64().unwrap() > 0);
    assert_eq!(bridge["linkinfo"]["info_data"]["nf_call_iptables"], 1);
    assert_eq!(bridge["linkinfo"]["info_data"]["nf_call_ip6tables"], 1);
    let port = &node.ip(&["-d", "link", "show", "master", "cni0"])[0];
    assert_eq!(port["linkinfo"]["info_slave_data"]["isolated"], true);
    assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], false);
    assert_eq!((&port["mtu"], &port["ifalias"]), (&json!(1400), &json!("pods/c1/eth0 default/c1")));
    let eth0 = &pod.ip(&["address", "show", "eth0"])[0];
    assert_eq!(eth0["addr_info"][0]["local"], "10.244.1.9");
    assert_eq!(eth0["addr_info"][0]["broadcast"], "10.244.1.255");
    assert_eq!(pod.ip(&["address", "show", "lo"])[0]["addr_info"][0]["local"], "127.0.0.1");
    let routes = pod.ip(&["route"]);
    assert_eq!(routes[0]["gateway"], "10.244.1.254");
    assert_eq!(routes[2]["metric"], 7, "{routes}");
    assert_eq!(routes[2]["metrics"][0]["mtu"], 1300, "{routes}");
    assert_eq!(pod.ip(&["route", "show", "table", "300"])[0]["dst"], "198.51.100.0/24");
}

/// cni:2.3: the reference plugins wait for duplicate address detection up to two seconds.
#[test]
fn an_ipv6_address_is_usable_when_add_returns() {
    let node = Node::new();
    let pod = Pod::new();
    node.add("c1", &pod, &json!({}));
    let eth0 = &pod.ip(&["-6", "address", "show", "eth0"])[0];
    let all = eth0["addr_info"].as_array().unwrap();
    let ours = all.iter().find(|address| address["local"] == "fd00:244:1::2").unwrap();
    assert!(ours.get("tentative").is_none(), "{eth0}");
    assert_eq!(setting(&pod.namespace, "net/ipv6/conf/eth0/accept_dad"), "0");
    assert_eq!(setting(&pod.namespace, "net/ipv6/conf/eth0/accept_ra"), "0");
}

/// cni:#31: a bridge whose address nobody has set takes the lowest of its ports', and neighbours lose it.
#[test]
fn the_bridge_keeps_its_address_while_pods_come_and_go() {
    let node = Node::new();
    let pods: Vec<_> = (0..6).map(|number| (format!("c{number}"), Pod::new())).collect();
    let mut seen = BTreeSet::new();
    let mut look = || {
        let bridge = &node.ip(&["link", "show", "cni0"])[0];
        seen.insert(bridge["address"].as_str().unwrap().to_owned());
    };
    for (name, pod) in &pods {
        node.add(name, pod, &json!({}));
        look();
    }
    for (name, pod) in &pods {
        node.del(name, &pod.path(), &json!({}));
        look();
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

/// cni:#4
#[test]
fn pods_get_the_mtu_of_the_uplink() {
    let node = Node::new();
    node.ip(&["link", "add", "up0", "mtu", "1340", "type", "veth", "peer", "up1"]);
    node.ip(&["link", "set", "up0", "up"]);
    node.ip(&["address", "add", "203.0.113.1/24", "dev", "up0"]);
    node.ip(&["route", "add", "default", "via", "203.0.113.2"]);
    let pod = Pod::new();
    node.add("c1", &pod, &json!({}));
    assert_eq!(pod.ip(&["link", "show", "eth0"])[0]["mtu"], 1340);
}

/// cni:#32: the node keeps the default route that a router announced, and pods cannot announce one.
#[test]
fn the_uplink_goes_on_listening_to_routers() {
    let node = Node::new();
    node.ip(&["link", "add", "up0", "type", "veth", "peer", "up1"]);
    node.ip(&["link", "set", "up0", "up"]);
    node.ip(&["address", "add", "2001:db8:1::1/64", "dev", "up0", "nodad"]);
    node.ip(&["-6", "route", "add", "default", "via", "2001:db8:1::2"]);
    node.add("c1", &Pod::new(), &json!({}));
    let accepts = |link: &str| setting(&node.namespace, &format!("net/ipv6/conf/{link}/accept_ra"));
    assert_eq!(["up0", "up1", "cni0"].map(accepts), ["2", "1", "1"]);
    assert_eq!(setting(&node.namespace, "net/ipv6/conf/all/forwarding"), "1");
}

/// cni:P1, and the race for the bridge: all come at once, before there is one.
#[test]
fn thirty_pods_at_once_get_thirty_addresses() {
    let node = Node::new();
    let pods: Vec<_> = (0..30).map(|i| (format!("c{i}"), Pod::new())).collect();
    let start =
        |(name, pod): &(String, Pod)| node.call("ADD", name, &pod.path(), &json!({})).start(&node.namespace);
    let running: Vec<_> = pods.iter().map(start).collect::<Result<_, _>>().unwrap();
    let mut all = BTreeSet::new();
    for mut process in running {
        let status = process.wait(heddle_tests::patience::PATIENCE).unwrap();
        assert!(status.success(), "{}", process.stdout());
        all.extend(addresses(&process.stdout()));
    }
    assert_eq!((all.len(), node.host_links().len(), node.leases().len()), (60, 30, 30));
    assert_eq!(node.ip(&["-4", "address", "show", "cni0"])[0]["addr_info"].as_array().unwrap().len(), 1);
}

/// cni:K1: the same container by two interfaces, and in two networks.
#[test]
fn a_container_is_attached_as_often_as_it_is_asked_for() {
    let node = Node::new();
    let pod = Pod::new();
    node.add("c1", &pod, &json!({}));
    let second = node.call("ADD", "c1", &pod.path(), &json!({})).env("CNI_IFNAME", "eth1");
    let second = second.run(&node.namespace).unwrap();
    // Two default routes through one gateway: the second interface's is there already, and harmless.
    assert!(second.status.success(), "{}", second.stdout);
    assert_eq!((node.host_links().len(), node.leases().len()), (2, 2));
    node.del("c1", &pod.path(), &json!({}));
    assert_eq!(pod.ip(&["link", "show", "eth1"])[0]["ifname"], "eth1");
    assert_eq!((node.host_links().len(), node.leases().len()), (1, 1));
}
