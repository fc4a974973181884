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

use crate::oracle::{Outcome, Packet};
use heddle_netlink::nft::{Cells, Data, Name, Table};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What became of a packet, and by which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// What became of it.
    pub outcome: Outcome,
    /// The rules that did something, in order, each with its chain.
    pub path: Vec<String>,
    /// A rule had a choice and drew a number.
    pub drawn: bool,
    /// What the packet has put into dynamic maps: map, key and data.
    pub remembered: Vec<(Name, Cells, Data)>,
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
pub fn evaluate(
    tables: &[Table],
    addresses: &BTreeSet<IpAddr>,
    packet: &Packet,
    draw: u32,
) -> Result<Passage, Fault> {
    travel::Travel::new(tables, addresses, packet, draw).run()
}

#[cfg(test)]
mod tests;
