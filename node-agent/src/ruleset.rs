//! The table that masquerades: its names, its set, its chain. Pure.
//!
//! One rule for each range of the node's own pods, whatever the size of the cluster; where packets keep their source is a set
//! of (source, destination) ranges. A packet from a pod to anywhere else leaves with the node's address.

use crate::cluster::Cluster;
use crate::plan::Settings;
use heddle_netlink::nft::{
    Cells, Chain, Data, DataType, End, Field, Hook, HookKind, HookPoint, Policy, Rule, Sense, Set, SetType,
    Statement, Table, TableFamily, Transaction, Type,
};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The table, in the families `ip` and `ip6`.
pub const TABLE: &str = heddle_proxy::nft::ruleset::NODE_TABLE;
const COMMENT: &str = "masquerade of what leaves the cluster, kept by heddle-node: edits are undone";
/// (pods, destination) between which packets keep their source.
pub const KEPT: &str = "kept";
/// Behind a proxy's and host ports' (`NF_IP_PRI_NAT_SRC` is 100): what they decide of a connection stays theirs.
const SNAT: i32 = 105;

/// A transaction on the table that does nothing yet.
pub fn transaction(family: TableFamily) -> Transaction {
    Transaction::new(family, TABLE.into(), COMMENT)
}

/// The table for this node's pods.
pub fn table(family: TableFamily, cluster: &Cluster, settings: &Settings) -> Table {
    let is_of_family = |range: &IpNetwork| TableFamily::of(range.ip()) == family;
    let own = cluster.node(&settings.node).map_or(&[][..], |node| &node.pod_cidrs);
    let own = disjoint(own.iter().copied().filter(is_of_family));
    let kept = disjoint(destinations(cluster, settings).filter(is_of_family));
    let mut table = Table::new(family, TABLE);
    let pairs = own.iter().flat_map(|from| kept.iter().map(move |to| element(*from, *to)));
    table.sets.insert(KEPT.into(), Set { kind: set_type(family), elements: pairs.collect() });
    let hook =
        Hook { kind: HookKind::Nat, point: HookPoint::Postrouting, priority: SNAT, policy: Policy::Accept };
    let rules = own.into_iter().map(rule).collect();
    table.chains = BTreeMap::from([("postrouting".into(), Chain { hook: Some(hook), rules })]);
    table
}

/// Where packets of pods keep their source: pods, nodes, what the operator says, and what is for many on one link, which
/// bridges hand to these rules too.
fn destinations<'a>(cluster: &'a Cluster, settings: &'a Settings) -> impl Iterator<Item = IpNetwork> + 'a {
    let pods = cluster.nodes().flat_map(|node| node.pod_cidrs.iter().copied());
    let nodes = cluster.nodes().flat_map(|node| node.addresses.iter().copied().map(IpNetwork::from));
    pods.chain(nodes).chain(settings.seen_by.iter().copied()).chain(on_one_link())
}

fn on_one_link() -> impl Iterator<Item = IpNetwork> {
    let ranges: [(IpAddr, u8); 4] = [
        (Ipv4Addr::new(224, 0, 0, 0).into(), 4),
        (Ipv4Addr::BROADCAST.into(), 32),
        (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10),
    ];
    ranges.into_iter().map(|(ip, prefix)| IpNetwork::new(ip, prefix).expect("each is a prefix of its family"))
}

/// The same addresses without ranges that lie in others: the kernel refuses elements that overlap.
fn disjoint(ranges: impl Iterator<Item = IpNetwork>) -> Vec<IpNetwork> {
    let mut sorted: Vec<IpNetwork> = ranges.collect();
    sorted.sort_by_key(|range| (range.network(), range.prefix()));
    let mut apart: Vec<IpNetwork> = Vec::new();
    for range in sorted {
        if !apart.last().is_some_and(|last| last.contains(range.network())) {
            apart.push(range);
        }
    }
    apart
}

fn element(from: IpNetwork, to: IpNetwork) -> (Cells, Data) {
    let first = Cells::default().address(from.network()).address(to.network());
    (first, Data::Until(Cells::default().address(from.broadcast()).address(to.broadcast())))
}

fn set_type(family: TableFamily) -> SetType {
    let address = if family == TableFamily::Ip { Type::Ipv4Addr } else { Type::Ipv6Addr };
    SetType {
        key: vec![address, address],
        data: DataType::Ranges,
        dynamic: None,
        counted: false,
        comment: "pods . where their packets keep their source".into(),
    }
}

fn rule(own: IpNetwork) -> Rule {
    vec![
        Statement::Address(End::Source, Sense::Is, own),
        Statement::NotInSet(vec![Field::Saddr, Field::Daddr], KEPT.into()),
        Statement::Masquerade,
    ]
}
