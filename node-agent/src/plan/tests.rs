use super::*;
use crate::diff::diff;
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

fn settings() -> Settings {
    Settings {
        node: OWN.into(),
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

fn planned(nodes: &[Node], seen: &Seen) -> (Vec<String>, Vec<String>) {
    let plan = plan(&cluster(nodes), &settings(), seen);
    let route = |route: &Route| format!("{} via {}", route.to, route.gateway.unwrap());
    (plan.routes.values().map(route).collect(), plan.problems.iter().map(ToString::to_string).collect())
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
        plan(&cluster(&nodes), &settings(), &host()).tables[&TableFamily::Ip6].clone()
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

proptest! {
    #[test]
    fn whatever_the_kernel_has_the_steps_lead_to_the_plan_and_touch_nothing_of_others(
        before in nodes(), after in nodes(), host in hosts(),
    ) {
        let mut seen = host.clone();
        for nodes in [before, after] {
            let plan = plan(&cluster(&nodes), &settings(), &seen);
            let steps = diff(&seen, &plan);
            seen = seen.after(&steps).unwrap();
            let ours: BTreeMap<IpNetwork, Route> = seen.ours().map(|route| (route.to, *route)).collect();
            prop_assert_eq!(&ours, &plan.routes);
            prop_assert_eq!(seen.ours().count(), plan.routes.len());
            prop_assert_eq!(&seen.tables, &plan.tables);
            prop_assert!(seen.others().eq(host.others()));
            prop_assert!(diff(&seen, &plan).is_empty());
        }
        let steps = diff(&seen, &Plan::default());
        let cleaned = seen.after(&steps).unwrap();
        prop_assert_eq!((cleaned.ours().count(), cleaned.tables.len()), (0, 0));
    }

    #[test]
    fn a_route_leads_into_a_range_of_one_node_only(nodes in nodes()) {
        let plan = plan(&cluster(&nodes), &settings(), &host());
        let ranges: Vec<IpNetwork> = plan.routes.keys().copied().collect();
        for (index, range) in ranges.iter().enumerate() {
            let lies_apart = |other: &IpNetwork| !range.contains(other.ip()) && !other.contains(range.ip());
            prop_assert!(ranges[index + 1..].iter().all(lies_apart));
            prop_assert_eq!(plan.routes[range].table, TABLE_MAIN);
        }
    }
}
