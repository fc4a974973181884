//! What a rule says, in nft's words, and the kernel expressions that mean it.
//!
//! A [`Statement`] prints itself as nft text, tells where the kernel takes it. How it becomes the kernel's
//! expressions, and is recognised in them, is next door.

use super::{Hook, HookKind, HookPoint, Name, TableFamily};
use crate::Protocol;
use ipnetwork::IpNetwork;
use std::fmt;

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
    /// The connection's mark.
    CtMark,
}

impl Field {
    pub(super) fn width(self, family: TableFamily) -> u32 {
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
            Self::CtMark => f.write_str("ct mark"),
        }
    }
}

/// An end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl End {
    pub(super) fn field(self) -> Field {
        if self == Self::Source { Field::Saddr } else { Field::Daddr }
    }
}

/// Whether a match is wanted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// It must match.
    Is,
    /// It must not.
    IsNot,
}

/// A piece of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `ct state new`
    StateNew,
    /// `ct status dnat`
    StatusDnat,
    /// The source, or destination, address is in the network, or is not.
    Address(End, Sense, IpNetwork),
    /// `udp dport 4789`: the packet is of this protocol and goes to this port.
    Port(Protocol, u16),
    /// The packet came in by this interface, or did not; a name that ends in `*` stands for all that begin so.
    Iif(Sense, Name),
    /// The address is, or is not, one of this host's.
    Local(End, Sense),
    /// The connection has this label (0–127).
    HasLabel(u8),
    /// Gives the connection this label. Unlike a mark it is not seen by routing.
    SetLabel(u8),
    /// The fields are an element of the set.
    InSet(Vec<Field>, Name),
    /// They are none.
    NotInSet(Vec<Field>, Name),
    /// Go where the verdict map says; fall through when it has no such element.
    Vmap(Vec<Field>, Name),
    /// Gives the connection the mark that the map has for the fields.
    SetCtMark(Vec<Field>, Name),
    /// Puts the first fields with the second ones into a dynamic map for so many seconds; an element that is there keeps
    /// its data and begins its time anew.
    Remember(Vec<Field>, Vec<Field>, Name, u32),
    /// Destination NAT to the address and port that the map gives for the fields; fall through without one.
    Dnat(Vec<Field>, Name),
    /// Source NAT to an address of the outgoing interface, port chosen at random.
    Masquerade,
    /// The packet belongs to no connection, and connection tracking does not look at it. Only before it has: in chains of
    /// [`HookKind::Filter`] with a priority below -200 (`NF_IP_PRI_CONNTRACK`), else it does nothing.
    Notrack,
    /// Answer with ICMP port unreachable.
    Reject,
    /// Drop the packet.
    Drop,
    /// Go on in another chain, and do not come back.
    Goto(Name),
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
            Self::Address(end, sense, network) => {
                end.field().write(family, f)?;
                write!(f, " {}{}", sense.operator(), Shortest(*network))
            }
            Self::Port(protocol, port) => write!(f, "{protocol} dport {port}"),
            Self::Iif(sense, name) => write!(f, "iifname {}\"{name}\"", sense.operator()),
            Self::Local(end, sense) => {
                let side = if *end == End::Source { "saddr" } else { "daddr" };
                write!(f, "fib {side} type {}local", sense.operator())
            }
            Self::HasLabel(label) => write!(f, "ct label {label}"),
            Self::SetLabel(label) => write!(f, "ct label set {label}"),
            Self::InSet(key, set) => write_key(key, family, f).and_then(|()| write!(f, " @{set}")),
            Self::NotInSet(key, set) => write_key(key, family, f).and_then(|()| write!(f, " != @{set}")),
            Self::Vmap(key, map) => write_key(key, family, f).and_then(|()| write!(f, " vmap @{map}")),
            Self::SetCtMark(key, map) => {
                f.write_str("ct mark set ")?;
                write_key(key, family, f)?;
                write!(f, " map @{map}")
            }
            Self::Remember(key, data, map, seconds) => {
                write!(f, "update @{map} {{ ")?;
                write_key(key, family, f)?;
                write!(f, " timeout {seconds}s : ")?;
                write_key(data, family, f)?;
                f.write_str(" }")
            }
            Self::Dnat(key, map) => {
                write!(f, "dnat {family} to ")?;
                write_key(key, family, f)?;
                write!(f, " map @{map}")
            }
            Self::Masquerade => f.write_str("masquerade fully-random"),
            Self::Notrack => f.write_str("notrack"),
            Self::Reject => f.write_str("reject"),
            Self::Drop => f.write_str("drop"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Foreign => f.write_str("# not heddle's"),
        }
    }

    /// The set or map that the statement looks into.
    pub fn set(&self) -> Option<&Name> {
        match self {
            Self::InSet(_, set) | Self::NotInSet(_, set) | Self::Vmap(_, set) | Self::Dnat(_, set) => {
                Some(set)
            }
            _ => None,
        }
    }

    /// The chain that the statement goes to.
    pub fn target(&self) -> Option<&Name> {
        if let Self::Goto(chain) = self { Some(chain) } else { None }
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

impl Sense {
    /// What stands before a value in nft.
    fn operator(self) -> &'static str {
        if self == Self::Is { "" } else { "!= " }
    }
}

/// A network as nft prints it: a single address without its prefix length.
struct Shortest(IpNetwork);

impl fmt::Display for Shortest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_single(self.0) {
            write!(f, "{}", self.0.ip())
        } else {
            write!(f, "{}/{}", self.0.network(), self.0.prefix())
        }
    }
}

pub(super) fn is_single(network: IpNetwork) -> bool {
    network.prefix() == if network.is_ipv4() { 32 } else { 128 }
}
