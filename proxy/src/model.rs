//! What the cluster says, nothing derived.
//!
//! A [`Model`] is built from [`Change`]s alone, in any order that keeps each object's own changes in order. It is not
//! a cache of Kubernetes objects: it holds the few fields that decide where a packet goes. Invariant: the same set of
//! applied objects gives the same model, and [`Model::take_dirty`] names every Service whose outcome may have changed.

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::memory;

pub use self::objects::{
    Condition, Hints, Node, ObjectName, Policy, Protocol, Service, ServicePort, Slice, SliceEndpoint,
    SlicePort, Trigger, Triggered,
};

/// A kind of object that the model holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// core/v1 Service.
    Service,
    /// discovery.k8s.io/v1 `EndpointSlice`.
    Slice,
    /// core/v1 Node (our own).
    Node,
    /// networking.k8s.io/v1 `ServiceCIDR`.
    ServiceCidr,
    /// core/v1 Pod (of our own node, those whose sockets are left out).
    Pod,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Pod => "Pod",
        })
    }
}

/// One event of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A Service exists with this content.
    ServiceApplied(ObjectName, Arc<Service>),
    /// A Service is gone.
    ServiceGone(ObjectName),
    /// An `EndpointSlice` exists with this content.
    SliceApplied(ObjectName, Arc<Slice>),
    /// An `EndpointSlice` is gone.
    SliceGone(ObjectName),
    /// A node exists with this content. The proxy's sources tell of our own alone.
    NodeApplied(Node),
    /// The object of the node with this name is gone.
    NodeGone(Arc<str>),
    /// A `ServiceCIDR` exists with these ranges.
    ServiceCidrApplied(Arc<str>, Vec<IpNetwork>),
    /// A `ServiceCIDR` is gone.
    ServiceCidrGone(Arc<str>),
    /// A Pod of our own node exists whose sockets are left out, with these addresses.
    PodApplied(ObjectName, Vec<IpAddr>),
    /// It is gone, or its sockets are served again.
    PodGone(ObjectName),
    /// Every object of this kind that exists has been applied at least once.
    Complete(Kind),
}

/// What has to be resolved again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Names of the Services whose outcome may have changed; all of them when the node's zone has.
    pub services: BTreeSet<ObjectName>,
    /// Something of our own node changed: an address, its zone, its pods' ranges, or that it exists.
    pub node: bool,
    /// The union of the Services' ranges changed.
    pub service_cidrs: bool,
    /// The addresses of the pods that are left out changed.
    pub left_out: bool,
}

/// What is known of one Service; never nothing.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// The Service itself. Its slices may be known before it.
    service: Option<Arc<Service>>,
    /// Its slices, sorted by their names.
    slices: Vec<(Arc<str>, Arc<Slice>)>,
}

/// Everything that the cluster has said so far.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// By the Service's name.
    entries: BTreeMap<ObjectName, Entry>,
    /// The name of each slice's Service.
    service_of: BTreeMap<ObjectName, Arc<str>>,
    node: Node,
    node_exists: bool,
    service_cidrs: BTreeMap<Arc<str>, Vec<IpNetwork>>,
    /// The pods that are left out.
    pods: BTreeMap<ObjectName, Vec<IpAddr>>,
    awaits_pods: bool,
    complete: BTreeSet<Kind>,
    dirty: Dirty,
    pending: Pending,
    size: Size,
}

/// How many changes made the model another one since the dirt was last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Of Services.
    pub services: usize,
    /// Of slices.
    pub slices: usize,
}

/// How much the model holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Services.
    pub services: usize,
    /// `EndpointSlices`, those of Services that are not there included.
    pub slices: usize,
    /// Endpoints of all slices; one that is in two counts twice.
    pub endpoints: usize,
}

impl Model {
    /// The same model, which is ready only when it has heard of pods, too, if this says so.
    pub fn with_pods(self, awaited: bool) -> Self {
        Self { awaits_pods: awaited, ..self }
    }

    /// Takes one change in. It never fails and touches nothing but memory.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::ServiceApplied(name, service) => self.apply_service(name, service),
            Change::ServiceGone(name) => self.remove_service(name),
            Change::SliceApplied(name, slice) => self.apply_slice(name, slice),
            Change::SliceGone(name) => self.remove_slice(&name),
            Change::NodeApplied(node) => self.apply_node(node),
            // Its addresses and zone are facts of the machine, which outlive the object: the last ones stay.
            Change::NodeGone(_) => self.dirty.node |= mem::take(&mut self.node_exists),
            Change::ServiceCidrApplied(name, ranges) => self.change_ranges(|all| all.insert(name, ranges)),
            Change::ServiceCidrGone(name) => self.change_ranges(|all| all.remove(&name)),
            Change::PodApplied(name, addresses) => self.change_pods(|all| all.insert(name, addresses)),
            Change::PodGone(name) => self.change_pods(|all| all.remove(&name)),
            Change::Complete(kind) => {
                self.complete.insert(kind);
            }
        }
    }

    fn apply_service(&mut self, name: ObjectName, service: Arc<Service>) {
        let entry = self.entries.entry(name.clone()).or_default();
        if entry.service.as_ref() != Some(&service) {
            self.size.services += usize::from(entry.service.is_none());
            entry.service = Some(service);
            self.pending.services += 1;
            self.dirty.services.insert(name);
        }
    }

    fn remove_service(&mut self, name: ObjectName) {
        let Some(entry) = self.entries.get_mut(&name) else { return };
        if entry.service.take().is_some() {
            self.size.services -= 1;
            self.pending.services += 1;
            self.drop_if_empty(&name);
            self.dirty.services.insert(name);
        }
    }

    fn apply_slice(&mut self, name: ObjectName, mut slice: Arc<Slice>) {
        // The label may have changed: the slice leaves its old Service.
        if self.service_of.get(&name).is_some_and(|old| *old != slice.service) {
            self.remove_slice(&name);
        }
        let service = ObjectName { namespace: name.namespace.clone(), name: slice.service.clone() };
        // The entry's own copy of the name, so that it is held once.
        let service = self.entries.get_key_value(&service).map_or(service, |(known, _)| known.clone());
        // A source that keeps the object keeps it as it is.
        if let Some(slice) = Arc::get_mut(&mut slice) {
            slice.service = service.name.clone();
            slice.trigger = Triggered::default();
        }
        let new = slice.endpoints.len();
        let slices = &mut self.entries.entry(service.clone()).or_default().slices;
        match slices.binary_search_by(|(other, _)| other.cmp(&name.name)) {
            Ok(at) if slices[at].1 == slice => return,
            Ok(at) => {
                self.size.endpoints -= slices[at].1.endpoints.len();
                slices[at].1 = slice;
            }
            Err(at) => {
                // Most Services have one slice: no room is kept for more.
                slices.reserve_exact(1);
                self.size.slices += 1;
                self.service_of.insert(name.clone(), service.name.clone());
                slices.insert(at, (name.name, slice));
            }
        }
        self.size.endpoints += new;
        self.pending.slices += 1;
        self.dirty.services.insert(service);
    }

    fn remove_slice(&mut self, name: &ObjectName) {
        let Some(service) = self.service_of.remove(name) else { return };
        self.size.slices -= 1;
        let service = ObjectName { namespace: name.namespace.clone(), name: service };
        if let Some(entry) = self.entries.get_mut(&service) {
            let gone = entry.slices.extract_if(.., |(other, _)| *other == name.name);
            self.size.endpoints -= gone.map(|(_, slice)| slice.endpoints.len()).sum::<usize>();
        }
        self.pending.slices += 1;
        self.drop_if_empty(&service);
        self.dirty.services.insert(service);
    }

    fn drop_if_empty(&mut self, name: &ObjectName) {
        if self.entries.get(name).is_some_and(|entry| entry.service.is_none() && entry.slices.is_empty()) {
            self.entries.remove(name);
        }
    }

    fn apply_node(&mut self, node: Node) {
        self.dirty.node |= !mem::replace(&mut self.node_exists, true) || self.node != node;
        if self.node.zone != node.zone {
            let services = self.entries.iter().filter(|(_, entry)| entry.service.is_some());
            self.dirty.services.extend(services.map(|(name, _)| name.clone()));
        }
        self.node = node;
    }

    fn change_ranges<T>(&mut self, change: impl FnOnce(&mut BTreeMap<Arc<str>, Vec<IpNetwork>>) -> T) {
        let before = self.service_cidrs();
        change(&mut self.service_cidrs);
        self.dirty.service_cidrs |= self.service_cidrs() != before;
    }

    fn change_pods<T>(&mut self, change: impl FnOnce(&mut BTreeMap<ObjectName, Vec<IpAddr>>) -> T) {
        let before = self.left_out();
        change(&mut self.pods);
        self.dirty.left_out |= self.left_out() != before;
    }

    /// True once every kind that decides routing is complete: before that nothing may be written, since a half-filled
    /// model would tear down a running node. Our own Node is not among them, since it may be registered late, nor are
    /// the Services' ranges, which servers before Kubernetes 1.33 do not have.
    pub fn ready(&self) -> bool {
        self.awaited().next().is_none()
    }

    /// The kinds still awaited.
    pub fn awaited(&self) -> impl Iterator<Item = Kind> + '_ {
        let kinds = [Kind::Service, Kind::Slice].into_iter().chain(self.awaits_pods.then_some(Kind::Pod));
        kinds.filter(|kind| !self.complete.contains(kind))
    }

    /// What may have changed since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        self.pending = Pending::default();
        mem::take(&mut self.dirty)
    }

    /// Takes no more memory than what it holds needs.
    pub fn pack(&mut self) {
        memory::pack(&mut self.entries);
        memory::pack(&mut self.service_of);
    }

    /// How many changes there were since then.
    pub fn pending(&self) -> Pending {
        self.pending
    }

    /// How much there is.
    pub fn size(&self) -> Size {
        self.size
    }

    /// All Services, by name.
    pub fn services(&self) -> impl Iterator<Item = (&ObjectName, &Service)> {
        self.entries.iter().filter_map(|(name, entry)| Some((name, entry.service.as_deref()?)))
    }

    /// One Service.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.entries.get(name)?.service.as_deref()
    }

    /// The slices of one Service, by slice name.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &Slice> {
        self.entries.get(service).into_iter().flat_map(|entry| &entry.slices).map(|(_, slice)| &**slice)
    }

    /// Our own node as it was last seen, empty until then.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether our own node has an object now.
    pub fn node_exists(&self) -> bool {
        self.node_exists
    }

    /// The ranges that cluster IPs come from. A range that several objects name is there until the last of them is gone.
    pub fn service_cidrs(&self) -> BTreeSet<IpNetwork> {
        self.service_cidrs.values().flatten().copied().collect()
    }

    /// The addresses of our node's pods whose sockets are left out.
    pub fn left_out(&self) -> BTreeSet<IpAddr> {
        self.pods.values().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests;
