//! What would become of the first packet of a connection, and why.
//!
//! The plan's own tables are evaluated, once for every number that a rule may draw; the frontends only say whose the
//! elements are that the packet met. So a trace cannot differ from what is written to the kernel.

mod show;
mod socket;

pub use socket::Told;

use crate::frontends::{Backends, Frontend, Frontends, IpFamily, Place};
use crate::model::ObjectName;
use crate::nft::evaluate::{Fault, Passage, Visit, evaluate};
use crate::nft::ruleset::{self, Maps};
use crate::packet::{Outcome, Packet};
use heddle_netlink::nft::{Statement, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What would become of a packet.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// The packet.
    pub packet: Packet,
    /// What the client's socket is told, so that there is no such packet.
    pub socket: Option<Told>,
    /// The frontend that it reaches.
    pub reached: Option<Reached<'a>>,
    /// Why it ends as it does.
    pub reason: Reason,
    /// What may become of it, each with its share.
    pub ways: BTreeMap<Outcome, Way<'a>>,
}

/// The frontend that a packet reaches.
#[derive(Clone, Debug)]
pub struct Reached<'a> {
    /// The frontend.
    pub frontend: Frontend,
    /// The Service that has it.
    pub owner: &'a ObjectName,
    /// What stands behind it.
    pub backends: &'a Backends,
    /// The Services that claim it too and do not have it.
    pub rivals: Vec<&'a ObjectName>,
}

/// Why a packet ends as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An endpoint takes it.
    Served,
    /// The Service has no endpoint anywhere.
    NoEndpoint,
    /// The policy wants endpoints of this node, and there are none.
    NoLocalEndpoint,
    /// The source is none that the Service lets in.
    SourceRange,
    /// A cluster IP has other ports than this one.
    UnusedPort,
    /// The Services' ranges have the address, and no Service has.
    UnusedAddress,
    /// A node port, but not on this address.
    NotServedHere,
    /// The kernel refuses the frontend, so that it is not in the table.
    SetAside,
    /// It is nothing of a Service's.
    NoService,
}

/// One thing that may become of a packet.
#[derive(Clone, Debug)]
pub struct Way<'a> {
    /// How many of the numbers that a rule draws lead to it.
    pub share: u32,
    /// How it comes to it.
    pub passage: Passage<'a>,
}

impl Way<'_> {
    /// It goes back to the pod that it came from, which needs another source.
    pub fn is_hairpin(&self) -> bool {
        self.masquerade().is_some_and(|visit| visit.hits.iter().any(|hit| **hit.set == *ruleset::HAIRPIN))
    }

    fn masquerade(&self) -> Option<&Visit<'_>> {
        let masquerades = |rule: &Vec<Statement>| rule.contains(&Statement::Masquerade);
        self.passage.path.iter().find(|visit| visit.rule.is_some_and(masquerades))
    }
}

impl Trace<'_> {
    /// How many numbers there are to be drawn.
    pub fn choices(&self) -> u32 {
        self.ways.values().map(|way| way.share).sum()
    }

    /// Whether the endpoints of this node were looked at, and not those of the cluster.
    pub fn keeps_to_this_node(&self) -> bool {
        self.reached.as_ref().is_some_and(|reached| self.met(Maps::of(reached.frontend.place).local))
    }

    fn met(&self, set: &str) -> bool {
        self.ways.values().any(|way| hits(&way.passage, set))
    }
}

fn hits(passage: &Passage<'_>, set: &str) -> bool {
    passage.path.iter().flat_map(|visit| &visit.hits).any(|hit| **hit.set == *set)
}

/// What these tables do to a packet on a node with these addresses.
///
/// # Errors
/// When the tables do not hold together: those of a plan always do.
pub fn trace<'a>(
    frontends: &'a Frontends,
    (tables, addresses): (&[&'a Table], &'a BTreeSet<IpAddr>),
    packet: &Packet,
) -> Result<Trace<'a>, Fault> {
    let mut ways = BTreeMap::<Outcome, Way<'a>>::new();
    let pass = |draw| evaluate(tables.iter().copied(), addresses, packet, draw);
    let first = pass(0)?;
    for draw in 0..first.choices {
        let passage = if draw == 0 { first.clone() } else { pass(draw)? };
        ways.entry(passage.outcome).or_insert(Way { share: 0, passage }).share += 1;
    }
    let reached = find(frontends, packet, &first);
    let reason = reason(frontends, packet, (reached.is_some(), &first));
    Ok(Trace { packet: packet.clone(), socket: None, reached, reason, ways })
}

/// The frontend whose elements the packet met. One of a node port's address is known by the maps of node ports.
fn find<'a>(frontends: &'a Frontends, packet: &Packet, passage: &Passage<'_>) -> Option<Reached<'a>> {
    let at = |place| Frontend { place, protocol: packet.protocol, port: packet.port };
    let node = node_port(packet);
    let maps = Maps::of(node.place);
    let on_node = || [maps.chains, maps.unserved].into_iter().any(|map| hits(passage, map)).then_some(node);
    let by_address = at(Place::Address(packet.destination));
    let frontend = frontends.get(&by_address).map(|_| by_address).or_else(on_node)?;
    let (owner, backends) = (frontends.owner(&frontend)?, frontends.get(&frontend)?);
    let rivals = frontends.rivals(&frontend).collect();
    Some(Reached { frontend, owner, backends, rivals })
}

fn node_port(packet: &Packet) -> Frontend {
    let place = Place::Node(IpFamily::of(packet.destination));
    Frontend { place, protocol: packet.protocol, port: packet.port }
}

/// What the packet meets when its frontend is in the table.
const TELLING: [&str; 5] = [
    ruleset::FILTERED,
    ruleset::SERVICES,
    ruleset::NODE_PORTS,
    ruleset::UNSERVED,
    ruleset::UNSERVED_NODE_PORTS,
];

fn reason(frontends: &Frontends, packet: &Packet, (reached, passage): (bool, &Passage<'_>)) -> Reason {
    let met = |set: &str| hits(passage, set);
    match (passage.outcome, reached) {
        (Outcome::Endpoint { .. }, _) => Reason::Served,
        (_, true) if !TELLING.into_iter().any(met) => Reason::SetAside,
        (Outcome::Reject, true) => Reason::NoEndpoint,
        (Outcome::Reject, false) => Reason::UnusedPort,
        (Outcome::Drop, true) if met(ruleset::FILTERED) => Reason::SourceRange,
        (Outcome::Drop, true) => Reason::NoLocalEndpoint,
        (Outcome::Drop, false) => Reason::UnusedAddress,
        (Outcome::Untouched, _) if frontends.get(&node_port(packet)).is_some() => Reason::NotServedHere,
        (Outcome::Untouched, _) => Reason::NoService,
    }
}
