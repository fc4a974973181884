//! Forgets UDP flows whose endpoint is gone.
//!
//! The kernel remembers where it sent a flow's first packet, and sends all others there. TCP and SCTP notice a dead
//! endpoint and connect again; a UDP client that keeps its port never gets another one, unless the flow is forgotten. It
//! routes nothing: a forgotten flow's next packet is a first packet, and takes whatever way the dataplane has for it.
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

/// What changed for UDP flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Who serves each UDP frontend that changed; `None` for one that is gone.
    pub frontends: BTreeMap<Frontend, Option<Serving>>,
    /// The node's addresses, as its Node object has them.
    pub node_addresses: Vec<IpAddr>,
}

/// What the agent has not handed over yet, since the kernel has not taken it.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Changes,
    /// Without any, nothing is kept.
    to: Vec<Sender<Changes>>,
}

impl Outbox {
    /// One that hands over to the threads of [`Forgetter`]s.
    pub fn new(to: Vec<Sender<Changes>>) -> Self {
        Self { waiting: Changes::default(), to }
    }

    /// Takes in what the dataplane is about to be told.
    pub fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        if self.to.is_empty() {
            return;
        }
        let udp = delta.iter().filter(|(frontend, _)| frontend.protocol == Protocol::Udp);
        for (frontend, edit) in udp {
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
        let changes = Changes { frontends: taken, node_addresses: self.waiting.node_addresses.clone() };
        if !changes.frontends.is_empty() {
            for to in &self.to {
                // The other side is gone only when the process is about to be.
                let _ = to.send(changes.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
