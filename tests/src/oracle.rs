//! The oracle: what may become of the first packet of a connection, given the cluster's objects.
//!
//! It is written from the checklist of kube-proxy's behaviour, row by row, and shares nothing with the code that it judges
//! but the model, and the words for a packet and what becomes of it. It is slow and knows no kernel: it finds the Service that a packet is aimed at by looking at all of them.
//! Rows of that checklist are named as `row C8`: what proves them are the tests.
//!
//! | module | what it is |
//! |---|---|
//! | `settings` | what the proxy is told about its node, and whose traffic is whose |
//! | `target` | the Service port that a packet is aimed at |
//! | `endpoints` | which endpoints a Service port may use |
//! | `memory` | which endpoint a client goes on with |

mod endpoints;
mod memory;
mod settings;
mod target;

pub use memory::Memory;
pub use settings::{Detector, NodePortAddresses, Settings};

use endpoints::Endpoints;
use heddle_proxy::model::{Model, ObjectName, Policy};
pub use heddle_proxy::packet::{Outcome, Packet};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use target::{Reach, Target};

/// Everything that may become of the first packet that a client sends. Where it holds several endpoints, each of them must
/// get its share.
pub fn outcomes(model: &Model, settings: &Settings, packet: &Packet) -> BTreeSet<Outcome> {
    Memory::default().outcomes(model, settings, packet)
}

/// The Service that a packet is aimed at.
pub fn owner<'a>(model: &'a Model, settings: &Settings, packet: &Packet) -> Option<&'a ObjectName> {
    Target::find(model, settings, packet).map(|target| target.name)
}

/// Whether that Service does not let the packet's source in.
pub fn refuses_source(model: &Model, settings: &Settings, packet: &Packet) -> bool {
    Target::find(model, settings, packet).is_some_and(|target| target.refuses_source(model, packet))
}

impl Memory {
    /// Everything that may become of a packet, given what its sender has done before.
    pub fn outcomes(&self, model: &Model, settings: &Settings, packet: &Packet) -> BTreeSet<Outcome> {
        match Target::find(model, settings, packet) {
            Some(target) if target.refuses_source(model, packet) => [Outcome::Drop].into(),
            Some(target) => self.served(model, settings, (packet, &target)),
            None => [unserved(model, settings, packet)].into(),
        }
    }

    /// Takes in what has become of a packet.
    pub fn learn(&mut self, model: &Model, settings: &Settings, (packet, outcome): (&Packet, Outcome)) {
        if let Some(target) = Target::find(model, settings, packet)
            && let Outcome::Endpoint { address, port, .. } = outcome
        {
            let (policy, _) = choice(settings, packet, &target);
            self.keep((&target, policy), packet, SocketAddr::new(address, port));
        }
    }

    fn served(
        &self,
        model: &Model,
        settings: &Settings,
        (packet, target): (&Packet, &Target<'_>),
    ) -> BTreeSet<Outcome> {
        let endpoints = Endpoints::of(model, settings, target, packet.destination.is_ipv4());
        // row B3, row C9
        if !endpoints.exist() {
            return [Outcome::Reject].into();
        }
        let (policy, masqueraded) = choice(settings, packet, target);
        let mut list = endpoints.list(policy);
        // row C10
        if list.is_empty() {
            return [Outcome::Drop].into();
        }
        // row E3: what is not in the list any more is gone.
        if let Some(kept) = self.kept((target, policy), packet).filter(|kept| list.contains(kept)) {
            list = [kept].into();
        }
        let outcome = |endpoint: SocketAddr| {
            let masqueraded = masqueraded || endpoints.is_hairpin(packet, endpoint);
            Outcome::Endpoint {
                address: endpoint.ip(),
                port: endpoint.port(),
                source_kept: !new_source(settings, packet, endpoint, masqueraded),
            }
        };
        list.into_iter().map(outcome).collect()
    }
}

/// The C-matrix: the policy whose list of endpoints is used, and whether what reaches them has the node's address.
fn choice(settings: &Settings, packet: &Packet, target: &Target<'_>) -> (Policy, bool) {
    let pod = settings.detects_pod(packet);
    if target.reach == Reach::ClusterIp {
        // row C2, row C17, row D2, row D3; without a detector nobody is known to be no pod.
        return (target.service.internal_policy, settings.masquerade_all || pod == Some(false));
    }
    // row C8; the order matters: an address of the pods' range on the node itself counts as a pod.
    match target.service.external_policy {
        Policy::Cluster => (Policy::Cluster, true),
        Policy::Local if pod == Some(true) => (Policy::Cluster, false),
        Policy::Local if settings.is_here(packet.source) => (Policy::Cluster, true),
        Policy::Local => (Policy::Local, false),
    }
}

/// What comes in by a wire and ends on the node itself never leaves: there is nowhere to masquerade it.
fn new_source(settings: &Settings, packet: &Packet, endpoint: SocketAddr, masqueraded: bool) -> bool {
    let ends_here = packet.in_interface.is_some() && settings.is_here(endpoint.ip());
    masqueraded && !ends_here
}

/// What no Service port serves.
fn unserved(model: &Model, settings: &Settings, packet: &Packet) -> Outcome {
    let mut services = model.services().map(|(_, service)| service);
    // row C13; an address that the node itself has is left alone.
    if settings.is_here(packet.destination) {
        Outcome::Untouched
    } else if services.any(|service| service.cluster_ips.contains(&packet.destination)) {
        Outcome::Reject
    } else if model.service_cidrs().iter().any(|range| range.contains(packet.destination)) {
        Outcome::Drop
    } else {
        Outcome::Untouched
    }
}

#[cfg(test)]
mod tests;
