//! Where a connection goes.
//!
//! Pure but for [`World`], through which it reads: maps in the kernel, memory in a test. Invariant: it reads a row's list once,
//! so that whatever is stored meanwhile, it sees the old list or the new one, whole.

use crate::abi::{
    Address, Client, Frontend, HERE, Kept, List, NODE_V4, NODE_V6, NOT_FOR_PODS, REFUSES, Row, Slot, Stamp,
    TCP, UDP, is_mapped,
};

/// What is read and remembered on the way.
pub trait World {
    /// The row of a frontend.
    fn frontend(&self, frontend: &Frontend) -> Option<u32>;
    /// A row, its list read at once.
    fn row(&self, row: u32) -> Option<Row>;
    /// A slot.
    fn slot(&self, slot: u32) -> Option<Slot>;
    /// The first slot of a list that has this endpoint.
    fn find(&self, list: List, address: &Address, port: u16) -> Option<Slot>;
    /// Whether some Service has this node port.
    fn is_node_port(&self, protocol: u8, port: u16) -> bool;
    /// Whether node ports are served on this address.
    fn is_node_address(&self, address: &Address) -> bool;
    /// Which maps these are.
    fn epoch(&self) -> u32;
    /// The namespace that asks.
    fn namespace(&self) -> u64;
    /// That of the node.
    fn node_namespace(&self) -> u64;
    /// Whether some namespaces are left out: without one, nobody pays for the question which.
    fn leaves_out(&self) -> bool;
    /// Whether this namespace is: its packets are for the other dataplane.
    fn is_left_out(&self, namespace: u64) -> bool;
    /// Nanoseconds since some moment.
    fn now(&self) -> u64;
    /// Any number.
    fn random(&self) -> u32;
    /// The endpoint that a client keeps.
    fn kept(&self, client: &Client) -> Option<Kept>;
    /// Remembers it.
    fn keep(&self, client: &Client, kept: &Kept);
}

/// Whom a socket wants to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The address.
    pub address: Address,
    /// The port.
    pub port: u16,
    /// The protocol, as in IP.
    pub protocol: u8,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It stays as it is: it is for no Service, or for one that sockets do not serve.
    Pass,
    /// It is refused, by the frontend with this row.
    Refuse(u32),
    /// It goes to an endpoint.
    To(Choice),
}

/// An endpoint that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// It.
    pub slot: Slot,
    /// What it was chosen from.
    pub stamp: Stamp,
    /// The client had it before.
    pub kept: bool,
}

const NANOSECONDS: u64 = 1_000_000_000;

/// Where a connection goes.
#[inline(always)]
pub fn select(world: &impl World, ask: &Ask) -> Answer {
    let Some((number, row)) = find(world, ask) else { return Answer::Pass };
    if row.flags & NOT_FOR_PODS != 0 && world.namespace() != world.node_namespace() {
        return Answer::Pass;
    }
    if is_left_out(world) {
        return Answer::Pass;
    }
    if row.list.count() == 0 {
        return if row.flags & REFUSES != 0 { Answer::Refuse(number) } else { Answer::Pass };
    }
    let stamp = Stamp { epoch: world.epoch(), row: number, list: row.list };
    let choice = if row.affinity == 0 { one_of(world, stamp) } else { sticky(world, &row, stamp) };
    choice.map_or(Answer::Pass, Answer::To)
}

/// A choice that was made earlier, made again: it stands while the frontend has the endpoint.
#[inline(always)]
pub fn again(world: &impl World, ask: &Ask, before: &Choice) -> Answer {
    if is_left_out(world) {
        return Answer::Pass;
    }
    let same = |row: Row| row.list.count() > 0 && row.list == before.stamp.list;
    if before.stamp.epoch == world.epoch() && world.row(before.stamp.row).is_some_and(same) {
        return Answer::To(*before);
    }
    let Some((number, row)) = find(world, ask) else { return Answer::Pass };
    match world.find(row.list, &before.slot.address, before.slot.port) {
        Some(slot) => {
            let stamp = Stamp { epoch: world.epoch(), row: number, list: row.list };
            Answer::To(Choice { slot, stamp, kept: false })
        }
        None => select(world, ask),
    }
}

/// Whether the namespace that asks is left out.
#[inline(always)]
fn is_left_out(world: &impl World) -> bool {
    world.leaves_out() && world.is_left_out(world.namespace())
}

#[inline(always)]
fn find(world: &impl World, ask: &Ask) -> Option<(u32, Row)> {
    if ask.protocol != TCP && ask.protocol != UDP {
        return None;
    }
    let mut key = Frontend { address: ask.address, port: ask.port, protocol: ask.protocol, scope: HERE };
    let number = match world.frontend(&key) {
        Some(number) => number,
        None if !world.is_node_port(ask.protocol, ask.port) || !world.is_node_address(&ask.address) => {
            return None;
        }
        None => {
            key.scope = if is_mapped(&ask.address) { NODE_V4 } else { NODE_V6 };
            key.address = [0; 4];
            world.frontend(&key)?
        }
    };
    Some((number, world.row(number)?))
}

#[inline(always)]
fn one_of(world: &impl World, stamp: Stamp) -> Option<Choice> {
    let list = stamp.list;
    let slot = world.slot(list.first() + world.random() % list.count())?;
    Some(Choice { slot, stamp, kept: false })
}

/// The endpoint that the client keeps, if it may; then it is remembered from now on, as every choice is.
#[inline(always)]
fn sticky(world: &impl World, row: &Row, stamp: Stamp) -> Option<Choice> {
    let client = Client { namespace: world.namespace(), affinity: row.affinity };
    let now = world.now();
    let recent = |kept: &Kept| now.wrapping_sub(kept.last) < u64::from(row.seconds) * NANOSECONDS;
    let before = world.kept(&client).filter(recent);
    let choice = match before.and_then(|kept| standing(world, &kept, stamp)) {
        Some(slot) => Choice { slot, stamp, kept: true },
        None => one_of(world, stamp)?,
    };
    let Slot { address, port, counter, .. } = choice.slot;
    world.keep(&client, &Kept { address, port, unused: 0, counter, stamp, last: now });
    Some(choice)
}

/// The slot of a remembered endpoint, if the list has it.
#[inline(always)]
fn standing(world: &impl World, kept: &Kept, stamp: Stamp) -> Option<Slot> {
    let Kept { address, port, counter, .. } = *kept;
    if kept.stamp == stamp {
        return Some(Slot { address, port, unused: 0, counter });
    }
    world.find(stamp.list, &address, port)
}

#[cfg(test)]
mod tests;
