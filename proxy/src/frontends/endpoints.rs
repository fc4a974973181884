//! One port's endpoints: ready or about to end, on this node or anywhere, meant for this node or not.
//!
//! It knows slices, and neither addresses of Services nor policies. Both lists fall back by themselves.

use crate::model::{Model, ObjectName, ServicePort, SliceEndpoint};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::IpFamily;

/// A pod's address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// It may be on this node: its node is ours, or nobody says which it is.
    pub local: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", SocketAddr::new(self.address, self.port), if self.local { " local" } else { "" })
    }
}

/// The endpoints that new connections may go to, and those that may keep what they have.
#[derive(Clone, Debug)]
pub struct Lists {
    /// In the whole cluster, as far as they are meant for this node.
    pub cluster: Arc<[Endpoint]>,
    /// On this node.
    pub local: Arc<[Endpoint]>,
    /// Of a port whose flows are followed, those that answer: ready or not, about to end or not, wherever they are and whomever they are meant for.
    pub serving: Arc<[SocketAddr]>,
}

/// The endpoints of one address and port, as the slices have them.
type Found<'a> = BTreeMap<(IpAddr, u16), &'a SliceEndpoint>;

/// Where we are.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Our node's name; empty when it is not known, and then nothing is local.
    pub node: &'a str,
    /// Our zone.
    pub zone: Option<&'a str>,
}

/// The endpoints that serve a port in one family, joined by the port's name and protocol.
pub fn lists(
    model: &Model,
    service: &ObjectName,
    (port, is_followed): (&ServicePort, bool),
    (family, here): (IpFamily, Here<'_>),
) -> Lists {
    let found = find(model, service, port, family);
    let is_here = |e: &SliceEndpoint| !here.node.is_empty() && e.node.as_deref() == Some(here.node);
    let make = |chosen: Vec<(&(IpAddr, u16), &&SliceEndpoint)>| -> Arc<[Endpoint]> {
        let endpoint = |(&(address, port), e): (&(IpAddr, u16), &&SliceEndpoint)| Endpoint {
            address,
            port,
            local: e.node.is_none() || is_here(e),
        };
        chosen.into_iter().map(endpoint).collect()
    };
    Lists {
        cluster: make(choose(&found, |_| true, meant_for(&found, here))),
        local: make(choose(&found, is_here, Meant::Everybody)),
        serving: if is_followed { serving(&found) } else { Arc::default() },
    }
}

/// A Service that publishes endpoints before they serve has ready ones that do not.
fn serving(found: &Found<'_>) -> Arc<[SocketAddr]> {
    let serving = found.iter().filter(|(_, endpoint)| endpoint.ready || endpoint.serving);
    serving.map(|(address_and_port, _)| SocketAddr::from(*address_and_port)).collect()
}

/// An address and port that stands in several slices counts once; the one that is not about to end wins, since a new pod
/// may have the address of a dying one.
fn find<'a>(model: &'a Model, service: &ObjectName, port: &ServicePort, family: IpFamily) -> Found<'a> {
    let mut found = Found::new();
    for slice in model.slices_of(service) {
        let ports = slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
        for slice_port in ports {
            for endpoint in slice.endpoints.iter().filter(|e| IpFamily::of(e.address) == family) {
                let held = found.entry((endpoint.address, slice_port.port)).or_insert(endpoint);
                if better(endpoint, held) {
                    *held = endpoint;
                }
            }
        }
    }
    found
}

/// Of two versions, the one that is not about to end; then the one that is ready.
fn better(one: &SliceEndpoint, other: &SliceEndpoint) -> bool {
    let rank = |e: &SliceEndpoint| (!e.terminating, e.ready, e.serving);
    rank(one) > rank(other)
}

/// Which ready endpoints their hints mean for us.
#[derive(Clone, Copy)]
enum Meant<'a> {
    Everybody,
    Node(&'a str),
    Zone(&'a str),
}

impl Meant<'_> {
    fn includes(self, endpoint: &SliceEndpoint) -> bool {
        let hints = endpoint.hints.as_deref();
        match self {
            Self::Everybody => true,
            Self::Node(node) => hints.is_some_and(|h| h.nodes.iter().any(|n| **n == *node)),
            Self::Zone(zone) => hints.is_some_and(|h| h.zones.iter().any(|z| **z == *zone)),
        }
    }
}

/// Hints count only when every ready endpoint has one of the kind and at least one names us: nodes first, then zones.
fn meant_for<'a>(found: &Found<'_>, here: Here<'a>) -> Meant<'a> {
    let ready = || found.values().filter(|e| e.ready);
    let all_have =
        |has: fn(&crate::model::Hints) -> bool| ready().all(|e| e.hints.as_deref().is_some_and(has));
    let by_node = Meant::Node(here.node);
    if all_have(|h| !h.nodes.is_empty()) && ready().any(|e| by_node.includes(e)) {
        return by_node;
    }
    match here.zone.map(Meant::Zone) {
        Some(by_zone) if all_have(|h| !h.zones.is_empty()) && ready().any(|e| by_zone.includes(e)) => by_zone,
        _ => Meant::Everybody,
    }
}

/// The ready endpoints; without any, those that are about to end and still answer.
fn choose<'f, 'a>(
    found: &'f Found<'a>,
    among: impl Fn(&SliceEndpoint) -> bool,
    meant: Meant<'_>,
) -> Vec<(&'f (IpAddr, u16), &'f &'a SliceEndpoint)> {
    let ready: Vec<_> = found.iter().filter(|(_, e)| e.ready && among(e) && meant.includes(e)).collect();
    if !ready.is_empty() {
        return ready;
    }
    found.iter().filter(|(_, e)| e.serving && e.terminating && among(e)).collect()
}
