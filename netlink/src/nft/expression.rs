//! The kernel's expressions: a rule as nf_tables runs it, on registers.
//!
//! Only statements are made of them and recognised in them; nothing else looks at them. What the kernel could hold and we
//! never write is [`Expression::Unknown`].

use super::{Name, number};
use crate::message::{Attributes, Writer};

pub(crate) const META_L4PROTO: u32 = 16;
pub(super) const META_IIFNAME: u32 = 6;
/// `NFT_FIB_RESULT_ADDRTYPE`
const FIB_ADDRESS_TYPE: u32 = 3;
/// `NFTA_FIB_F_SADDR`, `NFTA_FIB_F_DADDR`
pub(super) const FIB_SADDR: u32 = 1;
pub(super) const FIB_DADDR: u32 = 2;
/// `NF_DROP`, as a verdict's code
const DROP: u32 = 0;
/// `NFT_DYNSET_OP_UPDATE`
const DYNSET_UPDATE: u32 = 1;
/// `NFT_LOOKUP_F_INV`
const INVERTED: u32 = 1;
pub(crate) const NUMGEN_RANDOM: u32 = 1;

/// What a lookup leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing; the rule ends when there is no element.
    Match,
    /// Nothing; the rule ends when there is an element.
    NoMatch,
    /// A verdict.
    Verdict,
    /// Data, in the first registers.
    Data,
}

/// One kernel expression. Registers count 32-bit cells from 0 (`NFT_REG32_00`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    Payload {
        register: u32,
        base: u32,
        offset: u32,
        len: u32,
    },
    Meta {
        register: u32,
        key: u32,
    },
    Random {
        register: u32,
        modulus: u32,
    },
    Ct {
        register: u32,
        key: u32,
    },
    /// Keeps these bits of the first registers.
    Mask {
        bits: Vec<u8>,
    },
    /// Goes on when the first registers are, or are not, this.
    Compare {
        equal: bool,
        value: Vec<u8>,
    },
    /// Loads the type of an address, as the routing tables have it.
    AddressType {
        of: u32,
    },
    /// Puts a value into the first registers.
    Value {
        bytes: Vec<u8>,
    },
    /// Writes the first registers into the connection.
    SetCt {
        key: u32,
    },
    /// Puts the first registers into a map with the data in these, or lets an element of that key live longer.
    Remember {
        set: Name,
        data: u32,
        milliseconds: u64,
    },
    /// Drops the packet.
    Drop,
    /// Goes on in a chain.
    Goto {
        chain: Name,
    },
    Lookup {
        set: Name,
        found: Found,
    },
    Dnat {
        family: u8,
        port: u32,
    },
    Masquerade {
        flags: u32,
    },
    /// Takes the packet from connection tracking.
    Notrack,
    Reject {
        kind: u32,
        code: u8,
    },
    Unknown,
}

/// `NFT_REG32_00`, and the verdict's register.
const REGISTER_BASE: u32 = 8;
const REGISTER_VERDICT: u32 = 0;

/// The kernel names a 16-byte aligned register by its old number, `NFT_REG_1` to `NFT_REG_4`.
fn register_index(number: u32) -> Option<u32> {
    match number {
        1..=4 => Some((number - 1) * 4),
        _ => number.checked_sub(REGISTER_BASE),
    }
}

/// Writes expressions as a list of `NFTA_LIST_ELEM`.
pub(super) fn encode_list(expressions: &[Expression], w: &mut Writer<'_>) {
    for expression in expressions {
        w.nest(number::LIST_ELEMENT, |w| {
            w.put_str(1, expression.name());
            w.nest(2, |w| expression.encode(w));
        });
    }
}

/// Reads a list of `NFTA_LIST_ELEM`.
pub(super) fn decode_list(list: Attributes<'_>) -> Vec<Expression> {
    let decode = |element| {
        let element = Attributes::new(element);
        let name = element.get_str(1).unwrap_or_default();
        let body = element.get_nest(2).unwrap_or(Attributes::new(&[]));
        Expression::decode(name, body).unwrap_or(Expression::Unknown)
    };
    list.map(|(_, element)| decode(element)).collect()
}

impl Expression {
    /// Where a load begins.
    pub(super) fn register(&self) -> Option<u32> {
        match *self {
            Self::Payload { register, .. }
            | Self::Meta { register, .. }
            | Self::Random { register, .. }
            | Self::Ct { register, .. } => Some(register),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } => "meta",
            Self::Random { .. } => "numgen",
            Self::Ct { .. } => "ct",
            Self::Remember { .. } => "dynset",
            Self::SetCt { .. } => "ct",
            Self::Mask { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::AddressType { .. } => "fib",
            Self::Value { .. } | Self::Drop | Self::Goto { .. } => "immediate",
            Self::Lookup { .. } => "lookup",
            Self::Dnat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Notrack => "notrack",
            Self::Reject { .. } => "reject",
            Self::Unknown => "",
        }
    }

    fn encode(&self, w: &mut Writer<'_>) {
        match *self {
            Self::Payload { register, base, offset, len } => {
                numbers(w, &[REGISTER_BASE + register, base, offset, len]);
            }
            Self::Meta { register, key } => numbers(w, &[REGISTER_BASE + register, key]),
            Self::Random { register, modulus } => {
                numbers(w, &[REGISTER_BASE + register, modulus, NUMGEN_RANDOM]);
            }
            Self::Ct { register, key } => numbers(w, &[REGISTER_BASE + register, key]),
            Self::SetCt { key } => {
                w.put_be32(2, key);
                w.put_be32(4, REGISTER_BASE);
            }
            Self::Remember { ref set, data, milliseconds } => {
                w.put_str(1, set);
                w.put_be32(3, DYNSET_UPDATE);
                w.put_be32(4, REGISTER_BASE);
                w.put_be32(5, REGISTER_BASE + data);
                w.put_be64(6, milliseconds);
            }
            Self::Mask { ref bits } => {
                let len = u32::try_from(bits.len()).expect("a mask has at most 16 bytes");
                numbers(w, &[REGISTER_BASE, REGISTER_BASE, len]);
                w.nest(4, |w| w.put(number::DATA_VALUE, bits));
                w.nest(5, |w| w.put(number::DATA_VALUE, &vec![0; bits.len()]));
            }
            Self::Compare { equal, ref value } => {
                numbers(w, &[REGISTER_BASE, u32::from(!equal)]);
                w.nest(3, |w| w.put(number::DATA_VALUE, value));
            }
            Self::AddressType { of } => numbers(w, &[REGISTER_BASE, FIB_ADDRESS_TYPE, of]),
            Self::Value { ref bytes } => {
                w.put_be32(1, REGISTER_BASE);
                w.nest(2, |w| w.put(number::DATA_VALUE, bytes));
            }
            Self::Goto { ref chain } => verdict(w, number::GOTO, Some(chain)),
            Self::Drop => verdict(w, DROP, None),
            Self::Lookup { ref set, found } => {
                w.put_str(1, set);
                w.put_be32(2, REGISTER_BASE);
                match found {
                    Found::Match => {}
                    Found::NoMatch => w.put_be32(5, INVERTED),
                    Found::Verdict => w.put_be32(3, REGISTER_VERDICT),
                    Found::Data => w.put_be32(3, REGISTER_BASE),
                }
            }
            Self::Dnat { family, port } => {
                numbers(w, &[1, u32::from(family), REGISTER_BASE]);
                w.put_be32(5, REGISTER_BASE + port);
            }
            Self::Masquerade { flags } => w.put_be32(1, flags),
            Self::Reject { kind, code } => {
                w.put_be32(1, kind);
                w.put_u8(2, code);
            }
            Self::Notrack | Self::Unknown => {}
        }
    }

    fn decode(name: &str, body: Attributes<'_>) -> Option<Self> {
        let number = |kind| body.get_be32(kind);
        let register = |kind| number(kind).and_then(register_index);
        let value = |kind| Some(body.get_nest(kind)?.get(number::DATA_VALUE)?.to_vec());
        Some(match name {
            "payload" => Self::Payload {
                register: register(1)?,
                base: number(2)?,
                offset: number(3)?,
                len: number(4)?,
            },
            "meta" => Self::Meta { register: register(1)?, key: number(2)? },
            "numgen" if number(3)? == NUMGEN_RANDOM && number(4).unwrap_or(0) == 0 => {
                Self::Random { register: register(1)?, modulus: number(2)? }
            }
            "ct" if number(4).is_some() => (register(4)? == 0).then_some(Self::SetCt { key: number(2)? })?,
            "ct" => Self::Ct { register: register(1)?, key: number(2)? },
            // The operation is 0 (`NFT_BITWISE_BOOL`, older kernels leave it out); the rest must be `& bits ^ 0`.
            "bitwise" if (register(1)?, register(2)?, number(6).unwrap_or(0)) == (0, 0, 0) => {
                value(5)?.iter().all(|byte| *byte == 0).then_some(Self::Mask { bits: value(4)? })?
            }
            "cmp" if register(1)? == 0 && number(2)? <= 1 => {
                Self::Compare { equal: number(2)? == 0, value: value(3)? }
            }
            "dynset" if number(3)? == DYNSET_UPDATE && register(4)? == 0 => Self::Remember {
                set: body.get_str(1)?.into(),
                data: register(5)?,
                milliseconds: u64::from_be_bytes(body.get(6)?.try_into().ok()?),
            },
            "fib" if register(1)? == 0 && number(2)? == FIB_ADDRESS_TYPE => {
                Self::AddressType { of: number(3)? }
            }
            "immediate" if number(1)? == REGISTER_VERDICT => {
                let verdict = body.get_nest(2)?.get_nest(number::DATA_VERDICT)?;
                match verdict.get_be32(1)? {
                    DROP => Self::Drop,
                    number::GOTO => Self::Goto { chain: verdict.get_str(2)?.into() },
                    _ => return None,
                }
            }
            "immediate" if register(1)? == 0 => Self::Value { bytes: value(2)? },
            "lookup" if register(2)? == 0 => {
                let found = match (number(3), number(5).unwrap_or(0)) {
                    (None, 0) => Found::Match,
                    (None, INVERTED) => Found::NoMatch,
                    (Some(REGISTER_VERDICT), 0) => Found::Verdict,
                    (Some(other), 0) => (register_index(other)? == 0).then_some(Found::Data)?,
                    _ => return None,
                };
                Self::Lookup { set: body.get_str(1)?.into(), found }
            }
            "nat" if number(1)? == 1 && register(3)? == 0 => {
                Self::Dnat { family: u8::try_from(number(2)?).ok()?, port: register(5)? }
            }
            "masq" => Self::Masquerade { flags: number(1).unwrap_or(0) },
            "notrack" => Self::Notrack,
            "reject" => Self::Reject { kind: number(1)?, code: *body.get(2)?.first()? },
            _ => return None,
        })
    }
}

/// An `immediate` that ends the rule.
fn verdict(w: &mut Writer<'_>, code: u32, chain: Option<&str>) {
    w.put_be32(1, REGISTER_VERDICT);
    w.nest(2, |w| {
        w.nest(number::DATA_VERDICT, |w| {
            w.put_be32(1, code);
            if let Some(chain) = chain {
                w.put_str(2, chain);
            }
        });
    });
}

/// Attributes 1, 2, 3, … in network byte order, as most expressions begin.
fn numbers(w: &mut Writer<'_>, values: &[u32]) {
    for (kind, value) in (1..).zip(values) {
        w.put_be32(kind, *value);
    }
}
