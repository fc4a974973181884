//! The objects of the cluster, as far as they decide where a packet goes.
//!
//! Not Kubernetes' types: every field here is canonical, so that two spellings of one thing are equal. Memory counts:
//! there are hundreds of thousands of endpoints, so names are shared and what most of them lack is one empty pointer.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

pub use heddle_netlink::Protocol;
use ipnetwork::IpNetwork;
use jiff::Timestamp;

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

/// Which endpoints a connection may go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those of the node that the connection came to.
    Local,
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
    /// The port on the nodes' own addresses, 1–65535, whatever the Service's type is.
    pub node_port: Option<u16>,
}

/// A Service, as far as its routing goes. One that is not proxied (headless, `ExternalName`) is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its cluster IPs, at most one of each family. It is served in the families of these alone.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`, in their order, each once.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses that are to be captured on the node (`ipMode` VIP), in their order, each once.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Which endpoints its cluster IPs may use.
    pub internal_policy: Policy,
    /// Which endpoints its node ports, load balancer IPs and external IPs may use; `Cluster` where it does not count.
    pub external_policy: Policy,
    /// Who may connect to the load balancer IPs, sorted. No range of a family: no filter in that family.
    pub source_ranges: Vec<IpNetwork>,
    /// For how many seconds a client keeps its endpoint, with session affinity.
    pub affinity: Option<NonZeroU32>,
    /// The port on which load balancers ask whether this node has local endpoints.
    pub health_check_node_port: Option<u16>,
    /// When it was made; none in a manifest that does not say.
    pub created: Option<Timestamp>,
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

/// For whom an endpoint is meant: names of nodes and zones. At least one of the two is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Names of nodes.
    pub nodes: Vec<Arc<str>>,
    /// Names of zones.
    pub zones: Vec<Arc<str>>,
}

/// One endpoint of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address: the first of the slice's `addresses`.
    pub address: IpAddr,
    /// Ready for new connections (`conditions.ready`, nil means true).
    pub ready: bool,
    /// It answers, even if it is about to end (`conditions.serving`, nil means true).
    pub serving: bool,
    /// It is about to end (`conditions.terminating`, nil means false).
    pub terminating: bool,
    /// Name of the node that it runs on, when the slice says so.
    pub node: Option<Arc<str>>,
    /// For whom it is meant, when the slice says so.
    pub hints: Option<Box<Hints>>,
}

/// There are more of these than of anything else.
const _: () = assert!(size_of::<SliceEndpoint>() <= 48);

/// When the cluster began to want a slice as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// When (annotation `endpoints.kubernetes.io/last-change-trigger-time`).
    pub at: Timestamp,
    /// Whether the slice's addresses are of IPv6.
    pub is_ipv6: bool,
}

/// A slice's [`Trigger`], if it has one. All are equal: it tells of a change, and is no part of what a slice says.
#[derive(Clone, Debug, Default)]
pub struct Triggered(pub Option<Box<Trigger>>);

impl PartialEq for Triggered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Triggered {}

/// An `EndpointSlice`: a part of a Service's endpoints, all of one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Name of the Service, in the slice's namespace (label `kubernetes.io/service-name`).
    pub service: Arc<str>,
    /// The ports that every endpoint of the slice serves.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Why it changed.
    pub trigger: Triggered,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses: internal ones first, then external ones, in the order of `status.addresses`.
    pub addresses: Vec<IpAddr>,
    /// The zone that it is in (label `topology.kubernetes.io/zone`); never empty.
    pub zone: Option<Arc<str>>,
    /// The ranges that its pods get their addresses from.
    pub pod_cidrs: Vec<IpNetwork>,
    /// It is being deleted, or the cluster autoscaler is about to do so.
    pub is_leaving: bool,
    /// Its condition `NetworkUnavailable`.
    pub network_unavailable: Condition,
}

/// What a condition of a Node says; empty when it has none such.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: Box<str>,
    /// Why, in one word.
    pub reason: Box<str>,
}
