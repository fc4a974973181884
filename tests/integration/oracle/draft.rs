//! Random clusters as small values that shrink: numbers of things, not addresses and names.

use super::addresses::{self, OUR_NODE, bridge, networks, outside, pod, storage};
use heddle_proxy::model::{Policy, Protocol};
use heddle_tests::oracle::{Detector, NodePortAddresses};
use ipnetwork::IpNetwork;
use proptest::prelude::*;

/// The ports that Services have: name, protocol, port. One name stands for two protocols, one number for two names.
pub(crate) const PORTS: [(&str, Protocol, u16); 4] = [
    ("http", Protocol::Tcp, 80),
    ("dns", Protocol::Udp, 80),
    ("http", Protocol::Sctp, 80),
    ("metrics", Protocol::Tcp, 81),
];

/// Where an endpoint runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a pod of a node.
    Pod(u8),
    /// In the network of a node.
    Host(u8),
    /// In a pod, and the slice does not say where.
    Unsaid,
}

/// An endpoint, in both families.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointDraft {
    pub(crate) place: Place,
    pub(crate) n: u8,
    pub(crate) slice: u8,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// Hinted for the nodes, and for the zones, whose bits are set.
    pub(crate) hints: (u8, u8),
}

/// A Service with its endpoints.
#[derive(Clone, Debug)]
pub(crate) struct ServiceDraft {
    pub(crate) families: Vec<bool>,
    pub(crate) ports: Vec<usize>,
    pub(crate) node_ports: bool,
    pub(crate) load_balancer: bool,
    pub(crate) external: bool,
    /// One of its external IPs is the node's own address.
    pub(crate) external_on_node: bool,
    /// One of its external IPs is other Services' too.
    pub(crate) external_shared: bool,
    /// When it was made, in seconds, if anybody knows.
    pub(crate) created: Option<u8>,
    pub(crate) internal_policy: Policy,
    pub(crate) external_policy: Policy,
    pub(crate) source_ranges: Vec<IpNetwork>,
    pub(crate) affinity: bool,
    pub(crate) endpoints: Vec<EndpointDraft>,
}

/// What the proxy is told, and what its host is like.
#[derive(Clone, Debug)]
pub(crate) struct ProxyDraft {
    pub(crate) node_port_addresses: NodePortAddresses,
    pub(crate) detector: Detector,
    pub(crate) masquerade_all: bool,
    /// The host has a cluster IP on an interface, as caches of DNS do.
    pub(crate) binds_cluster_ip: bool,
}

/// What the node's object says, and the ranges of the Services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeDraft {
    pub(crate) zone: bool,
    /// Its addresses in the other order.
    pub(crate) moved: bool,
    /// Which of two objects name the range of the cluster IPs.
    pub(crate) service_cidrs: [bool; 2],
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        3 => Just(Place::Pod(OUR_NODE)),
        3 => Just(Place::Pod(2)),
        1 => Just(Place::Pod(3)),
        1 => Just(Place::Host(OUR_NODE)),
        1 => Just(Place::Host(2)),
        2 => Just(Place::Unsaid),
    ]
}

/// Conditions as they are common, and as they may be.
fn conditions() -> impl Strategy<Value = (bool, bool, bool)> {
    prop_oneof![
        4 => Just((true, true, false)),
        3 => Just((false, true, true)),
        1 => Just((false, false, true)),
        1 => any::<(bool, bool, bool)>(),
    ]
}

fn endpoint(hinted: bool) -> impl Strategy<Value = EndpointDraft> {
    let hints = if hinted { (0..4_u8, 0..4_u8).boxed() } else { Just((0, 0)).boxed() };
    (place(), 1..=2_u8, 0..2_u8, conditions(), hints).prop_map(
        |(place, n, slice, (ready, serving, terminating), hints)| EndpointDraft {
            place,
            n,
            slice,
            ready,
            serving,
            terminating,
            hints,
        },
    )
}

fn endpoints() -> impl Strategy<Value = Vec<EndpointDraft>> {
    prop_oneof![
        1 => prop::collection::vec(endpoint(false), 0..=5),
        1 => prop::collection::vec(endpoint(true), 0..=5),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop::sample::select(vec![Policy::Cluster, Policy::Local])
}

/// Networks that hold some of the clients, some of them within others.
fn source_ranges() -> impl Strategy<Value = Vec<IpNetwork>> {
    let all = [
        networks(|ipv4| outside(ipv4, 0), (24, 64)),
        networks(|ipv4| outside(ipv4, 7), (32, 128)),
        networks(|ipv4| addresses::node(ipv4, 0), (24, 64)),
        networks(|ipv4| pod(ipv4, OUR_NODE, 0), (24, 64)),
    ];
    let all = all.concat();
    prop_oneof![1 => Just(Vec::new()), 1 => prop::sample::subsequence(all, 0..=8)]
}

fn service() -> impl Strategy<Value = ServiceDraft> {
    let families = prop::sample::select(vec![vec![true, false], vec![true], vec![false]]);
    let ports = prop::sample::subsequence((0..PORTS.len()).collect::<Vec<_>>(), 1..=PORTS.len());
    let reached = any::<(bool, bool, bool, bool, bool)>();
    let created = prop::option::of(0..3_u8);
    let policies = (policy(), policy(), prop::bool::weighted(0.3));
    (families, ports, (reached, created), policies, source_ranges(), endpoints()).prop_map(
        |(families, ports, (reached, created), policies, source_ranges, endpoints)| ServiceDraft {
            families,
            ports,
            node_ports: reached.0,
            load_balancer: reached.1,
            external: reached.2,
            external_on_node: reached.3,
            external_shared: reached.4,
            created,
            internal_policy: policies.0,
            external_policy: policies.1,
            affinity: policies.2,
            source_ranges,
            endpoints,
        },
    )
}

/// Up to three Services.
pub(crate) fn services() -> impl Strategy<Value = Vec<ServiceDraft>> {
    prop::collection::vec(service(), 1..=3)
}

fn detector() -> impl Strategy<Value = Detector> {
    let cluster = networks(|ipv4| pod(ipv4, 0, 0), (16, 32));
    let node = networks(|ipv4| pod(ipv4, OUR_NODE, 0), (24, 64));
    prop::sample::select(vec![
        Detector::Sources(cluster.clone()),
        Detector::Sources(cluster[..1].to_vec()),
        Detector::Sources(node),
        Detector::Interface("cni0".into()),
        Detector::Interface("cni".into()),
        Detector::InterfacePrefix("cni".into()),
        Detector::InterfacePrefix("veth".into()),
        Detector::Off,
    ])
}

fn node_port_addresses() -> impl Strategy<Value = NodePortAddresses> {
    let nodes = networks(|ipv4| addresses::node(ipv4, 0), (24, 64));
    let storage = networks(storage, (32, 128));
    let pods = networks(bridge, (24, 64));
    prop::sample::select(vec![
        NodePortAddresses::Primary,
        NodePortAddresses::All,
        NodePortAddresses::Within(nodes.clone()),
        NodePortAddresses::Within([pods, storage].concat()),
        NodePortAddresses::Within(nodes[..1].to_vec()),
    ])
}

/// A proxy and its host.
pub(crate) fn proxy() -> impl Strategy<Value = ProxyDraft> {
    (node_port_addresses(), detector(), any::<(bool, bool)>()).prop_map(
        |(node_port_addresses, detector, (masquerade_all, binds_cluster_ip))| ProxyDraft {
            node_port_addresses,
            detector,
            masquerade_all,
            binds_cluster_ip,
        },
    )
}

/// The objects that are not Services.
pub(crate) fn node() -> impl Strategy<Value = NodeDraft> {
    any::<(bool, bool, [bool; 2])>().prop_map(|(zone, moved, service_cidrs)| NodeDraft {
        zone,
        moved,
        service_cidrs,
    })
}
