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
    /// The labels that decide whether and how we read it.
    #[serde(deserialize_with = "or_default")]
    pub labels: Labels,
}

/// The labels that we know. The last two count by being there, whatever their value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labels {
    /// Which Service a slice belongs to.
    #[serde(rename = "kubernetes.io/service-name")]
    pub service_name: Option<String>,
    /// Another proxy serves this Service.
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub service_proxy_name: Option<IgnoredAny>,
    /// This slice is of a headless Service.
    #[serde(rename = "service.kubernetes.io/headless")]
    pub headless: Option<IgnoredAny>,
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
}

/// core/v1 `ServicePort` or discovery/v1 `EndpointPort`, which agree in what we read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The port's name.
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// The port's number.
    pub port: Option<i64>,
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
}

/// discovery/v1 `EndpointConditions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Ready for new connections.
    pub ready: Option<bool>,
}

/// core/v1 Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name and labels.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What its kubelet says of it.
    #[serde(deserialize_with = "or_default")]
    pub status: NodeStatus,
}

/// core/v1 `NodeStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its addresses and names.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<NodeAddress>,
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

impl AsRef<Metadata> for Node {
    fn as_ref(&self) -> &Metadata {
        &self.metadata
    }
}

/// Reads null as empty: Go writes an empty list as null, so the API server does too (`"endpoints": null`).
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(reader: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}
