//! Which endpoints a Service port may use (section B of the checklist).

use super::target::Target;
use super::{Packet, Settings};
use heddle_proxy::model::{Hints, Model, Policy, SliceEndpoint};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// The endpoints of a Service port in one family.
#[derive(Clone, Debug)]
pub(super) struct Endpoints<'a> {
    all: BTreeMap<SocketAddr, &'a SliceEndpoint>,
    node: Arc<str>,
    zone: Option<Arc<str>>,
}

impl<'a> Endpoints<'a> {
    /// Joined to the Service port by name and protocol (row A8).
    pub(super) fn of(model: &'a Model, settings: &Settings, target: &Target<'_>, ipv4: bool) -> Self {
        let mut all: BTreeMap<SocketAddr, &SliceEndpoint> = BTreeMap::new();
        for slice in model.slices_of(target.name) {
            let served = slice
                .ports
                .iter()
                .filter(|port| (&port.name, port.protocol) == (&target.port.name, target.port.protocol));
            for port in served {
                for endpoint in slice.endpoints.iter().filter(|e| e.address.is_ipv4() == ipv4) {
                    let held = all.entry(SocketAddr::new(endpoint.address, port.port)).or_insert(endpoint);
                    // row A11: a pod that lives takes the address of one that ends.
                    if !endpoint.terminating {
                        *held = endpoint;
                    }
                }
            }
        }
        Self { all, node: settings.node.clone(), zone: model.node().zone.clone() }
    }

    /// Whether there is any that may be used, wherever it is (row B3).
    pub(super) fn exist(&self) -> bool {
        self.all.values().any(|endpoint| endpoint.ready || ends(endpoint))
    }

    /// The list that a policy gives.
    pub(super) fn list(&self, policy: Policy) -> BTreeSet<SocketAddr> {
        match policy {
            Policy::Cluster => self.cluster(),
            Policy::Local => self.local(),
        }
    }

    /// The list for policy `Cluster` (row B1).
    fn cluster(&self) -> BTreeSet<SocketAddr> {
        let near = self.nearness();
        let ready = self.chosen(|endpoint| endpoint.ready && near(endpoint));
        if ready.is_empty() { self.chosen(ends) } else { ready }
    }

    /// The list for policy `Local` (row B2).
    fn local(&self) -> BTreeSet<SocketAddr> {
        let local = |endpoint: &SliceEndpoint| endpoint.node.as_ref() == Some(&self.node);
        let ready = self.chosen(|endpoint| local(endpoint) && endpoint.ready);
        if ready.is_empty() { self.chosen(|endpoint| local(endpoint) && ends(endpoint)) } else { ready }
    }

    /// Whether the packet is sent back to the pod of this node that it comes from (row C16). Where nobody says on which node
    /// the pod is, its own packet does.
    pub(super) fn is_hairpin(&self, packet: &Packet, endpoint: SocketAddr) -> bool {
        let node = self.all.get(&endpoint).and_then(|endpoint| endpoint.node.as_ref());
        packet.source == endpoint.ip() && node.is_none_or(|node| *node == self.node)
    }

    fn chosen(&self, wanted: impl Fn(&SliceEndpoint) -> bool) -> BTreeSet<SocketAddr> {
        self.all.iter().filter(|(_, endpoint)| wanted(endpoint)).map(|(address, _)| *address).collect()
    }

    /// Which ready endpoints their hints leave for this node (row B4): those for the node, else those for its zone, else all.
    fn nearness(&self) -> Box<dyn Fn(&SliceEndpoint) -> bool + '_> {
        let names_node = |endpoint: &SliceEndpoint| nodes(endpoint).contains(&self.node);
        let names_zone =
            |endpoint: &SliceEndpoint| self.zone.as_ref().is_some_and(|z| zones(endpoint).contains(z));
        let ready = || self.all.values().copied().filter(|endpoint| endpoint.ready);
        if ready().all(|endpoint| !nodes(endpoint).is_empty()) && ready().any(names_node) {
            Box::new(names_node)
        } else if ready().all(|endpoint| !zones(endpoint).is_empty()) && ready().any(names_zone) {
            Box::new(names_zone)
        } else {
            Box::new(|_| true)
        }
    }
}

/// Still serves though its pod is being deleted: used where nothing is ready.
fn ends(endpoint: &SliceEndpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

fn nodes(endpoint: &SliceEndpoint) -> &[Arc<str>] {
    endpoint.hints.as_deref().map_or(&[], |hints: &Hints| &hints.nodes)
}

fn zones(endpoint: &SliceEndpoint) -> &[Arc<str>] {
    endpoint.hints.as_deref().map_or(&[], |hints: &Hints| &hints.zones)
}
