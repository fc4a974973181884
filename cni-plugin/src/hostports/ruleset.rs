//! The table of host ports: its names, its sets and chains, its keys. Pure.
//!
//! One table for each family, the same for every number of pods: what belongs to a pod is an element. Its shapes are
//! those that nft 1.0.6 prints and loads again.
//!
//! A connection to one of the node's own addresses is sent to the pod whose element has its port, and to no other
//! address: `fib` asks the kernel, which knows the node's addresses at every moment. Why each rule is there:
//! `docs/decisions/host-ports.md`.

use super::claim::Claim;
use heddle_netlink::nft::noted::Noted;
use heddle_netlink::nft::{
    Cells, Chain, Data, DataType, Elements, End, Field, Hook, HookKind, HookPoint, Name, Op, Policy, Rule,
    Sense, Set, SetType, Statement, Table, TableFamily, Transaction, Type,
};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The table, in the families `ip` and `ip6`.
pub const TABLE: &str = "heddle-hostports";
const COMMENT: &str = "ports of this node that lead to pods, kept by heddle-cni";

/// (protocol, port) of every address of the node → pod.
pub const PORTS: &str = "ports";
/// (address, protocol, port) of the node → pod.
pub const ADDRESS_PORTS: &str = "address-ports";
/// (address, address) of pods that may reach themselves by a host port.
pub const HAIRPIN: &str = "hairpin";
/// All sets whose elements belong to pods.
pub const SETS: [&str; 3] = [PORTS, ADDRESS_PORTS, HAIRPIN];

const LEAD: &str = "lead";
/// Behind a proxy's (`NF_IP_PRI_NAT_DST` is -100): an address that a Service has is the Service's.
const DNAT: i32 = -95;
/// `NF_IP_PRI_NAT_SRC`
const SNAT: i32 = 100;
/// `NF_IP_PRI_RAW`: before connection tracking turns an answer's address back into a loopback address.
const RAW: i32 = -300;

/// The table without elements.
pub fn table(family: TableFamily) -> Table {
    let mut table = Table::new(family, TABLE);
    table.sets = sets(family);
    table.chains = chains(family);
    table
}

fn sets(family: TableFamily) -> BTreeMap<Name, Set> {
    use Type::{InetProto, InetService};
    let address = if family == TableFamily::Ip { Type::Ipv4Addr } else { Type::Ipv6Addr };
    let pod = || DataType::Cells(vec![address, InetService]);
    let set = |name: &str, key: &[Type], data, comment: &str| {
        let kind =
            SetType { key: key.to_vec(), data, dynamic: None, counted: false, comment: comment.into() };
        (Name::from(name), Set { kind, elements: Elements::default() })
    };
    BTreeMap::from([
        set(PORTS, &[InetProto, InetService], pod(), "port of every address : pod"),
        set(ADDRESS_PORTS, &[address, InetProto, InetService], pod(), "port of one address : pod"),
        set(HAIRPIN, &[address, address], DataType::None, "pods that may reach themselves"),
    ])
}

fn chains(family: TableFamily) -> BTreeMap<Name, Chain> {
    let base = |kind, point, priority, rules: Vec<Rule>| Chain {
        hook: Some(Hook { kind, point, priority, policy: Policy::Accept }),
        rules,
    };
    let lead = || vec![vec![Statement::Local(End::Destination, Sense::Is), Statement::Goto(LEAD.into())]];
    let mut chains = BTreeMap::from([
        (LEAD.into(), Chain { hook: None, rules: lead_rules(family) }),
        ("prerouting".into(), base(HookKind::Nat, HookPoint::Prerouting, DNAT, lead())),
        ("output".into(), base(HookKind::Nat, HookPoint::Output, DNAT, lead())),
        ("postrouting".into(), base(HookKind::Nat, HookPoint::Postrouting, SNAT, masquerade_rules(family))),
    ]);
    if family == TableFamily::Ip {
        let forged = vec![
            Statement::Address(End::Destination, Sense::Is, loopback()),
            Statement::Iif(Sense::IsNot, "lo".into()),
            Statement::Drop,
        ];
        chains.insert("guard".into(), base(HookKind::Filter, HookPoint::Prerouting, RAW, vec![forged]));
    }
    chains
}

fn lead_rules(family: TableFamily) -> Vec<Rule> {
    let port = [Field::L4Proto, Field::Dport];
    let address_port = [&[Field::Daddr], &port[..]].concat();
    let mut everywhere = vec![Statement::Dnat(port.to_vec(), PORTS.into())];
    if family == TableFamily::Ip6 {
        // The kernel sends nothing from ::1 by another link, so such a connection would only hang.
        let itself = IpNetwork::from(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
        everywhere.insert(0, Statement::Address(End::Destination, Sense::IsNot, itself));
    }
    vec![vec![Statement::Dnat(address_port, ADDRESS_PORTS.into())], everywhere]
}

/// Connections whose answers would not come back by the node otherwise.
fn masquerade_rules(family: TableFamily) -> Vec<Rule> {
    let rule = |matches: Vec<Statement>| {
        [vec![Statement::StatusDnat], matches, vec![Statement::Masquerade]].concat()
    };
    let mut rules = vec![rule(vec![Statement::InSet(vec![Field::Saddr, Field::Daddr], HAIRPIN.into())])];
    if family == TableFamily::Ip {
        rules.push(rule(vec![
            Statement::Address(End::Source, Sense::Is, loopback()),
            Statement::Local(End::Destination, Sense::IsNot),
        ]));
    }
    rules
}

fn loopback() -> IpNetwork {
    IpNetwork::new([127, 0, 0, 0].into(), 8).expect("8 is a prefix length of IPv4")
}

/// The rules that the kernel must have, by their chains.
pub fn rules(family: TableFamily) -> BTreeMap<Name, Vec<Rule>> {
    chains(family).into_iter().map(|(name, chain)| (name, chain.rules)).collect()
}

/// What makes the table, or sets it right where somebody edited it; elements stay. Two processes may do it at once: the
/// rules go and come in one transaction.
pub fn make(family: TableFamily) -> Transaction {
    let Table { chains, sets, .. } = table(family);
    let mut transaction = Transaction::new(family, TABLE.into(), COMMENT);
    let ops = &mut transaction.ops;
    ops.push(Op::AddTable);
    ops.extend(sets.into_iter().map(|(name, set)| Op::AddSet(name, set.kind)));
    ops.extend(chains.iter().map(|(name, chain)| Op::AddChain(name.clone(), chain.hook)));
    ops.extend(chains.keys().map(|name| Op::FlushChain(name.clone())));
    for (name, chain) in chains {
        ops.extend(chain.rules.into_iter().map(|rule| Op::AddRule(name.clone(), rule)));
    }
    transaction
}

/// The element of a claim.
pub fn element(claim: &Claim, note: &str) -> Noted {
    let (set, key) = match claim.address {
        Some(address) => (ADDRESS_PORTS, Cells::default().address(address)),
        None => (PORTS, Cells::default()),
    };
    let key = key.protocol(claim.protocol).port(claim.port);
    let data = Data::Cells(Cells::default().address(claim.to.ip()).port(claim.to.port()));
    Noted { set: set.into(), key, data, note: note.to_owned() }
}

/// The element by which a pod reaches itself.
pub fn hairpin(pod: IpAddr, note: &str) -> Noted {
    let key = Cells::default().address(pod).address(pod);
    Noted { set: HAIRPIN.into(), key, data: Data::None, note: note.to_owned() }
}

/// The claim that an element is; none for one that claims no port.
pub fn claim(element: &Noted) -> Option<Claim> {
    let Data::Cells(pod) = &element.data else { return None };
    let to = match pod.as_bytes() {
        [a, b, c, d, high, low, ..] if pod.as_bytes().len() == 8 => {
            SocketAddr::new([*a, *b, *c, *d].into(), u16::from_be_bytes([*high, *low]))
        }
        bytes => {
            let (address, port) = (bytes.first_chunk::<16>()?, bytes.get(16..)?.first_chunk()?);
            SocketAddr::new((*address).into(), u16::from_be_bytes(*port))
        }
    };
    let (address, rest) = match &*element.set {
        PORTS => (None, element.key.as_bytes()),
        _ => {
            let (address, rest) =
                element.key.as_bytes().split_at_checked(if to.is_ipv4() { 4 } else { 16 })?;
            (Some(read_address(address)?), rest)
        }
    };
    let [protocol, _, _, _, high, low, ..] = rest else { return None };
    Some(Claim { protocol: *protocol, port: u16::from_be_bytes([*high, *low]), address, to })
}

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_one_that_the_kernel_takes() {
        for family in TableFamily::ALL {
            let made = Table::after(None, &make(family)).unwrap().unwrap();
            assert_eq!(made, table(family));
            assert_eq!(Table::after(Some(&made), &make(family)).unwrap().unwrap(), made, "again");
        }
    }

    #[test]
    fn a_claim_is_read_from_its_element() {
        for (address, to) in [
            (None, "10.244.1.2:80"),
            (Some("192.0.2.1"), "10.244.1.2:80"),
            (None, "[fd00::2]:80"),
            (Some("2001:db8::1"), "[fd00::2]:80"),
        ] {
            let address = address.map(|address| address.parse().unwrap());
            let wanted = Claim { protocol: 17, port: 8053, address, to: to.parse().unwrap() };
            let element = element(&wanted, "somebody");
            let table = table(TableFamily::of(wanted.to.ip()));
            let fits = Op::AddElement(element.set.clone(), element.key, element.data.clone());
            let transaction =
                Transaction { ops: vec![fits], ..Transaction::new(table.family, TABLE.into(), "") };
            assert!(Table::after(Some(&table), &transaction).is_ok(), "{wanted:?}");
            assert_eq!(claim(&element), Some(wanted));
        }
        assert_eq!(claim(&hairpin([10, 0, 0, 1].into(), "")), None);
    }
}
