//! Forgets flows whose endpoint is gone.
//!
//! The kernel remembers where it sent a flow's first packet, and sends all others there. TCP and SCTP notice a dead
//! endpoint and connect again; a UDP client that keeps its port never gets another one, unless the flow is forgotten. It
//! routes nothing: a forgotten flow's next packet is a first packet, and takes whatever way the dataplane has for it.
//! Each [`Forgetter`] is for one protocol: UDP, but where a user wants TCP's clients to notice at once.
//!
//! ```text
//! agent ──▶ Outbox ──Changes──▶ Forgetter (its own thread) ──▶ kernel
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`served`] | which flows are stale; pure |
//! | [`forget`] | the thread: look through the flows, forget, retry; the door to the kernel |
//!
//! Invariant: what is handed over is what the kernel routes by already, so that a forgotten flow cannot come back to where
//! it was.

pub mod forget;
pub mod served;

pub use forget::{FlowTable, Forgetter, Tracked};
pub use served::Served;

use crate::dataplane::Surroundings;
use crate::delta::Delta;
use crate::frontends::{Backends, Frontend, IpFamily};
use crate::model::Protocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// The endpoints that may go on answering, in order.
pub type Serving = Arc<[SocketAddr]>;

/// What changed for flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Who serves each frontend that changed; `None` for one that is gone.
    pub frontends: BTreeMap<Frontend, Option<Serving>>,
    /// The node's addresses, as its Node object has them.
    pub node_addresses: Vec<IpAddr>,
}

/// What the agent has not handed over yet, since the kernel has not taken it.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Changes,
    /// Who hears of the frontends of a protocol. Without any, nothing is kept.
    to: Vec<(Protocol, Sender<Changes>)>,
}

impl Outbox {
    /// One that hands over to the threads of [`Forgetter`]s of these protocols.
    pub fn new(to: Vec<(Protocol, Sender<Changes>)>) -> Self {
        Self { waiting: Changes::default(), to }
    }

    /// Takes in what the dataplane is about to be told.
    pub fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        let to = &self.to;
        let is_heard_of = |frontend: &Frontend| to.iter().any(|(protocol, _)| *protocol == frontend.protocol);
        for (frontend, edit) in delta.iter().filter(|(frontend, _)| is_heard_of(frontend)) {
            let serving = |side: &Option<Backends>| side.as_ref().map(|backends| backends.serving.clone());
            // A frontend that is waiting has an older value to be replaced, whatever the last edit changed.
            if serving(&edit.old) != serving(&edit.new) || self.waiting.frontends.contains_key(frontend) {
                self.waiting.frontends.insert(*frontend, serving(&edit.new));
            }
        }
    }

    /// Takes in the node's addresses.
    pub fn surround(&mut self, surroundings: &Surroundings) {
        self.waiting.node_addresses.clone_from(&surroundings.node_addresses);
    }

    /// Hands over what concerns these families, which the kernel has taken. The rest waits.
    pub fn hand_over(&mut self, written: &[IpFamily]) {
        if self.to.is_empty() {
            return;
        }
        let all = std::mem::take(&mut self.waiting.frontends);
        let (taken, rest) = all.into_iter().partition(|(f, _)| written.contains(&f.place.family()));
        self.waiting.frontends = rest;
        let taken: BTreeMap<Frontend, Option<Serving>> = taken;
        for (protocol, to) in &self.to {
            let theirs = taken.iter().filter(|(frontend, _)| frontend.protocol == *protocol);
            let frontends: BTreeMap<_, _> =
                theirs.map(|(frontend, serving)| (*frontend, serving.clone())).collect();
            if !frontends.is_empty() {
                let node_addresses = self.waiting.node_addresses.clone();
                // The other side is gone only when the process is about to be.
                let _ = to.send(Changes { frontends, node_addresses });
            }
        }
    }
}

#[cfg(test)]
mod tests;
