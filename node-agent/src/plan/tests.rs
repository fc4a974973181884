use super::*;
use crate::diff::{OverlayStep, diff};
use crate::seen::Vxlans;
use heddle_netlink::route::{PROTOCOL_BOOT, TABLE_MAIN};
use heddle_proxy::model::{Change, Kind};
use proptest::prelude::*;

const UPLINK: LinkIndex = LinkIndex(2);
const OWN: &str = "node-1";

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn node(name: &str, ranges: &[&str], addresses: &[&str]) -> Node {
    Node {
        name: name.into(),
        pod_cidrs: ranges.iter().map(|range| net(range)).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Node::default()
    }
}

fn cluster(nodes: &[Node]) -> Cluster {
    let mut cluster = Cluster::default();
    let changes = nodes.iter().cloned().map(Change::NodeApplied);
    changes.chain([Change::Complete(Kind::Node)]).for_each(|change| {
        cluster.apply(change);
    });
    cluster
}

fn settings(mode: Mode) -> Settings {
    Settings {
        node: OWN.into(),
        mode,
        vxlan: Vxlan::default(),
        masquerades: true,
        seen_by: vec![net("10.0.0.0/8")],
        families: TableFamily::ALL.into(),
    }
}

/// A host with one uplink to 192.168.0.0/24 and fd00:192::/64, whose router knows everything else.
fn host() -> Seen {
    let link = |to: &str| Route::new(net(to), None, UPLINK);
    let by = |to: &str, gateway: &str| Route::new(net(to), Some(gateway.parse().unwrap()), UPLINK);
    Seen {
        routes: vec![
            link("192.168.0.0/24"),
            link("fd00:192::/64"),
            by("0.0.0.0/0", "192.168.0.1"),
            by("::/0", "fd00:192::1"),
        ],
        addresses: BTreeMap::from([("192.168.0.11".parse().unwrap(), UPLINK)]),
        mtus: BTreeMap::from([(UPLINK, 1500)]),
        ..Seen::default()
    }
}

fn own() -> Node {
    node(OWN, &["10.244.1.0/24", "fd00:244:0:1::/64"], &["192.168.0.11", "fd00:192::b"])
}

fn peer(number: u8) -> Node {
    let ranges = [format!("10.244.{number}.0/24"), format!("fd00:244:0:{number}::/64")];
    let addresses = [format!("192.168.0.1{number}"), format!("fd00:192::{number}")];
    node(&format!("node-{number}"), &[&ranges[0], &ranges[1]], &[&addresses[0], &addresses[1]])
}

/// Routes and problems where there is to be no way but links.
fn planned(nodes: &[Node], seen: &Seen) -> (Vec<String>, Vec<String>) {
    let plan = plan(&cluster(nodes), &settings(Mode::Routes), seen);
    let route = |route: &Route| format!("{} via {}", route.to, route.gateway.unwrap());
    (plan.routes.values().map(route).collect(), plan.problems.iter().map(ToString::to_string).collect())
}

#[test]
fn a_node_without_an_address_knows_that_the_others_do_not_reach_its_pods() {
    let problems = |mode, addresses: &[&str]| {
        let own = Node { addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(), ..own() };
        let plan = plan(&cluster(&[own]), &settings(mode), &host());
        plan.problems.iter().map(Problem::reason).collect::<Vec<_>>()
    };
    let (one, both) = (&["192.168.0.11"][..], &["192.168.0.11", "fd00:192::b"][..]);
    assert_eq!(problems(Mode::Routes, one), ["NodeAddressMissing"]);
    assert_eq!(problems(Mode::Routes, both), [""; 0]);
    assert_eq!(problems(Mode::Auto, one), [""; 0], "VXLAN carries both families over either");
    assert_eq!(problems(Mode::Auto, &[]), ["NodeAddressMissing"; 2]);
}

#[test]
fn every_range_of_another_node_leads_to_its_address_of_that_family() {
    let (routes, problems) = planned(&[own(), peer(2)], &host());
    assert_eq!(routes, ["10.244.2.0/24 via 192.168.0.12", "fd00:244:0:2::/64 via fd00:192::2"]);
    assert_eq!(problems, [""; 0]);
}

#[test]
fn a_node_behind_a_router_has_no_route_and_is_reported() {
    let far = node("far", &["10.244.9.0/24"], &["172.16.0.9"]);
    let (routes, problems) = planned(&[own(), far], &host());
    assert_eq!(routes, [""; 0]);
    assert!(problems[0].starts_with("Node far (172.16.0.9) is not on a link of this node"), "{problems:?}");
}

#[test]
fn a_more_specific_route_to_the_address_decides_whether_it_is_on_a_link() {
    let mut seen = host();
    seen.routes.push(Route::new(net("192.168.0.12/32"), Some("192.168.0.1".parse().unwrap()), UPLINK));
    let (routes, problems) = planned(&[own(), peer(2), peer(3)], &seen);
    assert!(routes.iter().all(|route| !route.ends_with("192.168.0.12")), "{routes:?}");
    assert_eq!((routes.len(), problems.len()), (3, 1));
}

#[test]
fn a_node_without_an_address_of_a_family_is_reached_in_the_other() {
    let half = node("half", &["10.244.2.0/24", "fd00:244:0:2::/64"], &["fd00:192::2"]);
    let (routes, problems) = planned(&[own(), half], &host());
    assert_eq!(routes, ["fd00:244:0:2::/64 via fd00:192::2"]);
    assert!(problems[0].starts_with("Node half has no address of the family of 10.244.2.0/24"));
}

#[test]
fn a_range_that_overlaps_another_nodes_stays_with_the_first_and_ours_is_never_given_away() {
    let thief = node("a", &["10.244.0.0/16"], &["192.168.0.19"]);
    let twin = node("node-3", &["10.244.2.0/24"], &["192.168.0.13"]);
    let (routes, problems) = planned(&[own(), thief, peer(2), twin], &host());
    assert_eq!(routes, ["10.244.2.0/24 via 192.168.0.12", "fd00:244:0:2::/64 via fd00:192::2"]);
    assert!(problems[0].contains("10.244.0.0/16 of Node a overlaps 10.244.1.0/24 of Node node-1"));
    assert!(problems[1].contains("10.244.2.0/24 of Node node-3 overlaps 10.244.2.0/24 of Node node-2"));
}

#[test]
fn under_a_wrong_name_nothing_leads_to_this_host_itself() {
    let here = node("the-real-name", &["10.244.1.0/24"], &["192.168.0.11"]);
    let (routes, problems) = planned(&[here, peer(2)], &host());
    assert_eq!(routes.len(), 2);
    assert!(problems[0].starts_with("there is no Node node-1"));
    assert!(problems[1].starts_with("Node the-real-name has the address 192.168.0.11 of this host"));
}

#[test]
fn a_node_without_pod_ranges_waits_and_reaches_the_others() {
    let waiting = node(OWN, &[], &["192.168.0.11"]);
    let (routes, problems) = planned(&[waiting, peer(2)], &host());
    assert_eq!(routes.len(), 2);
    assert!(problems[0].starts_with("Node node-1 has no spec.podCIDRs yet"));
}

#[test]
fn another_programs_route_goes_before_ours_which_stands_behind_it() {
    let mut seen = host();
    let other = Route::new(net("10.244.2.0/24"), Some("192.168.0.1".parse().unwrap()), UPLINK);
    seen.routes.push(other);
    let (routes, problems) = planned(&[own(), peer(2)], &seen);
    assert_eq!(routes.len(), 2);
    assert!(problems[0].contains("another program's route to 10.244.2.0/24 (metric 0) goes before ours"));
    seen.routes.push(Route { priority: Some(METRIC), ..other });
    seen.routes.retain(|route| *route != other);
    let (routes, problems) = planned(&[own(), peer(2)], &seen);
    assert_eq!((routes.len(), problems.len()), (1, 1), "its place is taken");
}

#[test]
fn the_table_has_one_rule_whatever_the_size_of_the_cluster() {
    let table = |count: u8| {
        let nodes: Vec<Node> = std::iter::once(own()).chain((2..=count).map(peer)).collect();
        plan(&cluster(&nodes), &settings(Mode::Auto), &host()).tables[&TableFamily::Ip6].clone()
    };
    assert_eq!(table(2).chains, table(9).chains);
    assert_eq!(
        table(2).to_string(),
        "\
table ip6 heddle-node {
\tset kept {
\t\ttype ipv6_addr . ipv6_addr
\t\tflags interval
\t\tcomment \"pods . where their packets keep their source\"
\t\telements = {
\t\t\tfd00:244:0:1::-fd00:244:0:1:ffff:ffff:ffff:ffff . fd00:192::2,
\t\t\tfd00:244:0:1::-fd00:244:0:1:ffff:ffff:ffff:ffff . fd00:192::b,
\t\t\tfd00:244:0:1::-fd00:244:0:1:ffff:ffff:ffff:ffff . fd00:244:0:1::-fd00:244:0:1:ffff:ffff:ffff:ffff,
\t\t\tfd00:244:0:1::-fd00:244:0:1:ffff:ffff:ffff:ffff . fd00:244:0:2::-fd00:244:0:2:ffff:ffff:ffff:ffff,
\t\t\tfd00:244:0:1::-fd00:244:0:1:ffff:ffff:ffff:ffff . fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff,
\t\t\tfd00:244:0:1::-fd00:244:0:1:ffff:ffff:ffff:ffff . ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,
\t\t}
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority 105; policy accept;
\t\tip6 saddr fd00:244:0:1::/64 ip6 saddr . ip6 daddr != @kept masquerade fully-random
\t}
}
"
    );
}

/// Nodes whose ranges are often the same, or in each other.
fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let range =
        (0..6_u8, prop::sample::select(vec![16, 23, 24]), any::<bool>()).prop_map(|(third, length, v6)| {
            let text = if v6 {
                format!("fd00:244:0:{third}::/{}", length + 40)
            } else {
                format!("10.244.{third}.0/{length}")
            };
            let range = net(&text);
            IpNetwork::new(range.network(), range.prefix()).unwrap()
        });
    let address = prop_oneof!["192\\.168\\.0\\.1[1-9]", "fd00:192::[1-9]", "172\\.16\\.0\\.[1-9]"];
    let parts = (1..6_u8, prop::collection::vec(range, 0..3), prop::collection::vec(address, 0..3));
    let node = parts.prop_map(|(number, pod_cidrs, addresses)| Node {
        pod_cidrs,
        ..node(&format!("node-{number}"), &[], &addresses.iter().map(String::as_str).collect::<Vec<_>>())
    });
    prop::collection::vec(node, 0..6)
}

fn modes() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![Mode::Auto, Mode::Routes, Mode::Vxlan])
}

/// A host with routes of others and of an earlier agent to ranges of pods.
fn hosts() -> impl Strategy<Value = Seen> {
    let route = (0..6_u8, 11..14_u8, any::<bool>(), prop::sample::select(vec![None, Some(7), Some(METRIC)]));
    let route = route.prop_map(|(third, last, ours, priority)| Route {
        protocol: if ours { PROTOCOL_HEDDLE_NODE } else { PROTOCOL_BOOT },
        priority,
        ..Route::new(net(&format!("10.244.{third}.0/24")), Some([192, 168, 0, last].into()), UPLINK)
    });
    // The kernel has one route for each destination and metric.
    let routes = prop::collection::btree_map((0..6_u8, 0..3_u8), route, 0..6).prop_map(|routes| {
        let slots = routes.into_values().map(|route| ((route.to, route.priority), route));
        slots.collect::<BTreeMap<_, _>>().into_values().collect::<Vec<_>>()
    });
    routes.prop_map(|routes| {
        let mut seen = host();
        seen.routes.extend(routes);
        seen
    })
}

/// What the kernel has in the end, and the last plan.
fn settle(cluster: &Cluster, mode: Mode, mut seen: Seen) -> (Seen, Plan) {
    for _ in 0..=1 {
        let plan = plan(cluster, &settings(mode), &seen);
        let steps = diff(&seen, &plan);
        seen = seen.after(&steps).unwrap();
        if !steps.makes_device() {
            return (seen, plan);
        }
    }
    panic!("the device is made twice");
}

fn far() -> Node {
    node("far", &["10.244.9.0/24", "fd00:244:0:9::/64"], &["172.16.0.9", "fd00:172::9"])
}

fn ways(plan: &Plan) -> Vec<String> {
    let way = |route: &Route| match route.encap {
        Some(tunnel) => format!("{} in packets to {} mtu {:?}", route.to, tunnel.to, route.mtu),
        None => format!("{} via {}", route.to, route.gateway.unwrap()),
    };
    plan.routes.values().map(way).collect()
}

#[test]
fn a_node_behind_a_router_is_reached_in_packets_to_its_first_address_and_its_pods_reach_us_so() {
    let (seen, plan) = settle(&cluster(&[own(), peer(2), far()]), Mode::Auto, host());
    assert_eq!(
        ways(&plan),
        [
            "10.244.2.0/24 via 192.168.0.12",
            "10.244.9.0/24 in packets to 172.16.0.9 mtu None",
            "fd00:244:0:2::/64 via fd00:192::2",
            "fd00:244:0:9::/64 in packets to 172.16.0.9 mtu None",
            "172.16.0.9/32 in packets to 172.16.0.9 mtu None",
            "fd00:172::9/128 in packets to 172.16.0.9 mtu None",
        ]
    );
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    let from: Vec<String> = plan.rules.keys().map(ToString::to_string).collect();
    assert_eq!(from, ["10.244.1.0/24", "fd00:244:0:1::/64"]);
    let device = seen.vxlan.device.unwrap();
    assert_eq!((device.mtu, device.mac, plan.mtu), (1450, mac_of(OWN), Some(1450)));
    let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.244.1.0/32", "fd00:244:0:1::/128"]);
    assert_eq!(device.neighbours.len(), 2);
    assert!(device.neighbours.values().all(|mac| *mac == mac_of("far")));
}

#[test]
fn always_over_vxlan_means_neighbours_on_the_link_too() {
    let (_, plan) = settle(&cluster(&[own(), peer(2)]), Mode::Vxlan, host());
    assert!(ways(&plan).iter().all(|way| way.contains("in packets to 192.168.0.12")), "{:?}", ways(&plan));
    let (_, alone) = settle(&cluster(&[own()]), Mode::Vxlan, host());
    assert_eq!(
        (alone.overlay, alone.mtu),
        (None, Some(1450)),
        "the pods of the next node will not be smaller"
    );
}

#[test]
fn pods_of_a_family_that_the_nodes_have_not_travel_in_the_other() {
    let six = node("six", &["10.244.8.0/24"], &["fd00:192::9"]);
    let (seen, plan) = settle(&cluster(&[own(), six, far()]), Mode::Auto, host());
    let ways = ways(&plan);
    assert_eq!(ways[0], "10.244.8.0/24 in packets to fd00:192::9 mtu Some(1430)");
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    assert_eq!((seen.vxlan.device.unwrap().mtu, plan.mtu), (1450, Some(1430)));
}

#[test]
fn what_is_in_the_way_of_a_device_is_named_and_neighbours_on_the_link_are_reached() {
    let vxlans = [
        Vxlans { missing: true, ..Vxlans::default() },
        Vxlans { name_taken: true, ..Vxlans::default() },
        Vxlans { others: BTreeMap::from([(4789, "vxlan.calico".to_owned())]), ..Vxlans::default() },
    ];
    let said = [
        "this kernel has no VXLAN",
        "a link named heddle-vxlan is no VXLAN device",
        "the VXLAN device vxlan.calico has UDP port 4789",
    ];
    for (vxlan, said) in vxlans.into_iter().zip(said) {
        let (_, plan) = settle(&cluster(&[own(), peer(2), far()]), Mode::Auto, Seen { vxlan, ..host() });
        assert_eq!((plan.routes.len(), plan.overlay), (2, None));
        let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        assert!(problems.len() == 1 && problems[0].starts_with(said), "{problems:?}");
    }
}

#[test]
fn a_node_to_whom_no_route_leads_is_reported() {
    let mut seen = host();
    seen.routes.retain(|route| route.gateway.is_none());
    let (_, plan) = settle(&cluster(&[own(), far()]), Mode::Auto, seen);
    let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
    assert!(
        problems[0].starts_with("no route of this node leads to any address of Node far"),
        "{problems:?}"
    );
    assert_eq!((problems.len(), plan.overlay), (2, None));
}

#[test]
fn a_device_is_mended_and_made_anew_only_where_it_must() {
    let all = cluster(&[own(), far()]);
    let (whole, plan) = settle(&all, Mode::Auto, host());
    let mut bent = whole.clone();
    let device = bent.vxlan.device.as_mut().unwrap();
    (device.up, device.mtu, device.offload) = (false, 1400, Some(false));
    device.addresses.clear();
    device.neighbours.insert("10.244.7.0".parse().unwrap(), mac_of("gone"));
    let steps = diff(&bent, &plan);
    assert_eq!((steps.overlay.len(), steps.leaving.len()), (5, 1));
    assert_eq!(bent.after(&steps).unwrap(), whole);
    let mut strange = whole.clone();
    strange.vxlan.device.as_mut().unwrap().collects = false;
    let steps = diff(&strange, &super::plan(&all, &settings(Mode::Auto), &strange));
    assert!(
        matches!(steps.overlay[..], [OverlayStep::Remove(_), OverlayStep::Make(_)]),
        "{:?}",
        steps.overlay
    );
    let steps = diff(&whole, &Plan::default());
    assert!(matches!(steps.leaving[..], [OverlayStep::Remove(_)]));
    assert_eq!(whole.after(&steps).unwrap(), host());
}

proptest! {
    #[test]
    fn whatever_the_kernel_has_the_steps_lead_to_the_plan_and_touch_nothing_of_others(
        before in nodes(), after in nodes(), host in hosts(), mode in modes(),
    ) {
        let mut seen = host.clone();
        for nodes in [before, after] {
            let plan;
            (seen, plan) = settle(&cluster(&nodes), mode, seen);
            let ours: BTreeMap<Place, Route> = seen.ours().map(|route| (place_of(route), *route)).collect();
            prop_assert_eq!(&ours, &plan.routes);
            prop_assert_eq!(seen.ours().count(), plan.routes.len());
            prop_assert_eq!(&seen.tables, &plan.tables);
            prop_assert_eq!(seen.rules.len(), plan.rules.len());
            prop_assert_eq!(seen.vxlan.device.is_some(), plan.overlay.is_some());
            prop_assert!(seen.others().eq(host.others()));
            prop_assert!(diff(&seen, &plan).is_empty());
        }
        let steps = diff(&seen, &Plan::default());
        let cleaned = seen.after(&steps).unwrap();
        prop_assert_eq!((cleaned.ours().count(), cleaned.rules.len(), cleaned.tables.len()), (0, 0, 0));
        prop_assert!(cleaned.vxlan.device.is_none());
    }

    #[test]
    fn a_route_leads_into_a_range_of_one_node_only(nodes in nodes()) {
        let (_, plan) = settle(&cluster(&nodes), Mode::Auto, host());
        let main = plan.routes.keys().filter(|(table, _)| *table == TABLE_MAIN);
        let ranges: Vec<IpNetwork> = main.map(|(_, range)| *range).collect();
        for (index, range) in ranges.iter().enumerate() {
            let lies_apart = |other: &IpNetwork| !range.contains(other.ip()) && !other.contains(range.ip());
            prop_assert!(ranges[index + 1..].iter().all(lies_apart));
        }
    }
}
