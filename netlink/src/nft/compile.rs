//! Statements into the kernel's expressions. The way back is `recognise`.

use super::expression::{Expression, FIB_DADDR, FIB_SADDR, Found, META_IIFNAME, META_L4PROTO, encode_list};
use super::statement::is_single;
use super::{End, Field, Name, Sense, Statement, TableFamily};
use crate::message::Writer;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

pub(super) const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;
pub(super) const CT_STATE: u32 = 0;
pub(super) const CT_STATUS: u32 = 2;
pub(super) const CT_LABELS: u32 = 13;
pub(super) const CT_MARK: u32 = 3;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`
const STATE_NEW: u32 = 1 << 3;
/// `IPS_DST_NAT`
const STATUS_DNAT: u32 = 1 << 5;
/// `RTN_LOCAL`
const TYPE_LOCAL: u32 = 2;
/// Bytes of an interface name in a register.
pub(super) const NAME_WIDTH: usize = 16;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
const FULLY_RANDOM: u32 = 1 << 4;
const REJECT_ICMP: u32 = 0;

impl Field {
    /// Where the address stands in its header: (offset in IPv4, offset in IPv6).
    pub(super) fn address_offset(self, family: TableFamily) -> u32 {
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
            Self::CtMark => Expression::Ct { register, key: CT_MARK },
        }
    }
}

impl Statement {
    pub(super) fn compile(&self, family: TableFamily, out: &mut Vec<Expression>) {
        match self {
            Self::StateNew => compile_bits(CT_STATE, &STATE_NEW.to_ne_bytes(), out),
            Self::StatusDnat => compile_bits(CT_STATUS, &STATUS_DNAT.to_ne_bytes(), out),
            Self::HasLabel(label) => compile_bits(CT_LABELS, &label_bits(*label), out),
            Self::SetLabel(label) => {
                out.push(Expression::Value { bytes: label_bits(*label).to_vec() });
                out.push(Expression::SetCt { key: CT_LABELS });
            }
            Self::Address(end, sense, network) => {
                out.push(end.field().load(family, 0));
                compile_network(*sense, *network, out);
            }
            Self::Port(protocol, port) => {
                out.push(Field::L4Proto.load(family, 0));
                out.push(Expression::Compare { equal: true, value: vec![protocol.number()] });
                out.push(Field::Dport.load(family, 0));
                out.push(Expression::Compare { equal: true, value: port.to_be_bytes().to_vec() });
            }
            Self::Iif(sense, name) => {
                out.push(Expression::Meta { register: 0, key: META_IIFNAME });
                out.push(Expression::Compare { equal: *sense == Sense::Is, value: interface_bytes(name) });
            }
            Self::Local(end, sense) => {
                out.push(Expression::AddressType {
                    of: if *end == End::Source { FIB_SADDR } else { FIB_DADDR },
                });
                let value = TYPE_LOCAL.to_ne_bytes().to_vec();
                out.push(Expression::Compare { equal: *sense == Sense::Is, value });
            }
            Self::InSet(key, set) => compile_lookup(key, family, out, (set, Found::Match)),
            Self::NotInSet(key, set) => compile_lookup(key, family, out, (set, Found::NoMatch)),
            Self::Vmap(key, map) => compile_lookup(key, family, out, (map, Found::Verdict)),
            Self::SetCtMark(key, map) => {
                compile_lookup(key, family, out, (map, Found::Data));
                out.push(Expression::SetCt { key: CT_MARK });
            }
            Self::Remember(key, data, map, seconds) => {
                // Data begins at a register of 16 bytes, as nft has it.
                let start = compile_key(key, family, out, 0).next_multiple_of(4);
                compile_key(data, family, out, start);
                let milliseconds = u64::from(*seconds) * 1000;
                out.push(Expression::Remember { set: map.clone(), data: start, milliseconds });
            }
            Self::Dnat(key, map) => {
                compile_lookup(key, family, out, (map, Found::Data));
                out.push(Expression::Dnat { family: family.number(), port: address_registers(family) });
            }
            Self::Masquerade => out.push(Expression::Masquerade { flags: FULLY_RANDOM }),
            Self::Notrack => out.push(Expression::Notrack),
            Self::Reject => {
                // Port unreachable: ICMP code 3, ICMPv6 code 4.
                let code = if family == TableFamily::Ip { 3 } else { 4 };
                out.push(Expression::Reject { kind: REJECT_ICMP, code });
            }
            Self::Drop => out.push(Expression::Drop),
            Self::Goto(chain) => out.push(Expression::Goto { chain: chain.clone() }),
            Self::Foreign => {}
        }
    }
}

/// How many registers an address fills, which is where the port begins in a (address, port) datum.
fn address_registers(family: TableFamily) -> u32 {
    if family == TableFamily::Ip { 1 } else { 4 }
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn compile_network(sense: Sense, network: IpNetwork, out: &mut Vec<Expression>) {
    if !is_single(network) {
        out.push(Expression::Mask { bits: address_bytes(network.mask()) });
    }
    out.push(Expression::Compare { equal: sense == Sense::Is, value: address_bytes(network.network()) });
}

/// A whole name with its zeros, or only the letters before the `*`.
fn interface_bytes(name: &str) -> Vec<u8> {
    match name.strip_suffix('*') {
        Some(prefix) => prefix.as_bytes().to_vec(),
        None => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(NAME_WIDTH, 0);
            bytes
        }
    }
}

/// The 128 labels are a bitmap of machine words.
fn label_bits(label: u8) -> [u8; 16] {
    (1_u128 << (label & 127)).to_ne_bytes()
}

fn compile_bits(key: u32, bits: &[u8], out: &mut Vec<Expression>) {
    out.push(Expression::Ct { register: 0, key });
    out.push(Expression::Mask { bits: bits.to_vec() });
    out.push(Expression::Compare { equal: false, value: vec![0; bits.len()] });
}

fn compile_lookup(
    key: &[Field],
    family: TableFamily,
    out: &mut Vec<Expression>,
    (set, found): (&Name, Found),
) {
    compile_key(key, family, out, 0);
    out.push(Expression::Lookup { set: set.clone(), found });
}

/// Loads fields into registers from this one on; returns the next free one.
fn compile_key(key: &[Field], family: TableFamily, out: &mut Vec<Expression>, start: u32) -> u32 {
    key.iter().fold(start, |register, field| {
        out.push(field.load(family, register));
        register + field.width(family).div_ceil(4)
    })
}

/// Writes a rule's expressions as a list of `NFTA_LIST_ELEM`.
pub(crate) fn encode(rule: &[Statement], family: TableFamily, w: &mut Writer<'_>) {
    let mut expressions = Vec::new();
    rule.iter().for_each(|statement| statement.compile(family, &mut expressions));
    encode_list(&expressions, w);
}
