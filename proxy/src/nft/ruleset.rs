//! Our table: its names, its chains and sets, its keys.
//!
//! This is the one place that knows how the table looks; which elements are in it is the plan's. Its shapes are limited to
//! what nft 1.0.6 can print (it aborts on some valid ones), since operators list rulesets.

use crate::frontends::{Endpoint, Frontend};
use heddle_netlink::nft::{
    Cells, Chain, DataType, Field, Hook, HookKind, HookPoint, Name, Policy, Rule, Set, SetType, Statement,
    Table, TableFamily, Type,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The table, in the families `ip` and `ip6`.
pub const TABLE: &str = "heddle-proxy";
/// What `nft list table` shows of the table's purpose.
pub const COMMENT: &str = "Services of this node, kept by heddle-proxy: edits are undone";
/// (address, protocol, port) of a frontend with endpoints → the chain for their number.
pub const SERVICES: &str = "services";
/// (frontend, slot) → address and port of an endpoint; slots count from 0 without gaps.
pub const ENDPOINTS: &str = "endpoints";
/// Frontends without endpoints.
pub const NO_ENDPOINTS: &str = "no-endpoints";
/// (address, address) of endpoints that may reach themselves.
pub const HAIRPIN: &str = "hairpin";

/// `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_FILTER`, `NF_IP_PRI_NAT_SRC`
const DNAT: i32 = -100;
const FILTER: i32 = 0;
const SNAT: i32 = 100;

/// The element key of a frontend.
pub fn frontend_key(frontend: &Frontend) -> Cells {
    Cells::default().address(frontend.address).protocol(frontend.protocol.number()).port(frontend.port)
}

/// The element data of an endpoint.
pub fn endpoint_data(endpoint: &Endpoint) -> Cells {
    Cells::default().address(endpoint.address).port(endpoint.port)
}

/// The element key of an endpoint's traffic to itself.
pub fn hairpin_key(address: IpAddr) -> Cells {
    Cells::default().address(address).address(address)
}

/// Name of the chain that spreads connections over this many endpoints.
pub fn spread_name(count: usize) -> Name {
    format!("spread-{count}").into()
}

/// That chain.
pub fn spread_chain(count: usize) -> Chain {
    let count = u32::try_from(count).expect("a Service has fewer than 2^32 endpoints");
    let mut key = frontend_fields();
    key.push(Field::Random(count));
    Chain { hook: None, rules: vec![vec![Statement::Dnat(key, ENDPOINTS.into())]] }
}

fn frontend_fields() -> Vec<Field> {
    vec![Field::Daddr, Field::L4Proto, Field::Dport]
}

fn base_chain(kind: HookKind, point: HookPoint, priority: i32, rule: Rule) -> Chain {
    Chain { hook: Some(Hook { kind, point, priority, policy: Policy::Accept }), rules: vec![rule] }
}

/// The table with no Service in it.
pub fn empty(family: TableFamily) -> Table {
    let mut table = Table::new(family, TABLE);
    table.sets = sets(family);
    let to_services = || vec![Statement::Vmap(frontend_fields(), SERVICES.into())];
    let to_itself = vec![
        Statement::StatusDnat,
        Statement::InSet(vec![Field::Saddr, Field::Daddr], HAIRPIN.into()),
        Statement::Masquerade,
    ];
    table.chains = BTreeMap::from([
        ("prerouting".into(), base_chain(HookKind::Nat, HookPoint::Prerouting, DNAT, to_services())),
        ("output".into(), base_chain(HookKind::Nat, HookPoint::Output, DNAT, to_services())),
        ("postrouting".into(), base_chain(HookKind::Nat, HookPoint::Postrouting, SNAT, to_itself)),
    ]);
    table
}

/// The chains that answer for frontends without endpoints. They see every packet, so they exist only while there is such
/// a frontend (measured: +4 % on established traffic). Chains of type nat cannot do it: they may not reject.
pub fn reject_chains() -> BTreeMap<Name, Chain> {
    let rule = || {
        vec![Statement::StateNew, Statement::InSet(frontend_fields(), NO_ENDPOINTS.into()), Statement::Reject]
    };
    BTreeMap::from([
        ("filter-forward".into(), base_chain(HookKind::Filter, HookPoint::Forward, FILTER, rule())),
        ("filter-input".into(), base_chain(HookKind::Filter, HookPoint::Input, FILTER, rule())),
        ("filter-output".into(), base_chain(HookKind::Filter, HookPoint::Output, FILTER, rule())),
    ])
}

fn sets(family: TableFamily) -> BTreeMap<Name, Set> {
    let address = if family == TableFamily::Ip { Type::Ipv4Addr } else { Type::Ipv6Addr };
    let frontend = vec![address, Type::InetProto, Type::InetService];
    let slot = [&frontend[..], &[Type::Slot]].concat();
    let endpoint = DataType::Cells(vec![address, Type::InetService]);
    let set = |key: &[Type], data, comment: &str| Set {
        kind: SetType { key: key.to_vec(), data, comment: comment.into() },
        elements: BTreeMap::new(),
    };
    BTreeMap::from([
        (SERVICES.into(), set(&frontend, DataType::Verdict, "Service : chain for its number of endpoints")),
        (ENDPOINTS.into(), set(&slot, endpoint, "Service . slot : endpoint")),
        (NO_ENDPOINTS.into(), set(&frontend, DataType::None, "Services that reject")),
        (HAIRPIN.into(), set(&[address, address], DataType::None, "endpoints that may reach themselves")),
    ])
}
