use super::*;
use crate::overlay::Vxlan;
use crate::plan::{Mode, plan};
use crate::seen::Seen;
use heddle_netlink::nft::TableFamily;
use heddle_netlink::route::Route;
use heddle_proxy::model::{Change, Kind};

fn node(name: &str, address: [u8; 4], range: &str) -> Change {
    let pod_cidrs = vec![range.parse().unwrap()];
    Change::NodeApplied(Node {
        name: name.into(),
        addresses: vec![address.into()],
        pod_cidrs,
        ..Node::default()
    })
}

fn cluster(nodes: impl IntoIterator<Item = Change>) -> Cluster {
    let mut cluster = Cluster::default();
    nodes.into_iter().chain([Change::Complete(Kind::Node)]).for_each(|change| {
        cluster.apply(change);
    });
    cluster
}

fn settings() -> Settings {
    Settings {
        node: "node-1".into(),
        mode: Mode::default(),
        vxlan: Vxlan::default(),
        masquerades: true,
        seen_by: Vec::new(),
        families: vec![TableFamily::Ip],
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The view after a turn with these nodes, on a host with one link.
fn look(before: &View, cluster: &Cluster, failures: &[&str], now: Timestamp) -> View {
    let uplink = Route::new("192.168.0.0/24".parse().unwrap(), None, LinkIndex(2));
    let seen = Seen { routes: vec![uplink], ..Seen::default() };
    let settings = settings();
    let plan = plan(cluster, &settings, &seen);
    let failures: Vec<String> = failures.iter().map(|failure| (*failure).to_owned()).collect();
    let (settings, plan, failures) = (&settings, &plan, &failures);
    let turn = Turn { cluster, settings, plan, forwards: true, failures, usable: true, repaired: false };
    before.after(turn, now)
}

#[test]
fn each_range_has_a_way_or_a_problem() {
    let cluster = cluster([
        node("node-1", [192, 168, 0, 1], "10.244.1.0/24"),
        node("node-2", [192, 168, 0, 2], "10.244.2.0/24"),
        node("node-3", [192, 168, 0, 3], "10.244.2.0/24"),
        node("far", [172, 16, 0, 1], "10.244.4.0/24"),
    ]);
    let view = look(&View::default(), &cluster, &[], at(1));
    let way = |name: &str| view.peers[name].paths[0].way;
    assert_eq!(way("node-2"), Some(Way::Direct { via: [192, 168, 0, 2].into(), link: LinkIndex(2) }));
    assert_eq!((way("node-3"), way("far")), (None, None), "the range of node-3 is that of node-2");
    assert_eq!(view.problems.len(), 2);
    assert_eq!(view.own.as_ref().map(|own| own.ranges.len()), Some(1));
    assert!(view.masquerades && view.forwards && view.standing == Standing::Whole);
}

#[test]
fn what_lasts_has_the_time_of_its_beginning_and_what_failed_is_remembered() {
    let near = [node("node-1", [192, 168, 0, 1], "10.244.1.0/24")];
    let with_far = cluster(near.iter().cloned().chain([node("far", [172, 16, 0, 1], "10.244.4.0/24")]));
    let one = look(&View::default(), &with_far, &["no memory"], at(1));
    assert_eq!((one.standing, one.whole), (Standing::Failing, None));
    let two = look(&one, &with_far, &[], at(2));
    assert_eq!(two.problems.values().copied().collect::<Vec<_>>(), [at(1)]);
    assert_eq!((two.whole, two.failures.len()), (Some(at(2)), 0));
    assert_eq!(two.last_failure, Some((at(1), "no memory".to_owned())));
    assert_eq!((one.since, two.since), (Some(at(1)), Some(at(2))));
    assert_eq!(look(&two, &with_far, &[], at(9)).since, Some(at(2)));
    let three = look(&two, &cluster(near), &["busy"], at(3));
    assert!(three.problems.is_empty());
    assert_eq!((three.whole, three.at), (Some(at(2)), Some(at(3))));
    assert_eq!(three.last_failure, Some((at(3), "busy".to_owned())));
}

#[test]
fn a_node_without_an_object_or_ranges_has_nothing_to_masquerade() {
    let view = look(&View::default(), &cluster([]), &[], at(1));
    assert!(view.own.is_none() && !view.masquerades);
}

#[test]
fn what_is_wrong_with_the_supply_outlasts_turns_and_ends_when_it_is_said() {
    let wrong = Problem::NoProgram { why: "disk full".to_owned() };
    let one = View::default().with_supply(&[wrong.clone()].into(), at(1));
    assert_eq!(one.standing, Standing::Waiting, "that is known before the Nodes are");
    let two = look(&one, &cluster([]), &[], at(2)).with_supply(&[wrong.clone()].into(), at(3));
    assert_eq!((two.problems.len(), two.problems[&wrong]), (2, at(1)));
    let three = two.with_supply(&[].into(), at(4));
    assert_eq!(three.problems.keys().filter(|problem| problem.is_of_supply()).count(), 0);
    assert_eq!((three.problems.len(), three.standing), (1, Standing::Whole));
}
