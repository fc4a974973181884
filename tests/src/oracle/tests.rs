//! The oracle's own meaning, told in single cases; the tables are held against it elsewhere.

use super::{Detector, Memory, NodePortAddresses, Outcome, Packet, Settings, outcomes};
use heddle_proxy::model::{
    Change, Hints, Model, Node, ObjectName, Policy, Protocol, Service, ServicePort, Slice, SliceEndpoint,
    SlicePort, Triggered,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

const NODE_IP: &str = "192.168.0.1";
const CLUSTER_IP: &str = "10.96.0.1";
const EXTERNAL: [(&str, u16); 3] = [("192.0.2.1", 80), ("198.51.100.1", 80), (NODE_IP, 30080)];
const POD: (Option<&str>, &str) = (Some("cni0"), "10.0.1.200");
const HOST: (Option<&str>, &str) = (None, NODE_IP);
const OUTSIDE: (Option<&str>, &str) = (Some("eth0"), "203.0.113.7");
/// A pod of our node and one of another.
const NEAR: &str = "10.0.1.1";
const FAR: &str = "10.0.2.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings() -> Settings {
    Settings {
        node: "node-1".into(),
        addresses: [ip(NODE_IP), ip("10.0.1.254")].into(),
        node_port_addresses: NodePortAddresses::Primary,
        detector: Detector::Sources(vec!["10.0.0.0/16".parse().unwrap()]),
        masquerade_all: false,
    }
}

fn web() -> Service {
    let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: Some(30080) };
    Service {
        cluster_ips: vec![ip(CLUSTER_IP)],
        load_balancer_ips: vec![ip(EXTERNAL[0].0)],
        external_ips: vec![ip(EXTERNAL[1].0)],
        ports: vec![port],
        ..Service::default()
    }
}

fn endpoint(address: &str) -> SliceEndpoint {
    let node = if address == NEAR { "node-1" } else { "node-2" };
    SliceEndpoint {
        address: ip(address),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(node.into()),
        hints: None,
    }
}

fn ending(address: &str) -> SliceEndpoint {
    SliceEndpoint { ready: false, terminating: true, ..endpoint(address) }
}

fn hinted(address: &str, nodes: &[&str], zones: &[&str]) -> SliceEndpoint {
    let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
    let hints = Hints { nodes: names(nodes), zones: names(zones) };
    SliceEndpoint { hints: Some(Box::new(hints)), ..endpoint(address) }
}

fn model(service: Service, endpoints: Vec<SliceEndpoint>) -> Model {
    let name = |name| ObjectName::new("default", name);
    let port = SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 8080 };
    let node = Node { addresses: vec![ip(NODE_IP)], zone: Some("a".into()), ..Node::default() };
    let mut model = Model::default();
    let slice = Slice { service: "web".into(), ports: vec![port], endpoints, trigger: Triggered::default() };
    model.apply(Change::NodeApplied(node));
    model.apply(Change::ServiceApplied(name("web"), service.into()));
    model.apply(Change::SliceApplied(name("web-1"), slice.into()));
    model.apply(Change::ServiceCidrApplied("all".into(), vec!["10.96.0.0/16".parse().unwrap()]));
    model
}

fn packet((in_interface, source): (Option<&str>, &str), (destination, port): (&str, u16)) -> Packet {
    Packet {
        source: ip(source),
        in_interface: in_interface.map(Into::into),
        destination: ip(destination),
        port,
        protocol: Protocol::Tcp,
    }
}

fn to(addresses: &[&str], source_kept: bool) -> BTreeSet<Outcome> {
    addresses.iter().map(|a| Outcome::Endpoint { address: ip(a), port: 8080, source_kept }).collect()
}

fn one(outcome: Outcome) -> BTreeSet<Outcome> {
    [outcome].into()
}

/// The C-matrix of the checklist: for each source what it gets, and whether its address is kept.
#[test]
fn the_matrix_of_policies_is_the_checklists() {
    use Policy::{Cluster, Local};
    let all = &[NEAR, FAR][..];
    let near = &[NEAR][..];
    let rows = [
        (Cluster, Cluster, [(all, true), (all, false), (all, false)], [(all, false); 3]),
        (
            Cluster,
            Local,
            [(all, true), (all, false), (all, false)],
            [(all, true), (all, false), (near, true)],
        ),
        (Local, Cluster, [(near, true), (near, false), (near, false)], [(all, false); 3]),
    ];
    for (internal_policy, external_policy, to_cluster_ip, to_external) in rows {
        let service = Service { internal_policy, external_policy, ..web() };
        let model = model(service, vec![endpoint(NEAR), endpoint(FAR)]);
        for (i, from) in [POD, HOST, OUTSIDE].into_iter().enumerate() {
            let got = |destination| outcomes(&model, &settings(), &packet(from, destination));
            assert_eq!(got((CLUSTER_IP, 80)), to(to_cluster_ip[i].0, to_cluster_ip[i].1), "{from:?}");
            for destination in EXTERNAL {
                assert_eq!(
                    got(destination),
                    to(to_external[i].0, to_external[i].1),
                    "{from:?} {destination:?}"
                );
            }
        }
    }
}

#[test]
fn without_a_detector_a_pod_is_as_good_as_outside() {
    let settings = Settings { detector: Detector::Off, ..settings() };
    let service = Service { external_policy: Policy::Local, ..web() };
    let model = model(service, vec![endpoint(NEAR), endpoint(FAR)]);
    let got = |from, destination| outcomes(&model, &settings, &packet(from, destination));
    assert_eq!(got(OUTSIDE, (CLUSTER_IP, 80)), to(&[NEAR, FAR], true));
    assert_eq!(got(POD, EXTERNAL[0]), to(&[NEAR], true));
}

#[test]
fn with_masquerade_all_a_cluster_ip_hides_every_client() {
    let settings = Settings { masquerade_all: true, ..settings() };
    let service = Service { external_policy: Policy::Local, ..web() };
    let model = model(service, vec![endpoint(NEAR)]);
    let got = |from, destination| outcomes(&model, &settings, &packet(from, destination));
    assert_eq!(got(POD, (CLUSTER_IP, 80)), to(&[NEAR], false));
    assert_eq!(got(POD, EXTERNAL[0]), to(&[NEAR], true), "but for cluster IPs nothing changes");
}

#[test]
fn a_pod_that_is_sent_to_itself_is_masqueraded() {
    let model = model(web(), vec![endpoint(NEAR)]);
    assert_eq!(
        outcomes(&model, &settings(), &packet((Some("cni0"), NEAR), (CLUSTER_IP, 80))),
        to(&[NEAR], false)
    );
}

#[test]
fn a_pod_of_another_node_that_is_sent_to_itself_is_that_nodes_affair() {
    let model = model(web(), vec![endpoint(FAR)]);
    assert_eq!(
        outcomes(&model, &settings(), &packet((Some("eth0"), FAR), (CLUSTER_IP, 80))),
        to(&[FAR], true)
    );
}

#[test]
fn of_two_services_that_claim_an_address_the_older_one_has_it() {
    let mut model = model(web(), vec![endpoint(NEAR)]);
    let name = ObjectName::new("default", "another");
    let mut other = |created| {
        let service = Service { cluster_ips: vec![ip("10.96.0.2")], created, ..web() };
        model.apply(Change::ServiceApplied(name.clone(), service.into()));
        outcomes(&model, &settings(), &packet(OUTSIDE, EXTERNAL[0]))
    };
    assert_eq!(other(Some(jiff::Timestamp::UNIX_EPOCH)), to(&[NEAR], false));
    assert_eq!(
        other(None),
        one(Outcome::Reject),
        "of the same age: the first by name, which has no endpoints"
    );
}

#[test]
fn what_ends_on_the_node_keeps_its_source() {
    let mut on_node = endpoint(NEAR);
    on_node.address = ip(NODE_IP);
    let model = model(web(), vec![on_node]);
    let got = |from| outcomes(&model, &settings(), &packet(from, EXTERNAL[0]));
    assert_eq!(got(OUTSIDE), to(&[NODE_IP], true), "it does not pass the place where sources change");
    assert_eq!(got(HOST), to(&[NODE_IP], false));
}

#[test]
fn nothing_anywhere_is_refused_and_nothing_here_is_dropped() {
    let service = || Service { internal_policy: Policy::Local, external_policy: Policy::Local, ..web() };
    let got = |endpoints, from, to| outcomes(&model(service(), endpoints), &settings(), &packet(from, to));
    let unusable = SliceEndpoint { serving: false, ..ending(NEAR) };
    for destination in [(CLUSTER_IP, 80)].into_iter().chain(EXTERNAL) {
        assert_eq!(got(vec![unusable.clone()], OUTSIDE, destination), one(Outcome::Reject));
        assert_eq!(got(vec![endpoint(FAR)], OUTSIDE, destination), one(Outcome::Drop));
    }
    assert_eq!(got(vec![endpoint(FAR)], POD, EXTERNAL[0]), to(&[FAR], true));
}

#[test]
fn what_ends_is_used_where_nothing_is_ready() {
    let service = Service { internal_policy: Policy::Local, ..web() };
    let model = model(service, vec![ending(NEAR), endpoint(FAR)]);
    let got = |destination| outcomes(&model, &settings(), &packet(POD, destination));
    assert_eq!(got((CLUSTER_IP, 80)), to(&[NEAR], true), "here nothing else is");
    assert_eq!(got(EXTERNAL[0]), to(&[FAR], false), "in the cluster there is");
}

#[test]
fn of_two_endpoints_with_one_address_the_living_one_counts() {
    let unready = SliceEndpoint { ready: false, ..endpoint(NEAR) };
    for endpoints in [vec![ending(NEAR), unready.clone()], vec![unready, ending(NEAR)]] {
        let got = outcomes(&model(web(), endpoints), &settings(), &packet(POD, (CLUSTER_IP, 80)));
        assert_eq!(got, one(Outcome::Reject));
    }
}

#[test]
fn hints_narrow_the_cluster_list_while_all_agree_to_have_them() {
    let got = |endpoints| outcomes(&model(web(), endpoints), &settings(), &packet(POD, (CLUSTER_IP, 80)));
    let near = || hinted(NEAR, &["node-1"], &["b"]);
    assert_eq!(got(vec![near(), hinted(FAR, &["node-2"], &["a"])]), to(&[NEAR], true), "the node's");
    assert_eq!(got(vec![near(), hinted(FAR, &[], &["a", "b"])]), to(&[FAR], true), "else the zone's");
    assert_eq!(got(vec![near(), endpoint(FAR)]), to(&[NEAR, FAR], true), "else all");
    let unready = SliceEndpoint { ready: false, ..endpoint(FAR) };
    assert_eq!(got(vec![near(), unready]), to(&[NEAR], true), "only the ready ones have a say");
}

#[test]
fn source_ranges_hold_for_load_balancer_addresses_only() {
    let ranges = |ranges: &[&str]| ranges.iter().map(|range| range.parse().unwrap()).collect();
    let filtered = |text: &[&str]| Service { source_ranges: ranges(text), ..web() };
    let got =
        |service, endpoints, from, to| outcomes(&model(service, endpoints), &settings(), &packet(from, to));
    let elsewhere = || filtered(&["203.0.113.8/32", "fd00::/8"]);
    assert_eq!(got(elsewhere(), vec![endpoint(NEAR)], OUTSIDE, EXTERNAL[0]), one(Outcome::Drop));
    assert_eq!(got(elsewhere(), vec![], OUTSIDE, EXTERNAL[0]), one(Outcome::Drop), "even without endpoints");
    assert_eq!(got(elsewhere(), vec![endpoint(NEAR)], OUTSIDE, EXTERNAL[1]), to(&[NEAR], false));
    let other_family = filtered(&["fd00::/8"]);
    assert_eq!(got(other_family, vec![endpoint(NEAR)], OUTSIDE, EXTERNAL[0]), to(&[NEAR], false));
    let itself = (None, EXTERNAL[0].0);
    assert_eq!(got(elsewhere(), vec![endpoint(NEAR)], itself, EXTERNAL[0]), one(Outcome::Drop));
    let with_node = filtered(&["192.168.0.0/24"]);
    assert_eq!(got(with_node, vec![endpoint(NEAR)], itself, EXTERNAL[0]), to(&[NEAR], false));
}

#[test]
fn what_no_service_serves_is_refused_dropped_or_left_alone() {
    let model = model(web(), vec![endpoint(NEAR)]);
    let got = |destination| outcomes(&model, &settings(), &packet(OUTSIDE, destination));
    assert_eq!(got((CLUSTER_IP, 81)), one(Outcome::Reject));
    assert_eq!(got(("10.96.0.9", 80)), one(Outcome::Drop));
    assert_eq!(got((EXTERNAL[0].0, 81)), one(Outcome::Untouched));
    for address in ["10.0.1.254", "127.0.0.1", "192.168.0.2"] {
        assert_eq!(got((address, 30080)), one(Outcome::Untouched), "{address}");
    }
    let addressed = Settings { addresses: [ip(CLUSTER_IP)].into(), ..settings() };
    let on_node = packet(OUTSIDE, (CLUSTER_IP, 81));
    assert_eq!(outcomes(&model, &addressed, &on_node), one(Outcome::Untouched));
}

#[test]
fn a_client_keeps_its_endpoint_on_every_way_to_the_port() {
    let sticky = Service { affinity: std::num::NonZeroU32::new(60), external_policy: Policy::Local, ..web() };
    let both = model(sticky.clone(), vec![endpoint(NEAR), endpoint(FAR)]);
    let by_cluster_ip = packet(POD, (CLUSTER_IP, 80));
    let far = *to(&[FAR], true).first().unwrap();
    let mut memory = Memory::default();
    memory.learn(&both, &settings(), (&by_cluster_ip, far));
    let got = |model: &Model, from, to| memory.outcomes(model, &settings(), &packet(from, to));
    assert_eq!(got(&both, POD, (CLUSTER_IP, 80)), to(&[FAR], true));
    assert_eq!(got(&both, POD, EXTERNAL[0]), to(&[FAR], true));
    let other_client = (Some("cni0"), "10.0.1.201");
    assert_eq!(got(&both, other_client, (CLUSTER_IP, 80)), to(&[NEAR, FAR], true));
    let gone = model(sticky.clone(), vec![endpoint(NEAR)]);
    assert_eq!(got(&gone, POD, (CLUSTER_IP, 80)), to(&[NEAR], true));
    let local = Service { internal_policy: Policy::Local, ..sticky };
    let other_list = model(local, vec![endpoint(NEAR), endpoint(FAR)]);
    assert_eq!(got(&other_list, POD, (CLUSTER_IP, 80)), to(&[NEAR], true));
    let off = model(web(), vec![endpoint(NEAR), endpoint(FAR)]);
    assert_eq!(got(&off, POD, (CLUSTER_IP, 80)), to(&[NEAR, FAR], true));
}
