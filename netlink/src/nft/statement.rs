//! What a rule says, in nft's words, and the kernel expressions that mean it.
//!
//! A [`Statement`] prints itself as nft text, compiles to the kernel's expressions, and is recognised again in a rule
//! that was read back.

use super::expression::{Expression, Found, META_L4PROTO, decode_list, encode_list};
use super::{Hook, HookKind, HookPoint, Name, TableFamily};
use crate::message::{Attributes, Writer};
use std::fmt;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`
const STATE_NEW: u32 = 1 << 3;
/// `IPS_DST_NAT`
const STATUS_DNAT: u32 = 1 << 5;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
const FULLY_RANDOM: u32 = 1 << 4;
const REJECT_ICMP: u32 = 0;

/// One part of a packet, or a drawn number, that goes into a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Source address.
    Saddr,
    /// Destination address.
    Daddr,
    /// Transport protocol.
    L4Proto,
    /// Destination port of TCP, UDP or SCTP.
    Dport,
    /// A number below this one, drawn at random for each packet.
    Random(u32),
}

impl Field {
    fn width(self, family: TableFamily) -> u32 {
        match self {
            Self::Saddr | Self::Daddr if family == TableFamily::Ip6 => 16,
            Self::Dport => 2,
            Self::L4Proto => 1,
            _ => 4,
        }
    }

    fn write(self, family: TableFamily, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saddr => write!(f, "{family} saddr"),
            Self::Daddr => write!(f, "{family} daddr"),
            Self::L4Proto => f.write_str("meta l4proto"),
            Self::Dport => f.write_str("th dport"),
            Self::Random(modulus) => write!(f, "numgen random mod {modulus}"),
        }
    }

    /// Where the address stands in its header: (offset in IPv4, offset in IPv6).
    fn address_offset(self, family: TableFamily) -> u32 {
        match (self, family) {
            (Self::Saddr, TableFamily::Ip) => 12,
            (Self::Saddr, TableFamily::Ip6) => 8,
            (_, TableFamily::Ip) => 16,
            (_, TableFamily::Ip6) => 24,
        }
    }

    fn load(self, family: TableFamily, register: u32) -> Expression {
        let len = self.width(family);
        match self {
            Self::Saddr | Self::Daddr => {
                let offset = self.address_offset(family);
                Expression::Payload { register, base: NETWORK_HEADER, offset, len }
            }
            Self::Dport => Expression::Payload { register, base: TRANSPORT_HEADER, offset: 2, len },
            Self::L4Proto => Expression::Meta { register, key: META_L4PROTO },
            Self::Random(modulus) => Expression::Random { register, modulus },
        }
    }
}

/// A piece of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `ct state new`
    StateNew,
    /// `ct status dnat`
    StatusDnat,
    /// The fields are an element of the set.
    InSet(Vec<Field>, Name),
    /// Go where the verdict map says; fall through when it has no such element.
    Vmap(Vec<Field>, Name),
    /// Destination NAT to the address and port that the map gives for the fields; fall through without one.
    Dnat(Vec<Field>, Name),
    /// Source NAT to an address of the outgoing interface, port chosen at random.
    Masquerade,
    /// Answer with ICMP port unreachable.
    Reject,
    /// A rule, or the rest of one, that heddle did not write.
    Foreign,
}

/// A rule: its statements in order.
pub type Rule = Vec<Statement>;

/// A rule in nft's words.
pub fn show(rule: &[Statement], family: TableFamily) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        for (i, statement) in rule.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            statement.write(family, f)?;
        }
        Ok(())
    })
}

impl Statement {
    fn write(&self, family: TableFamily, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateNew => f.write_str("ct state new"),
            Self::StatusDnat => f.write_str("ct status dnat"),
            Self::InSet(key, set) => write_key(key, family, f).and_then(|()| write!(f, " @{set}")),
            Self::Vmap(key, map) => write_key(key, family, f).and_then(|()| write!(f, " vmap @{map}")),
            Self::Dnat(key, map) => {
                write!(f, "dnat {family} to ")?;
                write_key(key, family, f)?;
                write!(f, " map @{map}")
            }
            Self::Masquerade => f.write_str("masquerade fully-random"),
            Self::Reject => f.write_str("reject"),
            Self::Foreign => f.write_str("# not heddle's"),
        }
    }

    /// The set or map that the statement looks into.
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::InSet(_, set) | Self::Vmap(_, set) | Self::Dnat(_, set) => Some(set),
            _ => None,
        }
    }

    /// Whether the kernel takes the statement in what this base chain reaches.
    pub(crate) fn allowed_in(&self, hook: Hook) -> bool {
        let at = |points: &[HookPoint]| points.contains(&hook.point);
        match self {
            Self::Masquerade => hook.kind == HookKind::Nat && at(&[HookPoint::Postrouting]),
            Self::Dnat(..) => hook.kind == HookKind::Nat && at(&[HookPoint::Prerouting, HookPoint::Output]),
            Self::Reject => !at(&[HookPoint::Postrouting]),
            _ => true,
        }
    }

    fn compile(&self, family: TableFamily, out: &mut Vec<Expression>) {
        match self {
            Self::StateNew => compile_bits(CT_STATE, STATE_NEW, out),
            Self::StatusDnat => compile_bits(CT_STATUS, STATUS_DNAT, out),
            Self::InSet(key, set) => compile_lookup(key, family, out, (set, Found::Match)),
            Self::Vmap(key, map) => compile_lookup(key, family, out, (map, Found::Verdict)),
            Self::Dnat(key, map) => {
                compile_lookup(key, family, out, (map, Found::Data));
                out.push(Expression::Dnat { family: family.number(), port: address_registers(family) });
            }
            Self::Masquerade => out.push(Expression::Masquerade { flags: FULLY_RANDOM }),
            Self::Reject => {
                // Port unreachable: ICMP code 3, ICMPv6 code 4.
                let code = if family == TableFamily::Ip { 3 } else { 4 };
                out.push(Expression::Reject { kind: REJECT_ICMP, code });
            }
            Self::Foreign => {}
        }
    }
}

fn write_key(key: &[Field], family: TableFamily, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, field) in key.iter().enumerate() {
        if i > 0 {
            f.write_str(" . ")?;
        }
        field.write(family, f)?;
    }
    Ok(())
}

/// How many registers an address fills, which is where the port begins in a (address, port) datum.
fn address_registers(family: TableFamily) -> u32 {
    if family == TableFamily::Ip { 1 } else { 4 }
}

fn compile_bits(key: u32, bits: u32, out: &mut Vec<Expression>) {
    out.push(Expression::Ct { key });
    out.push(Expression::AnyBit { bits });
    out.push(Expression::NotZero);
}

fn compile_lookup(
    key: &[Field],
    family: TableFamily,
    out: &mut Vec<Expression>,
    (set, found): (&Name, Found),
) {
    let mut register = 0;
    for field in key {
        out.push(field.load(family, register));
        register += field.width(family).div_ceil(4);
    }
    out.push(Expression::Lookup { set: set.clone(), found });
}

/// Writes a rule's expressions as a list of `NFTA_LIST_ELEM`.
pub(crate) fn encode(rule: &[Statement], family: TableFamily, w: &mut Writer<'_>) {
    let mut expressions = Vec::new();
    rule.iter().for_each(|statement| statement.compile(family, &mut expressions));
    encode_list(&expressions, w);
}

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
    match expressions.first()? {
        Expression::Ct { key: CT_STATE } => Some(Statement::StateNew),
        Expression::Ct { key: CT_STATUS } => Some(Statement::StatusDnat),
        Expression::Masquerade { .. } => Some(Statement::Masquerade),
        Expression::Reject { .. } => Some(Statement::Reject),
        _ => {
            let mut key = Vec::new();
            for expression in expressions {
                match expression {
                    Expression::Lookup { set, found } => {
                        return Some(match found {
                            Found::Match => Statement::InSet(key, set.clone()),
                            Found::Verdict => Statement::Vmap(key, set.clone()),
                            Found::Data => Statement::Dnat(key, set.clone()),
                        });
                    }
                    load => key.push(field(load, family)?),
                }
            }
            None
        }
    }
}

fn field(load: &Expression, family: TableFamily) -> Option<Field> {
    match *load {
        Expression::Payload { base: TRANSPORT_HEADER, .. } => Some(Field::Dport),
        Expression::Payload { base: NETWORK_HEADER, offset, .. } => {
            [Field::Saddr, Field::Daddr].into_iter().find(|field| field.address_offset(family) == offset)
        }
        Expression::Meta { .. } => Some(Field::L4Proto),
        Expression::Random { modulus, .. } => Some(Field::Random(modulus)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Batch, Reply};

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
            vec![Statement::StateNew, Statement::InSet(key, "no-endpoints".into()), Statement::Reject],
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
            for rule in rules() {
                assert_eq!(through_the_wire(&rule, family), rule);
            }
        }
    }

    #[test]
    fn a_rule_with_a_changed_part_is_foreign() {
        let ours = [Statement::StateNew, Statement::Reject];
        let mut expressions = Vec::new();
        ours.iter().for_each(|s| s.compile(TableFamily::Ip, &mut expressions));
        expressions[1] = Expression::AnyBit { bits: 2 };
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
            ]
        );
    }
}
