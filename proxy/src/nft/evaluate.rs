//! A small nf_tables: what tables do to the first packet of a connection.
//!
//! It knows hooks, chains, statements and sets, and nothing of Services. It is not a kernel: every packet is the first of
//! its connection, and routing only tells this host's addresses from all others. Its meaning of chains and verdicts is the
//! kernel's (`nft_do_chain`, `nf_nat_inet_fn`), each point said where it is used.
//!
//! | module | what it is |
//! |---|---|
//! | `travel` | a packet's way through the hooks |
//! | `rule` | what one statement does to it |

mod rule;
mod travel;

use crate::packet::{Outcome, Packet};
use heddle_netlink::nft::{Cells, Data, Name, Rule, SetType, Table, statement};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// What became of a packet, and by which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage<'a> {
    /// What became of it.
    pub outcome: Outcome,
    /// The rules that did something, in order.
    pub path: Vec<Visit<'a>>,
    /// How many numbers a rule could have drawn; 1 when there was no choice.
    pub choices: u32,
    /// What the packet has put into dynamic maps: map, key and data.
    pub remembered: Vec<(Name, Cells, Data)>,
}

impl Passage<'_> {
    /// The path, a line for each rule.
    pub fn told(&self) -> Vec<String> {
        self.path.iter().map(ToString::to_string).collect()
    }
}

/// A rule that did something to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit<'a> {
    /// The table.
    pub table: &'a Table,
    /// The rule's chain.
    pub chain: &'a Name,
    /// The rule; `None` for the policy at the end of a base chain.
    pub rule: Option<&'a Rule>,
    /// The elements that it found, in order.
    pub hits: Vec<Hit<'a>>,
}

/// An element that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// The set or map.
    pub set: &'a Name,
    /// Its shape.
    pub kind: &'a SetType,
    /// The element.
    pub key: Cells,
    /// What it maps to.
    pub data: Data,
}

/// The rule after its chain, in nft's words.
impl fmt::Display for Visit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            Some(rule) => write!(f, "{}: {}", self.chain, statement::show(rule, self.table.family)),
            None => write!(f, "{}: policy drop", self.chain),
        }
    }
}

/// The element after its set, in nft's words.
impl fmt::Display for Hit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{} {{ {} }}", self.set, self.kind.show_element(&self.key, &self.data))
    }
}

/// A table that says nothing about a packet because it does not hold together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A rule has a part that heddle did not write.
    #[error("chain {chain} has a rule that cannot be read")]
    Foreign {
        /// The rule's chain.
        chain: Name,
    },
    /// A rule names a set that does not exist.
    #[error("no set {set}")]
    NoSet {
        /// Its name.
        set: Name,
    },
    /// A verdict names a chain that does not exist.
    #[error("no chain {chain}")]
    NoChain {
        /// Its name.
        chain: Name,
    },
    /// Chains go to each other more often than the kernel would let them (`NFT_JUMP_STACK_SIZE`).
    #[error("chains go round in circles at {chain}")]
    Endless {
        /// The last of them.
        chain: Name,
    },
    /// A verdict map holds something else.
    #[error("map {set} has an element that is no verdict")]
    NotAVerdict {
        /// The map.
        set: Name,
    },
    /// A map that gives a destination holds something else.
    #[error("map {set} has an element that is no address and port")]
    NotAnEndpoint {
        /// The map.
        set: Name,
    },
    /// A map that gives a mark holds something else.
    #[error("map {set} has an element that is no mark")]
    NotAMark {
        /// The map.
        set: Name,
    },
}

/// Sends a packet through the tables of its family on a host with these addresses. Every number that a rule draws at
/// random is `draw` modulo the rule's own bound. What it puts into dynamic maps is for packets that come after it.
///
/// # Errors
/// [`Fault`] when the tables refer to what they do not have.
pub fn evaluate<'a>(
    tables: impl IntoIterator<Item = &'a Table>,
    addresses: &'a BTreeSet<IpAddr>,
    packet: &Packet,
    draw: u32,
) -> Result<Passage<'a>, Fault> {
    travel::Travel::new(tables.into_iter().collect(), addresses, packet, draw).run()
}

#[cfg(test)]
mod tests;
