//! Which flows of a protocol are stale.
//!
//! Traffic policies, hints and readiness do not matter here: an endpoint that still serves keeps the flows that it has,
//! though new ones go elsewhere. It knows neither sockets nor time.

use super::{Changes, Serving};
use crate::frontends::{Frontend, IpFamily, Place};
use crate::model::Protocol;
use crate::nft::Settings;
use heddle_netlink::conntrack::{Destination, Filter, Flow};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Up to so many ports, each is a listing of its own. For each the kernel walks its whole table: measured on 6.18 with
/// 200 000 flows, 30 ms for a listing that finds none, and 200 ms for one of all flows.
const SINGLY: usize = 4;

/// Who serves the frontends of a protocol, and which of them have flows to look through.
#[derive(Clone, Debug)]
pub struct Served {
    protocol: Protocol,
    /// All of them, since one that did not change may be why a flow is not another's.
    frontends: BTreeMap<Frontend, Serving>,
    due: BTreeSet<Frontend>,
    node_addresses: Vec<IpAddr>,
}

impl Served {
    /// No frontend of this protocol.
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, frontends: BTreeMap::new(), due: BTreeSet::new(), node_addresses: Vec::new() }
    }

    /// Its protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Takes changes in. A frontend is due when it lost an endpoint, and when it gets its first: packets to it may have
    /// gone somewhere else until now. One that nobody serves is not: its flows have nowhere better to go.
    pub fn take(&mut self, changes: Changes) {
        self.node_addresses = changes.node_addresses;
        for (frontend, serving) in changes.frontends {
            let new = serving.unwrap_or_default();
            let old = self.frontends.remove(&frontend).unwrap_or_default();
            if new.is_empty() {
                self.due.remove(&frontend);
                continue;
            }
            if old.is_empty() || old.iter().any(|endpoint| new.binary_search(endpoint).is_err()) {
                self.due.insert(frontend);
            }
            self.frontends.insert(frontend, new);
        }
    }

    /// True when flows of the family are to be looked through.
    pub fn is_due(&self, family: IpFamily) -> bool {
        self.due_in(family).next().is_some()
    }

    /// The family's flows were looked through.
    pub fn settle(&mut self, family: IpFamily) {
        self.due.retain(|frontend| frontend.place.family() != family);
    }

    /// What to list, so that no stale flow of the family is missed.
    pub fn filters(&self, family: IpFamily) -> Vec<Filter> {
        let protocol = self.protocol.number();
        let any = if family == IpFamily::V4 { Destination::AnyV4 } else { Destination::AnyV6 };
        let mut ports: BTreeMap<u16, Vec<Place>> = BTreeMap::new();
        for frontend in self.due_in(family) {
            ports.entry(frontend.port).or_default().push(frontend.place);
        }
        if ports.len() > SINGLY {
            return vec![Filter { destination: any, protocol, port: None }];
        }
        let filter = |(port, places): (u16, Vec<Place>)| {
            let destination = match places[..] {
                [Place::Address(address)] => Destination::Address(address),
                _ => any,
            };
            Filter { destination, protocol, port: Some(port) }
        };
        ports.into_iter().map(filter).collect()
    }

    /// Those of the host's own addresses on which node ports are served.
    pub fn node_port_addresses(&self, own: BTreeSet<IpAddr>, settings: &Settings) -> BTreeSet<IpAddr> {
        let served = |address: &IpAddr| settings.serves_node_ports_on(address, &self.node_addresses);
        own.into_iter().filter(served).collect()
    }

    /// True for a flow to a frontend that is due, answered by something that does not serve it: an endpoint that is gone,
    /// or whoever had the address before it was a frontend. `node` are the addresses on which node ports are served; the
    /// same port of another host is no business of ours.
    pub fn is_stale(&self, flow: &Flow, node: &BTreeSet<IpAddr>) -> bool {
        let to = flow.original.destination;
        let at = |place| Frontend { place, protocol: self.protocol, port: to.port() };
        let (exact, node_port) = (at(Place::Address(to.ip())), at(Place::Node(IpFamily::of(to.ip()))));
        // In the order in which the dataplane looks.
        let frontend =
            if self.frontends.contains_key(&exact) || !node.contains(&to.ip()) { exact } else { node_port };
        let serving = self.frontends.get(&frontend).filter(|_| self.due.contains(&frontend));
        flow.protocol == self.protocol.number()
            && serving.is_some_and(|serving| serving.binary_search(&flow.reply.source).is_err())
    }

    fn due_in(&self, family: IpFamily) -> impl Iterator<Item = &Frontend> {
        self.due.iter().filter(move |frontend| frontend.place.family() == family)
    }
}
