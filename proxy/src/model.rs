//! What the cluster says, nothing derived.
//!
//! A [`Model`] is built from [`Change`]s alone, in any order that keeps each object's own changes in order. It is not
//! a cache of Kubernetes objects: it holds the few fields that decide where a packet goes. Invariant: the same set of
//! applied objects gives the same model, and [`Model::take_dirty`] names every Service whose outcome may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// Names an object.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A transport protocol that a Service can have (core/v1 `ServicePort.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132.
    Sctp,
}

impl Protocol {
    /// The protocol's number in an IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The port's name; empty for the unnamed port. With the protocol it joins the Service to its endpoints.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port that clients use, 1–65535.
    pub port: u16,
}

/// A Service, as far as its routing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its cluster IPs, at most one of each family; none for headless and `ExternalName` Services.
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// One port of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name that joins it to a [`ServicePort`]; empty for the unnamed port.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the endpoint, 1–65535.
    pub port: u16,
}

/// One endpoint of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address: the first of the slice's `addresses`.
    pub address: IpAddr,
    /// Ready for new connections (`conditions.ready`, nil means true).
    pub ready: bool,
    /// Name of the node that it runs on, when the slice says so.
    pub node: Option<Arc<str>>,
}

/// An `EndpointSlice`: a part of a Service's endpoints, all of one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Name of the Service, in the slice's namespace (label `kubernetes.io/service-name`).
    pub service: Arc<str>,
    /// The ports that every endpoint of the slice serves.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// The node that we run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its addresses: internal ones first, then external ones, in the order of `status.addresses`.
    pub addresses: Vec<IpAddr>,
}

/// A kind of object that the model waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// core/v1 Service.
    Service,
    /// discovery.k8s.io/v1 `EndpointSlice`.
    Slice,
    /// core/v1 Node (our own).
    Node,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
        })
    }
}

/// One event of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A Service exists with this content.
    ServiceApplied(ObjectName, Service),
    /// A Service is gone.
    ServiceGone(ObjectName),
    /// An `EndpointSlice` exists with this content.
    SliceApplied(ObjectName, Slice),
    /// An `EndpointSlice` is gone.
    SliceGone(ObjectName),
    /// Our own node exists with this content.
    NodeApplied(Node),
    /// Every object of this kind that exists has been applied at least once.
    Complete(Kind),
}

/// Which Services have to be resolved again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Their names.
    pub services: BTreeSet<ObjectName>,
}

/// Everything that the cluster has said so far.
#[derive(Clone, Debug, Default)]
pub struct Model {
    services: BTreeMap<ObjectName, Service>,
    slices: BTreeMap<ObjectName, Slice>,
    /// The slices of each Service, whether or not the Service itself is known.
    slices_of: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    node: Node,
    complete: BTreeSet<Kind>,
    dirty: Dirty,
}

impl Model {
    /// Takes one change in. It never fails and touches nothing but memory.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::ServiceApplied(name, service) => {
                if self.services.get(&name) != Some(&service) {
                    self.dirty.services.insert(name.clone());
                    self.services.insert(name, service);
                }
            }
            Change::ServiceGone(name) => {
                if self.services.remove(&name).is_some() {
                    self.dirty.services.insert(name);
                }
            }
            Change::SliceApplied(name, slice) => self.apply_slice(name, slice),
            Change::SliceGone(name) => self.remove_slice(&name),
            Change::NodeApplied(node) => self.node = node,
            Change::Complete(kind) => {
                self.complete.insert(kind);
            }
        }
    }

    fn apply_slice(&mut self, name: ObjectName, slice: Slice) {
        if self.slices.get(&name) == Some(&slice) {
            return;
        }
        // The label may have changed: the slice leaves its old Service first.
        self.remove_slice(&name);
        let service = ObjectName { namespace: name.namespace.clone(), name: slice.service.clone() };
        self.slices_of.entry(service.clone()).or_default().insert(name.clone());
        self.slices.insert(name, slice);
        self.dirty.services.insert(service);
    }

    fn remove_slice(&mut self, name: &ObjectName) {
        let Some(old) = self.slices.remove(name) else { return };
        let service = ObjectName { namespace: name.namespace.clone(), name: old.service };
        if let Some(names) = self.slices_of.get_mut(&service) {
            names.remove(name);
            if names.is_empty() {
                self.slices_of.remove(&service);
            }
        }
        self.dirty.services.insert(service);
    }

    /// True once every kind that decides routing is complete: before that nothing may be written, since a half-filled
    /// model would tear down a running node. Our own Node is not among them: no ClusterIP depends on it.
    pub fn ready(&self) -> bool {
        [Kind::Service, Kind::Slice].iter().all(|kind| self.complete.contains(kind))
    }

    /// The kinds still awaited.
    pub fn awaited(&self) -> impl Iterator<Item = Kind> + '_ {
        [Kind::Service, Kind::Slice].into_iter().filter(|kind| !self.complete.contains(kind))
    }

    /// Names of the Services whose outcome may have changed since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        mem::take(&mut self.dirty)
    }

    /// All Services, by name.
    pub fn services(&self) -> impl Iterator<Item = (&ObjectName, &Service)> {
        self.services.iter()
    }

    /// One Service.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }

    /// The slices of one Service, by slice name.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &Slice> {
        self.slices_of.get(service).into_iter().flatten().filter_map(|name| self.slices.get(name))
    }

    /// Our own node, empty until it was seen.
    pub fn node(&self) -> &Node {
        &self.node
    }
}
