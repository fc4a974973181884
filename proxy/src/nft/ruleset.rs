//! Our table: its names, its chains and sets, its keys.
//!
//! This is the one place that knows how the table looks; which elements are in it is the plan's. Its shapes are limited to
//! what nft 1.0.6 can print and load again, since operators list rulesets.

use super::settings::Settings;
use super::shape::Shape;
use crate::frontends::{Endpoint, Frontend, IpFamily, Place, Unserved};
use heddle_netlink::nft::{
    Cells, Chain, DataType, End, Field, Hook, HookKind, HookPoint, Name, Policy, Rule, Sense, Set, SetType,
    Statement, Table, TableFamily, Type,
};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The table, in the families `ip` and `ip6`.
pub const TABLE: &str = "heddle-proxy";
/// What `nft list table` shows of the table's purpose.
pub const COMMENT: &str = "Services of this node, kept by heddle-proxy: edits are undone";

/// (address, protocol, port) of a frontend → the chain for its shape.
pub const SERVICES: &str = "services";
/// (frontend, slot) → an endpoint of the cluster; slots count from 0 without gaps.
pub const ENDPOINTS: &str = "endpoints";
/// (frontend, slot) → an endpoint of this node.
pub const LOCAL_ENDPOINTS: &str = "local-endpoints";
/// (protocol, port) of a node port → the chain for its shape.
pub const NODE_PORTS: &str = "node-ports";
/// (node port, slot) → an endpoint of the cluster.
pub const NODE_PORT_ENDPOINTS: &str = "node-port-endpoints";
/// (node port, slot) → an endpoint of this node.
pub const NODE_PORT_LOCAL_ENDPOINTS: &str = "node-port-local-endpoints";
/// Frontends where new connections may find no endpoint → [`REFUSE`] or [`DISCARD`].
pub const UNSERVED: &str = "unserved";
/// The same for node ports.
pub const UNSERVED_NODE_PORTS: &str = "unserved-node-ports";
/// Frontends whose clients keep their endpoint → the number of the Service's port, a connection mark.
pub const AFFINITY: &str = "affinity";
/// The same for endpoints of this node.
pub const LOCAL_AFFINITY: &str = "local-affinity";
/// The same for node ports.
pub const NODE_PORT_AFFINITY: &str = "node-port-affinity";
/// The same for node ports and endpoints of this node.
pub const NODE_PORT_LOCAL_AFFINITY: &str = "node-port-local-affinity";
/// A number → the chain that remembers for its time.
pub const AFFINITY_TIMES: &str = "affinity-times";
/// (client, protocol, number) → the endpoint that it keeps; filled by packets.
pub const CLIENTS: &str = "clients";
/// How many clients are remembered at most; more are served without.
const MOST_CLIENTS: u32 = 262_144;
/// (address, address) of endpoints that may reach themselves.
pub const HAIRPIN: &str = "hairpin";
/// Cluster IPs, whatever the port.
pub const CLUSTER_IPS: &str = "cluster-ips";
/// Frontends that only some may connect to.
pub const FILTERED: &str = "filtered";
/// (frontend, source range): who may.
pub const SOURCES: &str = "sources";

/// The chain in which clients are remembered.
const REMEMBER: &str = "remember";
/// The chain that answers with a refusal.
pub const REFUSE: &str = "refuse";
/// The chain that drops.
pub const DISCARD: &str = "discard";
/// What new connections meet that no Service took.
const UNSERVED_HERE: &str = "unserved-here";
const UNSERVED_ELSEWHERE: &str = "unserved-elsewhere";

/// The conntrack label of connections whose source is to be translated. Policy routing and other rulesets see packet
/// marks, but not this.
pub const MASQUERADE_LABEL: u8 = 127;

/// `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_FILTER`, `NF_IP_PRI_NAT_SRC`
const DNAT: i32 = -100;
const FILTER: i32 = 0;
const SNAT: i32 = 100;

/// Our family name for the kernel's.
pub fn ip_family(family: TableFamily) -> IpFamily {
    if family == TableFamily::Ip { IpFamily::V4 } else { IpFamily::V6 }
}

/// The names of the maps that hold one kind of frontend, addresses or node ports.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// Frontend → chain.
    pub chains: &'static str,
    /// Frontend → what happens without an endpoint.
    pub unserved: &'static str,
    /// (Frontend, slot) → endpoint of the cluster.
    pub cluster: &'static str,
    /// (Frontend, slot) → endpoint of this node.
    pub local: &'static str,
    /// Frontend → number of its port, for the first list.
    pub cluster_affinity: &'static str,
    /// The same for the second list.
    pub local_affinity: &'static str,
}

impl Maps {
    /// Those of a frontend.
    pub fn of(place: Place) -> Self {
        match place {
            Place::Address(_) => Self {
                chains: SERVICES,
                unserved: UNSERVED,
                cluster: ENDPOINTS,
                local: LOCAL_ENDPOINTS,
                cluster_affinity: AFFINITY,
                local_affinity: LOCAL_AFFINITY,
            },
            Place::Node(_) => Self {
                chains: NODE_PORTS,
                unserved: UNSERVED_NODE_PORTS,
                cluster: NODE_PORT_ENDPOINTS,
                local: NODE_PORT_LOCAL_ENDPOINTS,
                cluster_affinity: NODE_PORT_AFFINITY,
                local_affinity: NODE_PORT_LOCAL_AFFINITY,
            },
        }
    }
}

/// The element key of a frontend.
pub fn frontend_key(frontend: &Frontend) -> Cells {
    let key = match frontend.place {
        Place::Address(address) => Cells::default().address(address),
        Place::Node(_) => Cells::default(),
    };
    key.protocol(frontend.protocol.number()).port(frontend.port)
}

/// The element data of an endpoint.
pub fn endpoint_data(endpoint: &Endpoint) -> Cells {
    Cells::default().address(endpoint.address).port(endpoint.port)
}

/// The element key of an endpoint's traffic to itself.
pub fn hairpin_key(address: IpAddr) -> Cells {
    Cells::default().address(address).address(address)
}

/// The chain for connections without an endpoint.
pub fn unserved_chain(unserved: Unserved) -> Name {
    match unserved {
        Unserved::Reject => REFUSE.into(),
        Unserved::Drop => DISCARD.into(),
    }
}

/// The fields of a frontend's key.
pub fn frontend_fields(node_port: bool) -> Vec<Field> {
    if node_port {
        vec![Field::L4Proto, Field::Dport]
    } else {
        vec![Field::Daddr, Field::L4Proto, Field::Dport]
    }
}

fn base_chain(kind: HookKind, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(Hook { kind, point, priority, policy: Policy::Accept }), rules }
}

fn plain_chain(rules: Vec<Rule>) -> Chain {
    Chain { hook: None, rules }
}

/// The table with no Service in it.
pub fn empty(family: TableFamily, settings: &Settings) -> Table {
    let mut table = Table::new(family, TABLE);
    table.sets = sets(family);
    table.chains = fixed_chains();
    table.chains.extend(nat_chains(settings, family, &Present::default()));
    table
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
}

fn fixed_chains() -> BTreeMap<Name, Chain> {
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
pub fn nat_chains(settings: &Settings, family: TableFamily, present: &Present) -> BTreeMap<Name, Chain> {
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
        chains
            .insert(REMEMBER.into(), base_chain(HookKind::Nat, HookPoint::Postrouting, SNAT - 1, vec![rule]));
    }
    chains
}

/// The fields that a client is remembered by. The protocol is there for nft, which wants one beside a port.
pub fn client_fields() -> Vec<Field> {
    vec![Field::Saddr, Field::L4Proto, Field::CtMark]
}

/// The chain that remembers for so many seconds: the packet goes to its endpoint by now.
pub fn remember_chain(seconds: u32) -> (Name, Chain) {
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
pub fn filter_chains(settings: &Settings, family: TableFamily, present: &Present) -> BTreeMap<Name, Chain> {
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

/// Whether a base chain of this name with this hook may be one of ours.
pub fn is_our_base_chain(name: &str, hook: Hook) -> bool {
    if name == REMEMBER {
        return hook.kind == HookKind::Nat
            && hook.point == HookPoint::Postrouting
            && hook.priority == SNAT - 1;
    }
    let point = match name {
        "filter-input" => HookPoint::Input,
        "filter-forward" => HookPoint::Forward,
        "filter-output" => HookPoint::Output,
        _ => return false,
    };
    hook == Hook { kind: HookKind::Filter, point, priority: FILTER, policy: Policy::Accept }
}

/// The chain for a shape.
pub fn shape_chain(shape: &Shape, settings: &Settings, family: TableFamily) -> (Name, Chain) {
    (shape.name(), plain_chain(shape.rules(settings, ip_family(family))))
}

fn sets(family: TableFamily) -> BTreeMap<Name, Set> {
    use Type::{InetProto, InetService, Slot};
    let address = if family == TableFamily::Ip { Type::Ipv4Addr } else { Type::Ipv6Addr };
    let endpoint = || DataType::Cells(vec![address, InetService]);
    let mark = || DataType::Cells(vec![Type::Mark]);
    let set = |name: &str, key: &[Type], data, comment: &str| {
        let kind = SetType { key: key.to_vec(), data, dynamic: None, comment: comment.into() };
        (Name::from(name), Set { kind, elements: BTreeMap::new() })
    };
    let frontend = [address, InetProto, InetService];
    let slot = [address, InetProto, InetService, Slot];
    let source = [address, InetProto, InetService, address];
    let node_slot = [InetProto, InetService, Slot];
    let mut sets = BTreeMap::from([
        set(SERVICES, &frontend, DataType::Verdict, "Service : chain for its policy and number of endpoints"),
        set(ENDPOINTS, &slot, endpoint(), "Service . slot : endpoint"),
        set(LOCAL_ENDPOINTS, &slot, endpoint(), "Service . slot : endpoint on this node"),
        set(
            NODE_PORTS,
            &frontend[1..],
            DataType::Verdict,
            "node port : chain for its policy and number of endpoints",
        ),
        set(NODE_PORT_ENDPOINTS, &node_slot, endpoint(), "node port . slot : endpoint"),
        set(NODE_PORT_LOCAL_ENDPOINTS, &node_slot, endpoint(), "node port . slot : endpoint on this node"),
        set(UNSERVED, &frontend, DataType::Verdict, "Service without an endpoint : what happens"),
        set(
            UNSERVED_NODE_PORTS,
            &frontend[1..],
            DataType::Verdict,
            "node port without an endpoint : what happens",
        ),
        set(HAIRPIN, &[address, address], DataType::None, "endpoints that may reach themselves"),
        set(CLUSTER_IPS, &[address], DataType::None, "cluster IPs, whose other ports are refused"),
        set(FILTERED, &frontend, DataType::None, "Services that only some may reach"),
        set(SOURCES, &source, DataType::Ranges, "Service . who may reach it"),
        set(AFFINITY, &frontend, mark(), "Service whose clients keep their endpoint : mark"),
        set(LOCAL_AFFINITY, &frontend, mark(), "the same for endpoints on this node"),
        set(NODE_PORT_AFFINITY, &frontend[1..], mark(), "node port whose clients keep their endpoint : mark"),
        set(NODE_PORT_LOCAL_AFFINITY, &frontend[1..], mark(), "the same for endpoints on this node"),
        set(AFFINITY_TIMES, &[Type::Mark], DataType::Verdict, "mark : chain that remembers for its time"),
        set(CLIENTS, &[address, InetProto, Type::Mark], endpoint(), "client . mark : its endpoint"),
    ]);
    if let Some(clients) = sets.get_mut(CLIENTS) {
        clients.kind.dynamic = Some(MOST_CLIENTS);
    }
    sets
}
