//! The kernel's expressions, recognised as statements.
//!
//! It is guessed which statement alone they can begin with; that one is compiled and compared. What is not exactly as we
//! would write it is [`Statement::Foreign`].

use super::compile::{CT_LABELS, CT_MARK, CT_STATE, CT_STATUS, NAME_WIDTH, NETWORK_HEADER, TRANSPORT_HEADER};
use super::expression::{Expression, FIB_SADDR, Found, META_IIFNAME, META_L4PROTO, decode_list};
use super::{End, Field, Name, Rule, Sense, Statement, TableFamily};
use crate::Protocol;
use crate::message::Attributes;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Reads a rule back from its list of `NFTA_LIST_ELEM`.
pub(crate) fn decode(list: Attributes<'_>, family: TableFamily) -> Rule {
    recognise(&decode_list(list), family)
}

/// Finds the statements whose expressions these are.
fn recognise(expressions: &[Expression], family: TableFamily) -> Rule {
    let mut rule = Vec::new();
    let mut rest = expressions;
    while !rest.is_empty() {
        let statement = candidate(rest, family).unwrap_or(Statement::Foreign);
        let mut compiled = Vec::new();
        statement.compile(family, &mut compiled);
        match rest.strip_prefix(&compiled[..]) {
            Some(after) if !compiled.is_empty() => rest = after,
            _ => {
                rule.push(Statement::Foreign);
                return rule;
            }
        }
        rule.push(statement);
    }
    rule
}

/// The only statement that these expressions may begin with; the caller compiles it and compares.
fn candidate(expressions: &[Expression], family: TableFamily) -> Option<Statement> {
    match expressions {
        [Expression::Ct { key: CT_STATE, .. }, ..] => Some(Statement::StateNew),
        [Expression::Ct { key: CT_STATUS, .. }, ..] => Some(Statement::StatusDnat),
        [Expression::Ct { key: CT_LABELS, .. }, Expression::Mask { bits }, ..] => {
            Some(Statement::HasLabel(label(bits)?))
        }
        [Expression::Value { bytes }, ..] => Some(Statement::SetLabel(label(bytes)?)),
        [Expression::AddressType { of }, Expression::Compare { equal, .. }, ..] => {
            let end = if *of == FIB_SADDR { End::Source } else { End::Destination };
            Some(Statement::Local(end, sense(*equal)))
        }
        [Expression::Meta { key: META_IIFNAME, .. }, Expression::Compare { equal, value }, ..] => {
            Some(Statement::Iif(sense(*equal), interface_name(value)?))
        }
        [
            Expression::Meta { key: META_L4PROTO, .. },
            Expression::Compare { value: protocol, .. },
            Expression::Payload { base: TRANSPORT_HEADER, .. },
            Expression::Compare { value: port, .. },
            ..,
        ] => {
            let port = u16::from_be_bytes(port[..].try_into().ok()?);
            Some(Statement::Port(transport(protocol)?, port))
        }
        [load, Expression::Mask { bits }, Expression::Compare { equal, value }, ..] => {
            let network = IpNetwork::with_netmask(address(value)?, address(bits)?).ok()?;
            Some(Statement::Address(end(load, family)?, sense(*equal), network))
        }
        [load, Expression::Compare { equal, value }, ..] => {
            Some(Statement::Address(end(load, family)?, sense(*equal), address(value)?.into()))
        }
        [Expression::Masquerade { .. }, ..] => Some(Statement::Masquerade),
        [Expression::Notrack, ..] => Some(Statement::Notrack),
        [Expression::Reject { .. }, ..] => Some(Statement::Reject),
        [Expression::Drop, ..] => Some(Statement::Drop),
        [Expression::Goto { chain }, ..] => Some(Statement::Goto(chain.clone())),
        _ => lookup_candidate(expressions, family),
    }
}

/// Fields, then what is done with them.
fn lookup_candidate(expressions: &[Expression], family: TableFamily) -> Option<Statement> {
    let loads = expressions.iter().map_while(|load| field(load, family));
    let mut key: Vec<Field> = loads.collect();
    match &expressions[key.len()..] {
        [Expression::Lookup { set, found: Found::Match }, ..] => Some(Statement::InSet(key, set.clone())),
        [Expression::Lookup { set, found: Found::NoMatch }, ..] => {
            Some(Statement::NotInSet(key, set.clone()))
        }
        [Expression::Lookup { set, found: Found::Verdict }, ..] => Some(Statement::Vmap(key, set.clone())),
        [Expression::Lookup { set, found: Found::Data }, Expression::SetCt { key: CT_MARK }, ..] => {
            Some(Statement::SetCtMark(key, set.clone()))
        }
        [Expression::Lookup { set, found: Found::Data }, ..] => Some(Statement::Dnat(key, set.clone())),
        [Expression::Remember { set, data, milliseconds }, ..] => {
            let starts_at = |e: &Expression| e.register() == Some(*data);
            let of_key = expressions.iter().position(starts_at)?;
            let data = key.split_off(of_key.min(key.len()));
            Some(Statement::Remember(key, data, set.clone(), u32::try_from(milliseconds / 1000).ok()?))
        }
        _ => None,
    }
}

fn sense(equal: bool) -> Sense {
    if equal { Sense::Is } else { Sense::IsNot }
}

fn end(load: &Expression, family: TableFamily) -> Option<End> {
    match field(load, family)? {
        Field::Saddr => Some(End::Source),
        Field::Daddr => Some(End::Destination),
        _ => None,
    }
}

fn transport(bytes: &[u8]) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| bytes == [protocol.number()])
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn label(bits: &[u8]) -> Option<u8> {
    let bits = u128::from_ne_bytes(bits.try_into().ok()?);
    (bits.count_ones() == 1).then(|| u8::try_from(bits.trailing_zeros()).ok()).flatten()
}

fn interface_name(bytes: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(if bytes.len() == NAME_WIDTH {
        text.trim_end_matches('\0').into()
    } else {
        format!("{text}*").into()
    })
}

fn field(load: &Expression, family: TableFamily) -> Option<Field> {
    match *load {
        Expression::Payload { base: TRANSPORT_HEADER, .. } => Some(Field::Dport),
        Expression::Payload { base: NETWORK_HEADER, offset, .. } => {
            [Field::Saddr, Field::Daddr].into_iter().find(|field| field.address_offset(family) == offset)
        }
        Expression::Meta { key: META_L4PROTO, .. } => Some(Field::L4Proto),
        Expression::Random { modulus, .. } => Some(Field::Random(modulus)),
        Expression::Ct { key: CT_MARK, .. } => Some(Field::CtMark),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Batch, Reply};
    use crate::nft::compile::encode;
    use crate::nft::statement::show;

    fn rules() -> Vec<Rule> {
        let key = vec![Field::Daddr, Field::L4Proto, Field::Dport];
        let slots = [&key[..], &[Field::Random(3)]].concat();
        vec![
            vec![Statement::Vmap(key.clone(), "service-ips".into())],
            vec![Statement::Dnat(slots, "endpoints".into())],
            vec![
                Statement::StatusDnat,
                Statement::InSet(vec![Field::Saddr, Field::Daddr], "hairpin".into()),
                Statement::Masquerade,
            ],
            vec![
                Statement::StateNew,
                Statement::InSet(key.clone(), "no-endpoints".into()),
                Statement::Reject,
            ],
            vec![Statement::NotInSet(key, "sources".into()), Statement::Drop],
            vec![Statement::SetCtMark(vec![Field::Daddr, Field::L4Proto, Field::Dport], "ids".into())],
            vec![Statement::Dnat(vec![Field::Saddr, Field::L4Proto, Field::CtMark], "clients".into())],
            vec![Statement::Remember(
                vec![Field::Saddr, Field::L4Proto, Field::CtMark],
                vec![Field::Daddr, Field::Dport],
                "clients".into(),
                10_800,
            )],
            vec![Statement::Local(End::Source, Sense::Is), Statement::SetLabel(127)],
            vec![
                Statement::HasLabel(127),
                Statement::Local(End::Destination, Sense::IsNot),
                Statement::Goto("away".into()),
            ],
            vec![Statement::Port(Protocol::Udp, 4789), Statement::Notrack],
            vec![
                Statement::Port(Protocol::Tcp, 80),
                Statement::NotInSet(vec![Field::Saddr], "nodes".into()),
                Statement::Drop,
            ],
            vec![Statement::Iif(Sense::Is, "cni0".into()), Statement::Iif(Sense::IsNot, "veth*".into())],
        ]
    }

    /// Matches that only one family can have.
    fn networks(family: TableFamily) -> Rule {
        let (wide, single) = match family {
            TableFamily::Ip => ("10.244.0.0/14", "127.0.0.1/32"),
            TableFamily::Ip6 => ("fd00:244::/46", "::1/128"),
        };
        vec![
            Statement::Address(End::Source, Sense::Is, wide.parse().unwrap()),
            Statement::Address(End::Destination, Sense::IsNot, single.parse().unwrap()),
        ]
    }

    fn through_the_wire(rule: &[Statement], family: TableFamily) -> Rule {
        let mut batch = Batch::new();
        batch.push(0, 0, &[], |w| encode(rule, family, w));
        let bytes = batch.seal(0).to_vec();
        decode(Reply::split(&bytes).unwrap().0.attributes(0), family)
    }

    #[test]
    fn every_rule_is_recognised_after_encoding() {
        for family in TableFamily::ALL {
            for rule in rules().into_iter().chain([networks(family)]) {
                assert_eq!(through_the_wire(&rule, family), rule);
            }
        }
    }

    #[test]
    fn a_rule_with_a_changed_part_is_foreign() {
        let ours = [Statement::StateNew, Statement::Reject];
        let mut expressions = Vec::new();
        ours.iter().for_each(|s| s.compile(TableFamily::Ip, &mut expressions));
        expressions[1] = Expression::Mask { bits: vec![2, 0, 0, 0] };
        assert_eq!(recognise(&expressions, TableFamily::Ip), [Statement::Foreign]);
        expressions[1] = Expression::Unknown;
        assert_eq!(recognise(&expressions, TableFamily::Ip), [Statement::Foreign]);
    }

    #[test]
    fn rules_print_in_the_words_of_nft() {
        let printed: Vec<String> = rules().iter().map(|r| show(r, TableFamily::Ip6).to_string()).collect();
        assert_eq!(
            printed,
            [
                "ip6 daddr . meta l4proto . th dport vmap @service-ips",
                "dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints",
                "ct status dnat ip6 saddr . ip6 daddr @hairpin masquerade fully-random",
                "ct state new ip6 daddr . meta l4proto . th dport @no-endpoints reject",
                "ip6 daddr . meta l4proto . th dport != @sources drop",
                "ct mark set ip6 daddr . meta l4proto . th dport map @ids",
                "dnat ip6 to ip6 saddr . meta l4proto . ct mark map @clients",
                "update @clients { ip6 saddr . meta l4proto . ct mark timeout 10800s : ip6 daddr . th dport }",
                "fib saddr type local ct label set 127",
                "ct label 127 fib daddr type != local goto away",
                "udp dport 4789 notrack",
                "tcp dport 80 ip6 saddr != @nodes drop",
                "iifname \"cni0\" iifname != \"veth*\"",
            ]
        );
        let networks = networks(TableFamily::Ip);
        assert_eq!(
            show(&networks, TableFamily::Ip).to_string(),
            "ip saddr 10.244.0.0/14 ip daddr != 127.0.0.1"
        );
    }
}
