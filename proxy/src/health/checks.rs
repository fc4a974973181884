//! Which Services want a health check, and how many of their endpoints are on this node.
//!
//! Pure but for the handing over, which the agent does once the kernel routes to what is counted: a load balancer that is
//! told of an endpoint finds it. It knows no addresses to listen on, and no servers.

use crate::dataplane::Surroundings;
use crate::frontends::IpFamily;
use crate::model::{Dirty, Model, ObjectName, Service, Slice};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// A Service's health check in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The port to listen on, 1–65535.
    pub port: u16,
    /// How many addresses on this node are ready for the Service.
    pub local: usize,
}

/// One health check: the family that its clients have, and the Service.
pub type Key = (IpFamily, ObjectName);

/// What changed for health checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The checks that are different; `None` for one that is gone.
    pub checks: BTreeMap<Key, Option<Check>>,
    /// The node's addresses, as its Node object has them.
    pub node_addresses: Vec<IpAddr>,
}

/// The check of a Service in a family, for the node with this name.
pub fn of(model: &Model, node: &str, (family, name): &Key) -> Option<Check> {
    let service = model.service(name)?;
    let is_served = service.cluster_ips.iter().any(|ip| IpFamily::of(*ip) == *family);
    let port = service.health_check_node_port.filter(|_| is_served)?;
    Some(Check { port, local: local(model.slices_of(name), node, *family) })
}

/// Endpoints that are about to end do not count, though they may still serve: new clients are to go elsewhere.
fn local<'a>(slices: impl Iterator<Item = &'a Slice>, node: &str, family: IpFamily) -> usize {
    let endpoints = slices.filter(|slice| !slice.ports.is_empty()).flat_map(|slice| &slice.endpoints);
    let here = endpoints.filter(|endpoint| {
        let is_here = !node.is_empty() && endpoint.node.as_deref() == Some(node);
        is_here && endpoint.ready && IpFamily::of(endpoint.address) == family
    });
    here.map(|endpoint| endpoint.address).collect::<BTreeSet<IpAddr>>().len()
}

/// The checks as they are wanted, and what of them has not been handed over yet.
#[derive(Debug, Default)]
pub struct Outbox {
    node: Arc<str>,
    /// Those that are not routed; what is asked there would be answered by nobody.
    left_out: Vec<IpFamily>,
    checks: BTreeMap<Key, Check>,
    waiting: Changes,
    is_surrounded: bool,
    /// Without it, nothing is kept.
    to: Option<UnboundedSender<Changes>>,
}

impl Outbox {
    /// One for the node with this name, which hands over to the thread of the servers.
    pub fn new(node: &str, to: UnboundedSender<Changes>) -> Self {
        Self { node: node.into(), to: Some(to), ..Self::default() }
    }

    /// The same, where the others of the families are not routed.
    pub fn of_families(self, routed: &[IpFamily]) -> Self {
        let left_out = IpFamily::ALL.into_iter().filter(|family| !routed.contains(family));
        Self { left_out: left_out.collect(), ..self }
    }

    /// Takes in what may have changed.
    pub fn stage(&mut self, model: &Model, dirty: &Dirty) {
        if self.to.is_none() {
            return;
        }
        for name in &dirty.services {
            let wants = |service: &Service| service.health_check_node_port.is_some();
            let is_wanted = model.service(name).is_some_and(wants);
            for family in IpFamily::ALL {
                if self.left_out.contains(&family) {
                    continue;
                }
                let key = (family, name.clone());
                // Most Services have none, and cost two looks into a map that is small.
                if is_wanted || self.checks.contains_key(&key) {
                    self.set(of(model, &self.node, &key), key);
                }
            }
        }
    }

    fn set(&mut self, check: Option<Check>, key: Key) {
        let before = match check {
            Some(check) => self.checks.insert(key.clone(), check),
            None => self.checks.remove(&key),
        };
        if before != check {
            self.waiting.checks.insert(key, check);
        }
    }

    /// Takes in the node's addresses.
    pub fn surround(&mut self, surroundings: &Surroundings) {
        self.waiting.node_addresses.clone_from(&surroundings.node_addresses);
        self.is_surrounded = true;
    }

    /// Hands over what concerns these families, which the kernel has taken. The rest waits.
    pub fn hand_over(&mut self, written: &[IpFamily]) {
        let Some(to) = &self.to else { return };
        let all = mem::take(&mut self.waiting.checks);
        let (taken, rest) = all.into_iter().partition(|((family, _), _)| written.contains(family));
        self.waiting.checks = rest;
        let changes = Changes { checks: taken, node_addresses: self.waiting.node_addresses.clone() };
        if mem::take(&mut self.is_surrounded) || !changes.checks.is_empty() {
            // The other side is gone only when the process is about to be.
            let _ = to.send(changes);
        }
    }
}

#[cfg(test)]
mod tests;
