//! What the cluster's objects mean: which address and port is served by which endpoints.
//!
//! All of kube-proxy's meaning lives here, the same for every dataplane. It is pure: a [`Frontends`] depends on the model
//! and the node's name alone, whether it was resolved at once or kept up Service by Service.

use crate::delta::Delta;
use crate::model::{Dirty, Model, ObjectName, Protocol, Service, ServicePort};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), self.protocol)
    }
}

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

/// How a frontend is reached: which field of the Service it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A cluster IP.
    ClusterIp,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp => f.write_str("cluster-ip"),
        }
    }
}

/// What stands behind a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    /// How the frontend is reached.
    pub reach: Reach,
    /// The endpoints for new connections, in order; with none of them, connections are rejected.
    pub endpoints: Arc<[Endpoint]>,
}

/// A Service's claim on a frontend. The claims of one frontend are ordered by the Service's name, and the first holds.
#[derive(Clone, Debug)]
struct Claim {
    owner: ObjectName,
    backends: Backends,
}

/// All frontends.
#[derive(Clone, Debug)]
pub struct Frontends {
    node: Arc<str>,
    claims: BTreeMap<Frontend, Vec<Claim>>,
    claimed_by: BTreeMap<ObjectName, Vec<Frontend>>,
}

/// Resolves the whole model for the node with this name.
pub fn resolve(model: &Model, node: &str) -> Frontends {
    let mut frontends = Frontends::new(node);
    let services = model.services().map(|(name, _)| name.clone()).collect();
    frontends.update(model, &Dirty { services, ..Dirty::default() });
    frontends
}

impl Frontends {
    /// No frontends, on the node with this name.
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), claims: BTreeMap::new(), claimed_by: BTreeMap::new() }
    }

    /// Resolves the Services named in `dirty` again and returns the frontends whose backends differ.
    pub fn update(&mut self, model: &Model, dirty: &Dirty) -> Delta<Frontend, Backends> {
        let mut delta = Delta::default();
        for name in &dirty.services {
            let service = model.service(name);
            let wanted =
                service.map(|service| self.resolve_service(model, name, service)).unwrap_or_default();
            let claimed = self.claimed_by.remove(name).unwrap_or_default();
            for frontend in claimed.iter().filter(|frontend| !wanted.contains_key(frontend)) {
                self.claim(frontend, name, None, &mut delta);
            }
            if !wanted.is_empty() {
                self.claimed_by.insert(name.clone(), wanted.keys().copied().collect());
            }
            for (frontend, backends) in wanted {
                self.claim(&frontend, name, Some(backends), &mut delta);
            }
        }
        delta
    }

    /// Puts, replaces or removes the claim of `owner` on a frontend.
    fn claim(
        &mut self,
        frontend: &Frontend,
        owner: &ObjectName,
        backends: Option<Backends>,
        delta: &mut Delta<Frontend, Backends>,
    ) {
        let claims = self.claims.entry(*frontend).or_default();
        let before = claims.first().map(|claim| claim.backends.clone());
        let place = claims.binary_search_by(|claim| claim.owner.cmp(owner));
        match (place, backends) {
            (Ok(at), Some(backends)) => claims[at].backends = backends,
            (Ok(at), None) => drop(claims.remove(at)),
            (Err(at), Some(backends)) => claims.insert(at, Claim { owner: owner.clone(), backends }),
            (Err(_), None) => {}
        }
        delta.record(frontend, before.as_ref(), claims.first().map(|claim| &claim.backends));
        if claims.is_empty() {
            self.claims.remove(frontend);
        }
    }

    fn resolve_service(
        &self,
        model: &Model,
        name: &ObjectName,
        service: &Service,
    ) -> BTreeMap<Frontend, Backends> {
        let mut frontends = BTreeMap::new();
        for &address in &service.cluster_ips {
            for port in &service.ports {
                let frontend = Frontend { address, protocol: port.protocol, port: port.port };
                let endpoints = self.endpoints(model, name, port, address.is_ipv4());
                // Two ports of one Service with the same number: the API server refuses it, the first one holds.
                frontends.entry(frontend).or_insert(Backends { reach: Reach::ClusterIp, endpoints });
            }
        }
        frontends
    }

    /// The ready endpoints of one family that serve a port, joined by the port's name and protocol. An endpoint that
    /// stands in several slices counts once.
    fn endpoints(
        &self,
        model: &Model,
        service: &ObjectName,
        port: &ServicePort,
        ipv4: bool,
    ) -> Arc<[Endpoint]> {
        let mut found: BTreeMap<(IpAddr, u16), bool> = BTreeMap::new();
        for slice in model.slices_of(service) {
            let serves = |p: &&crate::model::SlicePort| p.name == port.name && p.protocol == port.protocol;
            for slice_port in slice.ports.iter().filter(serves) {
                for endpoint in slice.endpoints.iter().filter(|e| e.ready && e.address.is_ipv4() == ipv4) {
                    let local = endpoint.node.as_ref().is_none_or(|node| *node == self.node);
                    *found.entry((endpoint.address, slice_port.port)).or_default() |= local;
                }
            }
        }
        found.into_iter().map(|((address, port), local)| Endpoint { address, port, local }).collect()
    }

    /// The frontends with the backends that hold, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Frontend, &ObjectName, &Backends)> {
        self.claims.iter().filter_map(|(frontend, claims)| {
            let claim = claims.first()?;
            Some((frontend, &claim.owner, &claim.backends))
        })
    }

    /// Number of frontends.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// True when no Service has a frontend.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

/// One frontend a line, its endpoints below it.
impl fmt::Display for Frontends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (frontend, owner, backends) in self.iter() {
            writeln!(f, "{frontend} {} of {owner}", backends.reach)?;
            if backends.endpoints.is_empty() {
                writeln!(f, "  reject")?;
            }
            for endpoint in backends.endpoints.iter() {
                writeln!(f, "  {endpoint}")?;
            }
        }
        Ok(())
    }
}
