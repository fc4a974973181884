//! Drafts into the changes that a model takes.

use super::addresses::{
    OUR_NODE, SOMEWHERE, bridge, cluster_ip, external, load_balancer, networks, node, pod, shared, storage,
};
use super::draft::{EndpointDraft, NodeDraft, PORTS, Place, ProxyDraft, ServiceDraft};
use heddle_proxy::model::{
    Change, Hints, Kind, Node, ObjectName, Service, ServicePort, Slice, SliceEndpoint, SlicePort, Triggered,
};
use heddle_tests::oracle::Settings;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

const ZONES: [&str; 2] = ["zone-a", "zone-b"];
/// The ports of a Service's slices: name as in [`PORTS`], and the number in each of the two slices. A named port may be
/// another number in another slice, or be missing there.
const TARGETS: [[Option<u16>; 2]; 4] =
    [[Some(8080), Some(8000)], [Some(5353), Some(5353)], [Some(8080), Some(8080)], [None, Some(9090)]];

fn node_name(node: u8) -> Arc<str> {
    format!("node-{node}").into()
}

fn name(service: usize) -> ObjectName {
    ObjectName::new("default", &format!("service-{service}"))
}

/// The number of a Service, as part of its addresses.
fn number(service: usize) -> u8 {
    u8::try_from(service).unwrap() + 1
}

/// The port of the node for a port of a Service.
pub(crate) fn node_port(service: usize, port: usize) -> u16 {
    // The two protocols of one name share the number.
    let port = if PORTS[port].0 == "http" { 0 } else { port };
    u16::try_from(30_000 + 10 * service + port).unwrap()
}

/// What the proxy is told.
pub(crate) fn settings(draft: &ProxyDraft) -> Settings {
    let of = |ipv4| {
        let bound = draft.binds_cluster_ip.then(|| cluster_ip(ipv4, 1));
        [node(ipv4, OUR_NODE), storage(ipv4), bridge(ipv4)].into_iter().chain(bound)
    };
    Settings {
        node: node_name(OUR_NODE),
        addresses: [true, false].into_iter().flat_map(of).collect(),
        node_port_addresses: draft.node_port_addresses.clone(),
        detector: draft.detector.clone(),
        masquerade_all: draft.masquerade_all,
    }
}

/// The node's object, and those with the Services' ranges.
pub(crate) fn node_changes(draft: &NodeDraft) -> Vec<Change> {
    let mut addresses = [node(true, OUR_NODE), node(false, OUR_NODE), storage(true), storage(false)];
    if draft.moved {
        addresses.reverse();
    }
    let object = Node {
        addresses: addresses.into(),
        zone: draft.zone.then(|| ZONES[0].into()),
        pod_cidrs: networks(|ipv4| pod(ipv4, OUR_NODE, 0), (24, 64)),
        ..Node::default()
    };
    let ranges = draft.service_cidrs.into_iter().zip(["kubernetes", "more"]).map(|(there, name)| {
        let ranges = networks(|ipv4| cluster_ip(ipv4, 0), (16, 32));
        if there {
            Change::ServiceCidrApplied(name.into(), ranges)
        } else {
            Change::ServiceCidrGone(name.into())
        }
    });
    [Change::NodeApplied(object)].into_iter().chain(ranges).collect()
}

/// The ends of the lists that the proxy waits for.
pub(crate) fn complete() -> Vec<Change> {
    vec![Change::Complete(Kind::Service), Change::Complete(Kind::Slice)]
}

/// The objects of a Service.
pub(crate) fn service_changes(index: usize, draft: &ServiceDraft) -> Vec<Change> {
    let service = Change::ServiceApplied(name(index), service(index, draft).into());
    let slices = [(0, true), (1, true), (0, false), (1, false)].map(|(n, ipv4)| slice(index, draft, n, ipv4));
    slices.into_iter().chain([service]).collect()
}

/// What takes a Service away again, but not its slices.
pub(crate) fn service_gone(index: usize) -> Change {
    Change::ServiceGone(name(index))
}

fn service(index: usize, draft: &ServiceDraft) -> Service {
    let all = |wanted: bool, address: &dyn Fn(bool) -> IpAddr| -> Vec<IpAddr> {
        if wanted { [true, false].map(address).into() } else { Vec::new() }
    };
    let n = number(index);
    let own = draft.external_on_node && index == 0;
    let external = [
        all(draft.external, &|ipv4| external(ipv4, n)),
        all(own, &|ipv4| node(ipv4, OUR_NODE)),
        all(draft.external_shared, &shared),
    ];
    let port = |&port: &usize| ServicePort {
        name: PORTS[port].0.into(),
        protocol: PORTS[port].1,
        port: PORTS[port].2,
        node_port: draft.node_ports.then(|| node_port(index, port)),
    };
    Service {
        cluster_ips: draft.families.iter().map(|ipv4| cluster_ip(*ipv4, n)).collect(),
        external_ips: external.concat(),
        load_balancer_ips: all(draft.load_balancer, &|ipv4| load_balancer(ipv4, n)),
        ports: draft.ports.iter().map(port).collect(),
        internal_policy: draft.internal_policy,
        external_policy: draft.external_policy,
        source_ranges: draft.source_ranges.clone(),
        affinity: draft.affinity.then_some(NonZeroU32::MIN),
        created: draft.created.map(|second| jiff::Timestamp::from_second(second.into()).unwrap()),
        ..Service::default()
    }
}

fn slice(index: usize, draft: &ServiceDraft, n: u8, ipv4: bool) -> Change {
    let name = ObjectName::new("default", &format!("service-{index}-{n}-{}", if ipv4 { 4 } else { 6 }));
    let port = |(i, numbers): (usize, &[Option<u16>; 2])| {
        Some(SlicePort { name: PORTS[i].0.into(), protocol: PORTS[i].1, port: numbers[usize::from(n)]? })
    };
    let endpoints = defined(&draft.endpoints);
    let endpoints = endpoints.iter().filter(|endpoint| endpoint.slice == n);
    Change::SliceApplied(
        name,
        Slice {
            service: format!("service-{index}").into(),
            ports: TARGETS.iter().enumerate().filter_map(port).collect(),
            endpoints: endpoints.map(|draft| endpoint(draft, ipv4)).collect(),
            trigger: Triggered::default(),
        }
        .into(),
    )
}

/// Without the duplicates for which the checklist has no rule: of two endpoints with one address, just one may end (kp:A11).
fn defined(drafts: &[EndpointDraft]) -> Vec<EndpointDraft> {
    let mut kept: Vec<EndpointDraft> = Vec::new();
    for draft in drafts {
        let twins =
            || kept.iter().filter(|other| endpoint(other, true).address == endpoint(draft, true).address);
        if twins().count() < 2 && twins().all(|twin| twin.terminating != draft.terminating) {
            kept.push(*draft);
        }
    }
    kept
}

fn endpoint(draft: &EndpointDraft, ipv4: bool) -> SliceEndpoint {
    let (address, on) = match draft.place {
        Place::Pod(on) => (pod(ipv4, on, draft.n), Some(node_name(on))),
        Place::Host(on) => (node(ipv4, on), Some(node_name(on))),
        Place::Unsaid => (pod(ipv4, SOMEWHERE, draft.n), None),
    };
    let set = |bits: u8, names: [Arc<str>; 2]| -> Vec<Arc<str>> {
        names.into_iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0).map(|(_, name)| name).collect()
    };
    let hints = Hints {
        nodes: set(draft.hints.0, [OUR_NODE, 2].map(node_name)),
        zones: set(draft.hints.1, ZONES.map(Into::into)),
    };
    SliceEndpoint {
        address,
        ready: draft.ready,
        serving: draft.serving,
        terminating: draft.terminating,
        node: on,
        hints: (draft.hints != (0, 0)).then(|| Box::new(hints)),
    }
}
