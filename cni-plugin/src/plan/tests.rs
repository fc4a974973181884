//! What an ADD would do, step by step.

use super::*;
use crate::config::ipam::Ipam;
use crate::spec::{Environment, Request, decode};
use serde_json::{Value, json};

fn request(extra: &Value) -> Add {
    let ipam = json!({"type": "heddle", "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]});
    let mut document = json!({"cniVersion": "1.1.0", "name": "pods", "ipam": ipam});
    document.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let some = |text: &str| Some(text.to_owned());
    let environment = Environment {
        command: some("ADD"),
        container: some("c1"),
        namespace: some("/x"),
        ifname: some("eth0"),
        ..Environment::default()
    };
    match Request::read(&environment, decode(document.to_string().as_bytes())) {
        Ok(Request::Add(add)) => *add,
        other => panic!("{other:?}"),
    }
}

/// An address of each family, settled as the configuration says.
fn dual(request: &Add) -> Outcome {
    let ip = |address: &str, gateway: &str| Ip {
        interface: None,
        address: address.parse().unwrap(),
        gateway: gateway.parse().ok(),
    };
    let ips = vec![ip("10.0.0.2/24", "10.0.0.1"), ip("fd00::2/64", "fd00::1")];
    let Some(Ipam::Own(own)) = &request.config.ipam else { panic!("{request:?}") };
    settle(&request.config, Outcome { ips, routes: own.routes.clone(), ..Outcome::default() })
}

fn planned(extra: &Value) -> Vec<Step> {
    let request = request(extra);
    plan(&request, &dual(&request), None)
}

/// What every step is about, in order.
fn outline(steps: &[Step]) -> Vec<String> {
    let name = |step: &Step| match step {
        Step::KeepUplinkRoutes => "keep routes".to_owned(),
        Step::NodeSetting(setting) | Step::PodSetting(setting) => setting.key.clone(),
        Step::Bridge { name, .. } => format!("bridge {name}"),
        Step::FilterVlans => "filter VLANs".to_owned(),
        Step::VlanLink { name, id } => format!("link {name} for VLAN {id}"),
        Step::PortVlans { vlans, .. } => format!("port in VLAN {vlans}"),
        Step::BridgeAddresses { addresses, .. } => format!("bridge has {addresses:?}"),
        Step::Pair(pair) => format!("pair {}", pair.pod),
        Step::HostEnd { alias, port, .. } => format!("{alias} {port:?}"),
        Step::Names { names, .. } => names.join(" "),
        Step::Loopback => "lo up".to_owned(),
        Step::PodUp => "up".to_owned(),
        Step::PodTuning(tuning) => format!("{tuning:?}"),
        Step::HostRoutes { addresses, .. } => format!("the node's route to {addresses:?}"),
        Step::PodNeighbour { address, .. } => format!("neighbour {address}"),
        Step::PodAddress(address) => address.to_string(),
        Step::PodRoute(route) => format!("route to {} via {:?}", route.to, route.gateway),
    };
    steps.iter().map(name).collect()
}

#[test]
fn a_plain_pod_gets_a_pair_and_its_addresses() {
    assert_eq!(
        outline(&planned(&json!({}))),
        [
            "bridge cni0",
            "pair eth0",
            "pods/c1/eth0 None",
            "pods:10.0.0.2 pods:fd00::2",
            "net/ipv6/conf/eth0/disable_ipv6",
            "net/ipv6/conf/eth0/accept_dad",
            "net/ipv6/conf/eth0/accept_ra",
            "lo up",
            "up",
            "10.0.0.2/24",
            "fd00::2/64",
        ]
    );
}

#[test]
fn a_gateway_forwards_and_has_the_addresses_that_routes_lead_to() {
    let outline = outline(&planned(&json!({"isDefaultGateway": true, "hairpinMode": true})));
    assert_eq!(outline[..3], ["net/ipv4/ip_forward", "keep routes", "net/ipv6/conf/all/forwarding"]);
    assert!(outline[4].starts_with("bridge has [V4"), "{}", outline[4]);
    assert_eq!(outline[6], "pods/c1/eth0 Some(Port { hairpin: true, isolated: false })");
    assert_eq!(
        outline[outline.len() - 2..],
        ["route to 0.0.0.0/0 via Some(10.0.0.1)", "route to ::/0 via Some(fd00::1)"]
    );
}

/// What an ADD with these keys does on the node, up to the pod's own steps.
fn on_node(keys: &Value) -> Vec<String> {
    let steps = outline(&planned(keys));
    steps.into_iter().take_while(|step| !step.starts_with("pods/")).collect()
}

/// cni:2.3: the gateway of a VLAN is on a link of its own, and the bridge has no address.
#[test]
fn a_pod_in_a_vlan_finds_its_gateway_there() {
    let gateway = ["net/ipv4/ip_forward", "keep routes", "net/ipv6/conf/all/forwarding"];
    let steps = on_node(&json!({"isGateway": true, "vlan": 7}));
    assert_eq!(steps[..3], gateway);
    assert_eq!(steps[3..6], ["bridge cni0", "filter VLANs", "link cni0.7 for VLAN 7"]);
    assert!(steps[6].starts_with("bridge has [V4"), "{steps:?}");
    assert_eq!(steps[7..], ["pair eth0", "port in VLAN 7"]);
    let steps = planned(&json!({"isGateway": true, "vlan": 7}));
    let on = steps.iter().find_map(|step| match step {
        Step::BridgeAddresses { link, .. } => Some(&**link),
        _ => None,
    });
    assert_eq!(on, Some("cni0.7"));
    assert_eq!(on_node(&json!({"vlan": 7})), ["bridge cni0", "filter VLANs", "pair eth0", "port in VLAN 7"]);
}

/// cni:2.3: a trunk's own VLANs have no gateway of ours.
#[test]
fn a_trunk_has_its_gateway_on_the_bridge() {
    let steps = on_node(&json!({"isGateway": true, "vlanTrunk": [{"minID": 10, "maxID": 12}, {"id": 20}]}));
    assert_eq!(steps[3..5], ["bridge cni0", "filter VLANs"]);
    assert!(steps[5].starts_with("bridge has"), "{steps:?}");
    assert_eq!(steps[6..], ["pair eth0", "port in VLAN 10-12,20"]);
}

/// cni:A4: whatever fails, one undo takes back all that is this pod's.
#[test]
fn only_the_pair_is_undone_and_nothing_of_the_pod_comes_before_it() {
    let steps = planned(&json!({"isDefaultGateway": true, "portIsolation": true, "vlan": 7}));
    let undone: Vec<_> = steps.iter().enumerate().filter(|(_, step)| step.undo().is_some()).collect();
    let [(at, Step::Pair(pair))] = undone[..] else { panic!("{undone:?}") };
    assert_eq!(steps[at].undo(), Some(Undo::DeleteLink(pair.host.clone())));
    assert!(steps[..at].iter().all(|step| !step.is_in_pod() && !matches!(step, Step::PodSetting(_))));
}

#[test]
fn a_configured_default_route_is_not_joined_by_a_second_one() {
    let ipam = json!({"type": "heddle", "subnet": "10.0.0.0/24", "routes": [
        {"dst": "0.0.0.0/0", "gw": "10.0.0.9"}, {"dst": "10.8.0.0/16"}, {"dst": "10.8.0.0/16", "gw": "10.0.0.7"}]});
    let given = dual(&request(&json!({"isDefaultGateway": true, "ipam": ipam})));
    let four = given.routes.iter().filter(|route| route.to.is_ipv4());
    let routes: Vec<_> = four.map(|r| (r.to.to_string(), r.gateway.unwrap().to_string())).collect();
    let expected = [("0.0.0.0/0", "10.0.0.9"), ("10.8.0.0/16", "10.0.0.1")];
    assert_eq!(routes, expected.map(|(to, gateway)| (to.to_owned(), gateway.to_owned())));
}

/// cni:2.3: a routed pod stands alone behind a gateway that nobody has to be asked for.
#[test]
fn a_routed_pod_gets_a_gateway_that_it_knows_and_the_node_a_route() {
    assert_eq!(
        outline(&planned(&json!({"mode": "ptp"}))),
        [
            "net/ipv4/ip_forward",
            "keep routes",
            "net/ipv6/conf/all/forwarding",
            "pair eth0",
            "pods/c1/eth0 None",
            "pods:10.0.0.2 pods:fd00::2",
            "net/ipv6/conf/eth0/disable_ipv6",
            "net/ipv6/conf/eth0/accept_dad",
            "net/ipv6/conf/eth0/accept_ra",
            "lo up",
            "up",
            "10.0.0.2/32",
            "fd00::2/128",
            "route to 169.254.1.1/32 via None",
            "route to 0.0.0.0/0 via Some(169.254.1.1)",
            "route to ::/0 via Some(fe80::1)",
            "neighbour 169.254.1.1",
            "neighbour fe80::1",
            "the node's route to [10.0.0.2, fd00::2]",
        ]
    );
    let closed = outline(&planned(&json!({"mode": "ptp", "isDefaultGateway": false})));
    assert!(!closed.iter().any(|step| step.contains("/0 via")), "{closed:?}");
}
