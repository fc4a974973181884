//! What the node itself is like.

use super::{NODE, agent_with_web, complete, http, kernel_tables, name, slice, tell, wanted_tables};
use heddle_netlink::nft::{End, Sense, Statement};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::model::{Change, Hints, Node, Service, ServicePort, Slice, SliceEndpoint};
use heddle_proxy::nft::settings::{Locality, NodePortAddresses};
use heddle_proxy::nft::{FakeKernel, Nft, Settings};
use std::net::IpAddr;

/// kp:H1: the node's zone decides which endpoints are near, so it counts at once too.
#[test]
fn another_zone_of_the_node_is_written() {
    let mut agent = agent_with_web(&[(1, true)]);
    let near = |last: u8, zone: &str| {
        let endpoint = slice("web", &[(last, true)]).endpoints.remove(0);
        let hints = Hints { zones: vec![zone.into()], ..Hints::default() };
        SliceEndpoint { hints: Some(Box::new(hints)), ..endpoint }
    };
    let endpoints = vec![near(1, "a"), near(3, "b")];
    let changes = [Change::SliceApplied(name("web-1"), Slice { endpoints, ..slice("web", &[]) }.into())];
    tell(&mut agent, changes);
    for (zone, address) in [("a", "10.0.0.1"), ("b", "10.0.0.3")] {
        let node = Node { zone: Some(zone.into()), ..Node::default() };
        tell(&mut agent, [Change::NodeApplied(node)]);
        assert_eq!(agent.sync(), None);
        let printed = kernel_tables(&mut agent)[0].to_string();
        assert!(printed.contains(&format!("{address} . 8080")), "{printed}");
    }
}

/// kp:D1, kp:I7, kp:J5: pods are known by what the Node object says at the moment; kube-proxy waits for it and ends when it
/// changes.
#[test]
fn with_node_networks_the_chains_follow_the_node() {
    let settings = Settings { locality: Locality::NodeNetworks, ..Settings::default() };
    let mut agent = Agent::new(NODE, Nft::new(FakeKernel::default(), &settings));
    tell(
        &mut agent,
        [
            Change::ServiceApplied(name("web"), http(1).into()),
            Change::SliceApplied(name("web-1"), slice("web", &[(1, true)]).into()),
        ],
    );
    tell(&mut agent, complete());
    assert_eq!(agent.sync(), None);
    let rules = |agent: &mut Agent<_>| kernel_tables(agent)[0].chains["cluster-1"].rules.clone();
    assert_eq!(rules(&mut agent).len(), 1, "nobody is known as a pod yet");
    for cidr in ["10.1.0.0/24", "10.2.0.0/24"] {
        let pod_cidrs = vec![cidr.parse().unwrap()];
        agent.take(Event::Change(Change::NodeApplied(Node {
            pod_cidrs: pod_cidrs.clone(),
            ..Node::default()
        })));
        assert_eq!(agent.sync(), None);
        let not_from_pod = Statement::Address(End::Source, Sense::IsNot, pod_cidrs[0]);
        assert_eq!(rules(&mut agent)[0][0], not_from_pod);
        assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
        let before = rules(&mut agent);
        agent.take(Event::Change(Change::NodeGone(NODE.into())));
        assert_eq!(agent.sync(), None);
        assert_eq!(rules(&mut agent), before, "the pods are there without the object");
    }
}

/// The text of the IPv4 table of an agent, with this setting of node ports, after the node had each of these addresses.
fn tables_with_addresses(node_ports: NodePortAddresses, addresses: &[&[&str]]) -> Vec<String> {
    let settings = Settings { node_port_addresses: node_ports, ..Settings::default() };
    let mut agent = Agent::new(NODE, Nft::new(FakeKernel::default(), &settings));
    let plain = http(1);
    let ports = plain.ports.iter().cloned().map(|port| ServicePort { node_port: Some(30_000), ..port });
    let service =
        Service { ports: ports.collect(), load_balancer_ips: vec![[192, 0, 2, 77].into()], ..plain };
    let slice = Change::SliceApplied(name("web-1"), slice("web", &[(1, true)]).into());
    tell(&mut agent, [Change::ServiceApplied(name("web"), service.into()), slice]);
    tell(&mut agent, complete());
    let mut table_at = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        tell(&mut agent, [Change::NodeApplied(Node { addresses, ..Node::default() })]);
        assert_eq!(agent.sync(), None);
        assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
        kernel_tables(&mut agent)[0].to_string()
    };
    addresses.iter().map(|addresses| table_at(addresses)).collect()
}

/// kp:I7, kp:J2, kp:J4: an address that comes late or changes is taken up, and counts only where node ports are on it.
#[test]
fn the_nodes_own_address_is_followed_and_counts_only_for_node_ports_on_it() {
    let life: [&[&str]; 4] = [&[], &["192.0.2.1", "198.51.100.1"], &["192.0.2.2"], &[]];
    let own = tables_with_addresses(NodePortAddresses::Primary, &life);
    let holds = |table: &String| ["192.0.2.1 ", "198.51.100.1 ", "192.0.2.2 "].map(|it| table.contains(it));
    let held: Vec<[bool; 3]> = own.iter().map(holds).collect();
    assert_eq!(held, [[false; 3], [true, false, false], [false, false, true], [false; 3]], "{own:#?}");
    let all = tables_with_addresses(NodePortAddresses::Networks(Vec::new()), &life);
    assert!(all.iter().all(|table| *table == all[0]), "{all:#?}");
}

/// kp:J3: an address that is configured takes the place of the one that the Node object has, and needs no object.
#[test]
fn a_configured_address_is_the_nodes_own() {
    let own: IpAddr = "192.0.2.9".parse().unwrap();
    let mut agent = Agent::new(NODE, Nft::new(FakeKernel::default(), &Settings::default()));
    agent = agent.with_node_address(Some(own));
    tell(&mut agent, complete());
    let of_the_object = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Change::NodeApplied(Node { addresses, ..Node::default() })
    };
    for change in [None, Some(of_the_object(&["192.0.2.1"])), Some(of_the_object(&[]))] {
        tell(&mut agent, change);
        assert_eq!(agent.sync(), None);
        let printed = kernel_tables(&mut agent)[0].to_string();
        assert!(printed.contains("192.0.2.9") && !printed.contains("192.0.2.1 "), "{printed}");
    }
}
