//! Random packets, most of them aimed at what the clusters have.

use super::addresses::{
    OUR_NODE, SOMEWHERE, bridge, cluster_ip, external, load_balancer, loopback, node, outside, pod, shared,
    storage,
};
use super::draft::PORTS;
use super::objects::node_port;
use heddle_proxy::model::Protocol;
use heddle_tests::oracle::Packet;
use proptest::prelude::*;
use std::net::IpAddr;

/// The interface of our node's pods, and the one to the world.
const PODS: &str = "cni0";
const WORLD: &str = "eth0";

/// Where a packet comes from: the interface, and the source in a family.
type Origin = (Option<&'static str>, fn(bool) -> IpAddr);

fn origin() -> impl Strategy<Value = Origin> {
    let origins: Vec<Origin> = vec![
        (Some(WORLD), |ipv4| outside(ipv4, 7)),
        (Some(WORLD), |ipv4| outside(ipv4, 8)),
        (Some(PODS), |ipv4| pod(ipv4, OUR_NODE, 1)),
        (Some(PODS), |ipv4| pod(ipv4, OUR_NODE, 2)),
        (Some(PODS), |ipv4| pod(ipv4, OUR_NODE, 200)),
        (Some(PODS), |ipv4| pod(ipv4, SOMEWHERE, 1)),
        (Some(WORLD), |ipv4| pod(ipv4, 2, 200)),
        (Some(WORLD), |ipv4| node(ipv4, 2)),
        (None, |ipv4| node(ipv4, OUR_NODE)),
        (None, bridge),
        (None, loopback),
    ];
    prop::sample::select(origins)
}

/// Where a packet goes: address, port and protocol.
fn destination(ipv4: bool) -> impl Strategy<Value = (IpAddr, u16, Protocol)> {
    let service = (0..3_usize, 0..PORTS.len());
    let of_service = (service, 0..4_usize).prop_map(move |((service, port), address)| {
        let n = u8::try_from(service).unwrap() + 1;
        let address = [cluster_ip, load_balancer, external, |ipv4, _| shared(ipv4)][address](ipv4, n);
        (address, PORTS[port].2, PORTS[port].1)
    });
    let to_node = (0..3_usize, 0..PORTS.len(), any::<bool>(), 0..5_usize).prop_map(
        move |(service, port, by_node_port, address)| {
            let node_port = if by_node_port { node_port(service, port) } else { PORTS[port].2 };
            let addresses =
                [node(ipv4, OUR_NODE), storage(ipv4), bridge(ipv4), loopback(ipv4), node(ipv4, 2)];
            (addresses[address], node_port, PORTS[port].1)
        },
    );
    let strays = prop::sample::select(vec![
        (cluster_ip(ipv4, 1), 4444, Protocol::Tcp),
        (cluster_ip(ipv4, 99), 80, Protocol::Tcp),
        (load_balancer(ipv4, 1), 4444, Protocol::Tcp),
        (pod(ipv4, 2, 1), 8080, Protocol::Tcp),
        (outside(ipv4, 99), 80, Protocol::Udp),
    ]);
    prop_oneof![4 => of_service, 3 => to_node, 1 => strays]
}

/// A node that speaks to a load balancer's address which it has itself shows that as its source.
fn to_itself() -> impl Strategy<Value = Packet> {
    (any::<bool>(), 0..PORTS.len()).prop_map(|(ipv4, port)| Packet {
        source: load_balancer(ipv4, 1),
        in_interface: None,
        destination: load_balancer(ipv4, 1),
        port: PORTS[port].2,
        protocol: PORTS[port].1,
    })
}

/// One packet.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let aimed = any::<bool>().prop_flat_map(|ipv4| {
        (origin(), destination(ipv4)).prop_map(
            move |((in_interface, source), (destination, port, protocol))| Packet {
                source: source(ipv4),
                in_interface: in_interface.map(Into::into),
                destination,
                port,
                protocol,
            },
        )
    });
    prop_oneof![12 => aimed, 1 => to_itself()]
}
