//! Kubernetes' objects, as far as we read them.
//!
//! These are not the full types: serde passes over every field that has no place here, so that a large object costs
//! little while it is read. Nothing is checked beyond its JSON shape, numbers are wide, and what Kubernetes lets be
//! absent or null is empty: the checks are [`super`]'s, which can name the object and the field.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// What tells objects apart before the kind is known.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Head {
    /// Group and version, such as `v1`.
    #[serde(deserialize_with = "or_default")]
    pub api_version: String,
    /// The kind, such as `Service`.
    #[serde(deserialize_with = "or_default")]
    pub kind: String,
    /// Name and labels.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
}

/// The metadata that every object has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// The object's name.
    pub name: Option<String>,
    /// Its namespace; none for a Node.
    pub namespace: Option<String>,
    /// Its version in the API server's store.
    pub resource_version: Option<String>,
    /// When it was made, as RFC 3339 has it.
    pub creation_timestamp: Option<String>,
    /// It is being deleted. It counts by being there, whatever its value.
    pub deletion_timestamp: Option<IgnoredAny>,
    /// The labels that decide whether and how we read it.
    #[serde(deserialize_with = "or_default")]
    pub labels: Labels,
    /// The annotations that we read.
    #[serde(deserialize_with = "or_default")]
    pub annotations: Annotations,
}

/// The annotations that we know.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// When what a slice says began to be wanted, as RFC 3339 has it.
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub last_change_trigger_time: Option<String>,
}

/// The labels that we know.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labels {
    /// Which Service a slice belongs to.
    #[serde(rename = "kubernetes.io/service-name")]
    pub service_name: Option<String>,
    /// The zone of a node.
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub zone: Option<String>,
    /// Another proxy serves this Service. It counts by being there, whatever its value.
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub service_proxy_name: Option<IgnoredAny>,
    /// This slice is of a headless Service. It counts by being there, whatever its value.
    #[serde(rename = "service.kubernetes.io/headless")]
    pub headless: Option<IgnoredAny>,
    /// Whether the sockets of this pod are served.
    #[serde(rename = "heddle.dev/sockets")]
    pub sockets: Option<String>,
}

/// core/v1 Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name and labels.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What it asks for.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceSpec,
    /// What others did for it.
    #[serde(deserialize_with = "or_default")]
    pub status: ServiceStatus,
}

/// core/v1 `ServiceSpec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub service_type: Option<String>,
    /// The first cluster IP, or `None` for a headless Service.
    #[serde(rename = "clusterIP", deserialize_with = "or_default")]
    pub cluster_ip: String,
    /// All cluster IPs, the first of them equal to `clusterIP`.
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<String>,
    /// The family of each entry of `clusterIPs`.
    #[serde(deserialize_with = "or_default")]
    pub ip_families: Vec<String>,
    /// Its ports.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<Port>,
    /// Addresses of elsewhere that its clients are led to this cluster by.
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    pub external_ips: Vec<String>,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: Option<String>,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: Option<String>,
    /// Prefixes that may use its load balancer.
    #[serde(deserialize_with = "or_default")]
    pub load_balancer_source_ranges: Vec<String>,
    /// `ClientIP` or `None`.
    pub session_affinity: Option<String>,
    /// How session affinity works.
    #[serde(deserialize_with = "or_default")]
    pub session_affinity_config: SessionAffinityConfig,
    /// Where load balancers ask for local endpoints.
    pub health_check_node_port: Option<i64>,
}

/// core/v1 `SessionAffinityConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    /// Affinity by the client's address.
    #[serde(rename = "clientIP", deserialize_with = "or_default")]
    pub client_ip: ClientIpConfig,
}

/// core/v1 `ClientIPConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// For how long a client keeps its endpoint.
    pub timeout_seconds: Option<i64>,
}

/// core/v1 `ServiceStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// What its load balancer is.
    #[serde(deserialize_with = "or_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// core/v1 `LoadBalancerStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Where it can be reached.
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<Ingress>,
}

/// core/v1 `LoadBalancerIngress`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ingress {
    /// An address; empty when the load balancer has a name.
    #[serde(deserialize_with = "or_default")]
    pub ip: String,
    /// `VIP` when its packets arrive at the nodes with this address, `Proxy` when they do not.
    pub ip_mode: Option<String>,
}

/// core/v1 `ServicePort` or discovery/v1 `EndpointPort`, which agree in what we read of both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Port {
    /// The port's name.
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// The port's number.
    pub port: Option<i64>,
    /// The port on every node; a slice has none.
    pub node_port: Option<i64>,
}

/// discovery/v1 `EndpointSlice`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Name and labels.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    #[serde(deserialize_with = "or_default")]
    pub address_type: String,
    /// The endpoints.
    #[serde(deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
    /// The ports of every endpoint.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<Port>,
}

/// discovery/v1 `Endpoint`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    /// Its addresses, of which only the first counts.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
    /// Its state.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Conditions,
    /// The node that it runs on.
    pub node_name: Option<String>,
    /// For whom it is meant.
    #[serde(deserialize_with = "or_default")]
    pub hints: EndpointHints,
}

/// discovery/v1 `EndpointHints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointHints {
    /// Nodes.
    #[serde(deserialize_with = "or_default")]
    pub for_nodes: Vec<Hint>,
    /// Zones.
    #[serde(deserialize_with = "or_default")]
    pub for_zones: Vec<Hint>,
}

/// discovery/v1 `ForNode` or `ForZone`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Hint {
    /// Name of the node or zone.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

/// discovery/v1 `EndpointConditions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Ready for new connections.
    pub ready: Option<bool>,
    /// It answers.
    pub serving: Option<bool>,
    /// It is about to end.
    pub terminating: Option<bool>,
}

/// core/v1 Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name and labels.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What the cluster gave it.
    #[serde(deserialize_with = "or_default")]
    pub spec: NodeSpec,
    /// What its kubelet says of it.
    #[serde(deserialize_with = "or_default")]
    pub status: NodeStatus,
}

/// core/v1 `NodeSpec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// The first of its pods' ranges.
    #[serde(rename = "podCIDR", deserialize_with = "or_default")]
    pub pod_cidr: String,
    /// Its pods' ranges, the first of them equal to `podCIDR`.
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    pub pod_cidrs: Vec<String>,
    /// What keeps pods away from it.
    #[serde(deserialize_with = "or_default")]
    pub taints: Vec<Taint>,
}

/// core/v1 `Taint`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub key: String,
}

/// core/v1 `NodeStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its addresses and names.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<NodeAddress>,
    /// What is well with it and what is not.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<NodeCondition>,
}

/// core/v1 `NodeCondition`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeCondition {
    /// `Ready`, `NetworkUnavailable`, …
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub condition_type: String,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "or_default")]
    pub status: String,
    /// Why, in one word.
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
}

/// core/v1 `NodeAddress`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, …
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub address_type: String,
    /// The address or name.
    #[serde(deserialize_with = "or_default")]
    pub address: String,
}

/// networking.k8s.io/v1 `ServiceCIDR`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What it adds.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceCidrSpec,
}

/// networking.k8s.io/v1 `ServiceCIDRSpec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    /// Ranges of cluster IPs.
    #[serde(deserialize_with = "or_default")]
    pub cidrs: Vec<String>,
}

/// core/v1 Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name and labels.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// Where it runs.
    #[serde(deserialize_with = "or_default")]
    pub spec: PodSpec,
    /// What its kubelet says of it.
    #[serde(deserialize_with = "or_default")]
    pub status: PodStatus,
}

/// core/v1 `PodSpec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// The node that it runs on; empty until it has one.
    #[serde(deserialize_with = "or_default")]
    pub node_name: String,
    /// It has the node's network namespace.
    #[serde(deserialize_with = "or_default")]
    pub host_network: bool,
}

/// core/v1 `PodStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, …
    #[serde(deserialize_with = "or_default")]
    pub phase: String,
    /// Its addresses.
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pub pod_ips: Vec<PodIp>,
}

/// core/v1 `PodIP`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    #[serde(deserialize_with = "or_default")]
    pub ip: String,
}

impl AsRef<Metadata> for Pod {
    fn as_ref(&self) -> &Metadata {
        &self.metadata
    }
}

impl AsRef<Metadata> for Service {
    fn as_ref(&self) -> &Metadata {
        &self.metadata
    }
}

impl AsRef<Metadata> for EndpointSlice {
    fn as_ref(&self) -> &Metadata {
        &self.metadata
    }
}

impl AsRef<Metadata> for ServiceCidr {
    fn as_ref(&self) -> &Metadata {
        &self.metadata
    }
}

impl AsRef<Metadata> for Node {
    fn as_ref(&self) -> &Metadata {
        &self.metadata
    }
}

/// Reads null as empty: Go writes an empty list as null, so the API server does too (`"endpoints": null`).
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(reader: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}
