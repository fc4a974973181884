//! The chains of our table, given what it holds.
//!
//! Their rules name sets and never addresses of Services or endpoints. Which chains there are changes with what is there to
//! say; nothing here is done for each Service.

use super::ruleset::{
    AFFINITY_TIMES, CLIENTS, CLUSTER_IPS, DISCARD, FILTERED, HAIRPIN, MASQUERADE_LABEL, NODE_PORTS, REFUSE,
    REMEMBER, REMEMBER_HERE, SERVICES, SOURCES, UNSERVED, UNSERVED_ELSEWHERE, UNSERVED_HERE,
    UNSERVED_NODE_PORTS, client_fields, frontend_fields, ip_family,
};
use super::settings::Settings;
use super::shape::Shape;
use crate::dataplane::Untracked;
use heddle_netlink::nft::{
    Chain, End, Field, Hook, HookKind, HookPoint, Name, Policy, Rule, Sense, Statement, TableFamily,
};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The chain that keeps connections out of tracking.
const UNTRACKED: &str = "untracked";
/// With how many addresses of the node a packet is compared at most. A bridge has one; a rule has no room for any number.
const COMPARED: usize = 8;

/// `NF_IP_PRI_RAW`, `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_FILTER`, `NF_IP_PRI_NAT_SRC`
const RAW: i32 = -300;
const DNAT: i32 = -100;
const FILTER: i32 = 0;
const SNAT: i32 = 100;

fn base_chain(kind: HookKind, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(Hook { kind, point, priority, policy: Policy::Accept }), rules }
}

fn plain_chain(rules: Vec<Rule>) -> Chain {
    Chain { hook: None, rules }
}

/// What the table holds that decides which rules and chains there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Frontends with a source filter.
    pub filtered: usize,
    /// Frontends and node ports where connections may find no endpoint.
    pub unserved: usize,
    /// Cluster IPs.
    pub cluster_ips: usize,
    /// Some client keeps its endpoint.
    pub affinity: bool,
    /// Ranges that cluster IPs come from, in this family.
    pub service_cidrs: BTreeSet<IpNetwork>,
    /// The node's own address in this family.
    pub node_address: Option<IpAddr>,
    /// Networks between whose addresses nothing is tracked.
    pub untracked: BTreeSet<Untracked>,
}

/// The chains that are there whatever the table holds.
pub fn fixed() -> BTreeMap<Name, Chain> {
    let masquerade = |mut wanted: Rule| {
        wanted.insert(0, Statement::StatusDnat);
        wanted.push(Statement::Masquerade);
        wanted
    };
    let to_itself = Statement::InSet(vec![Field::Saddr, Field::Daddr], HAIRPIN.into());
    let rules = vec![masquerade(vec![Statement::HasLabel(MASQUERADE_LABEL)]), masquerade(vec![to_itself])];
    BTreeMap::from([
        ("postrouting".into(), base_chain(HookKind::Nat, HookPoint::Postrouting, SNAT, rules)),
        (REFUSE.into(), plain_chain(vec![vec![Statement::Reject]])),
        (DISCARD.into(), plain_chain(vec![vec![Statement::Drop]])),
    ])
}

/// The chains in which a connection finds its Service. They see the first packet of each.
pub fn nat(settings: &Settings, family: TableFamily, present: &Present) -> BTreeMap<Name, Chain> {
    let mut rules = Vec::new();
    if present.filtered > 0 {
        let key = frontend_fields(false);
        let source = [&key[..], &[Field::Saddr]].concat();
        rules.push(vec![
            Statement::InSet(key, FILTERED.into()),
            Statement::NotInSet(source, SOURCES.into()),
            Statement::Drop,
        ]);
    }
    rules.push(vec![Statement::Vmap(frontend_fields(false), SERVICES.into())]);
    rules.extend(node_port_rules(settings, family, (present, NODE_PORTS)));
    let mut chains = BTreeMap::from([
        ("prerouting".into(), base_chain(HookKind::Nat, HookPoint::Prerouting, DNAT, rules.clone())),
        ("output".into(), base_chain(HookKind::Nat, HookPoint::Output, DNAT, rules)),
    ]);
    if present.affinity {
        // Before the source is translated: clients are remembered by their own address.
        let rule = vec![Statement::StatusDnat, Statement::Vmap(vec![Field::CtMark], AFFINITY_TIMES.into())];
        for (name, point) in [(REMEMBER, HookPoint::Postrouting), (REMEMBER_HERE, HookPoint::Input)] {
            chains.insert(name.into(), base_chain(HookKind::Nat, point, SNAT - 1, vec![rule.clone()]));
        }
    }
    chains
}

/// The chain that remembers for so many seconds: the packet goes to its endpoint by now.
pub fn remember(seconds: u32) -> (Name, Chain) {
    let endpoint = vec![Field::Daddr, Field::Dport];
    let rule = vec![Statement::Remember(client_fields(), endpoint, CLIENTS.into(), seconds)];
    (format!("remember-{seconds}").into(), plain_chain(vec![rule]))
}

/// A node port is served on addresses of the node alone, which the kernel knows at every moment: no list of them is kept.
fn node_port_rules(settings: &Settings, family: TableFamily, (present, map): (&Present, &str)) -> Vec<Rule> {
    let to_map = Statement::Vmap(frontend_fields(true), map.into());
    let local = Statement::Local(End::Destination, Sense::Is);
    let ours = settings.node_port_networks(ip_family(family), present.node_address);
    let rule = |matched: Statement| vec![local.clone(), matched, to_map.clone()];
    match ours {
        // Loopback addresses stay the node's own: replies of a pod could not come back to them.
        None => vec![rule(Statement::Address(End::Destination, Sense::IsNot, loopback(family)))],
        Some(networks) => networks
            .into_iter()
            .map(|network| rule(Statement::Address(End::Destination, Sense::Is, network)))
            .collect(),
    }
}

fn loopback(family: TableFamily) -> IpNetwork {
    let (address, prefix): (IpAddr, u8) = match family {
        TableFamily::Ip => ([127, 0, 0, 0].into(), 8),
        TableFamily::Ip6 => ([0, 0, 0, 0, 0, 0, 0, 1].into(), 128),
    };
    IpNetwork::new(address, prefix).expect("the prefix fits the family")
}

/// The chains for new connections that no Service took: they have kept their destination. Base chains of this kind see
/// every packet, so they exist only while they have something to say, and let established packets go with their first
/// rule. They are not of type nat, which would see first packets only: a refusal from there never arrives (6.18).
pub fn filter(settings: &Settings, family: TableFamily, present: &Present) -> BTreeMap<Name, Chain> {
    let mut chains = BTreeMap::new();
    let mut base = |name: &str, point, to: &str| {
        let rules = vec![vec![Statement::StateNew, Statement::Goto(to.into())]];
        chains.insert(name.into(), base_chain(HookKind::Filter, point, FILTER, rules));
    };
    let here = present.unserved > 0;
    let elsewhere = here || present.cluster_ips > 0 || !present.service_cidrs.is_empty();
    if here {
        base("filter-input", HookPoint::Input, UNSERVED_HERE);
    }
    if elsewhere {
        base("filter-forward", HookPoint::Forward, UNSERVED_ELSEWHERE);
        base("filter-output", HookPoint::Output, UNSERVED_ELSEWHERE);
    }
    if !present.untracked.is_empty() {
        let hook = Hook {
            kind: HookKind::Filter,
            point: HookPoint::Prerouting,
            priority: RAW,
            policy: Policy::Accept,
        };
        let rules = present.untracked.iter().map(untracked).collect();
        chains.insert(UNTRACKED.into(), Chain { hook: Some(hook), rules });
    }
    let frontend = vec![Statement::Vmap(frontend_fields(false), UNSERVED.into())];
    if here {
        let mut rules = vec![frontend.clone()];
        rules.extend(node_port_rules(settings, family, (present, UNSERVED_NODE_PORTS)));
        chains.insert(UNSERVED_HERE.into(), plain_chain(rules));
    }
    if elsewhere {
        // An address of the node itself is not judged here: a cache of the node may have bound a cluster IP.
        let not_ours = || Statement::Local(End::Destination, Sense::IsNot);
        let mut rules = vec![frontend];
        rules.push(vec![
            Statement::InSet(vec![Field::Daddr], CLUSTER_IPS.into()),
            not_ours(),
            Statement::Reject,
        ]);
        let unused = |cidr: &IpNetwork| {
            vec![Statement::Address(End::Destination, Sense::Is, *cidr), not_ours(), Statement::Drop]
        };
        rules.extend(present.service_cidrs.iter().map(unused));
        chains.insert(UNSERVED_ELSEWHERE.into(), plain_chain(rules));
    }
    chains
}

/// What one pod of the node sends to another. What is for the node itself stays tracked: it answers to connections of the node's,
/// and a firewall may want to know. Its addresses are compared, since each packet comes by here: the kernel's own answer costs as much as
/// all of tracking's rest.
fn untracked(between: &Untracked) -> Rule {
    let at = |end, sense, network| Statement::Address(end, sense, network);
    let network = between.network;
    let mut rule = vec![at(End::Source, Sense::Is, network), at(End::Destination, Sense::Is, network)];
    if between.own.len() > COMPARED {
        rule.push(Statement::Local(End::Destination, Sense::IsNot));
    } else {
        rule.extend(between.own.iter().map(|own| at(End::Destination, Sense::IsNot, (*own).into())));
    }
    rule.push(Statement::Notrack);
    rule
}

/// Whether a base chain of this name with this hook may be one of ours.
pub fn is_ours(name: &str, hook: Hook) -> bool {
    let (kind, point, priority) = match name {
        REMEMBER => (HookKind::Nat, HookPoint::Postrouting, SNAT - 1),
        REMEMBER_HERE => (HookKind::Nat, HookPoint::Input, SNAT - 1),
        "filter-input" => (HookKind::Filter, HookPoint::Input, FILTER),
        "filter-forward" => (HookKind::Filter, HookPoint::Forward, FILTER),
        "filter-output" => (HookKind::Filter, HookPoint::Output, FILTER),
        UNTRACKED => (HookKind::Filter, HookPoint::Prerouting, RAW),
        _ => return false,
    };
    hook == Hook { kind, point, priority, policy: Policy::Accept }
}

/// The chain for a shape.
pub fn of_shape(shape: &Shape, settings: &Settings, family: TableFamily) -> (Name, Chain) {
    (shape.name(), plain_chain(shape.rules(settings, ip_family(family))))
}
