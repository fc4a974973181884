use super::*;
use crate::look::offline::Offline;
use crate::model::{Change, Node, Service};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What these words mean on a node with both families and a Service.
fn packet(source: &str, destination: &str, locality: Locality) -> Result<Packet, String> {
    let settings = Settings { locality, ..Settings::default() };
    let node = Node {
        addresses: vec![ip("192.168.0.1"), ip("fd00::1")],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        ..Node::default()
    };
    let cluster_ips = vec![ip("10.96.0.10"), ip("fd00:96::10")];
    let service = Service { cluster_ips, ..Service::default() };
    let changes =
        [Change::NodeApplied(node), Change::ServiceApplied(ObjectName::new("shop", "web"), service.into())];
    let offline = Offline::of(("node-1", None), &settings, changes);
    let (inside, addresses) = (offline.inside(), offline.addresses());
    let here = Here { inside: &inside, settings: &settings, addresses: &addresses };
    let words = Words { source: source.into(), destination: destination.into(), in_interface: None };
    words.packet(&here).map_err(|error| error.to_string())
}

#[test]
fn addresses_are_taken_as_they_are() {
    let read = packet("10.9.9.9", "10.96.0.10:53/UDP", Locality::Unknown).unwrap();
    assert_eq!((read.source, read.destination, read.port), (ip("10.9.9.9"), ip("10.96.0.10"), 53));
    assert_eq!(read.protocol, Protocol::Udp);
    assert!(is_unnamed(&read));
    let read = packet("fd00::9", "[fd00:96::10]:80", Locality::Unknown).unwrap();
    assert_eq!((read.destination, read.protocol), (ip("fd00:96::10"), Protocol::Tcp));
}

#[test]
fn the_nodes_own_packets_come_in_by_no_interface() {
    for source in ["node", "192.168.0.1", "127.0.0.1"] {
        assert_eq!(packet(source, "10.96.0.10:80", Locality::Unknown).unwrap().in_interface, None);
    }
}

#[test]
fn words_for_roles_and_services_take_the_family_of_the_other_side() {
    let to = |source: &str, destination: &str| packet(source, destination, Locality::Unknown).unwrap();
    assert_eq!(to("outside", "node:30080").destination, ip("192.168.0.1"));
    assert_eq!(to("fd00::9", "node:30080").destination, ip("fd00::1"));
    assert_eq!(to("fd00::9", "shop/web:80").destination, ip("fd00:96::10"));
    assert_eq!(to("outside", "[fd00:96::10]:80").source, ip("2001:db8::1"));
    assert_eq!(to("node", "shop/web:80").source, ip("192.168.0.1"));
}

#[test]
fn a_pod_is_one_as_pods_are_known() {
    let pod = |locality| packet("pod", "10.96.0.10:80", locality).unwrap();
    let networks = Locality::Networks(vec!["10.244.0.0/16".parse().unwrap()]);
    assert_eq!(pod(networks).source, ip("10.244.255.254"));
    let by_name = pod(Locality::Interface("hdl*".into()));
    assert_eq!((by_name.source, by_name.in_interface.as_deref()), (ip("10.244.1.254"), Some("hdl0")));
    let lost = packet("pod", "[fd00:96::10]:80", Locality::Unknown).unwrap_err();
    assert!(lost.contains("no address of a pod is known in IPv6"), "{lost}");
}

#[test]
fn what_cannot_be_meant_is_said() {
    for (source, destination, sentence) in [
        ("pods", "10.96.0.10:80", "\"pods\" is not a source"),
        ("pod", "10.96.0.10", "is not a destination"),
        ("pod", "10.96.0.10:http", "is not a destination"),
        ("pod", "web:80", "\"web\" is not a destination"),
        ("pod", "10.96.0.10:80/icmp", "\"icmp\" is not a protocol"),
        ("10.0.0.1", "[fd00::1]:80", "one is IPv4, the other IPv6"),
        ("node", "shop/gone:80", "no address of Service shop/gone is known"),
    ] {
        let error = packet(source, destination, Locality::Unknown).unwrap_err();
        assert!(error.contains(sentence), "{error}");
    }
}
