//! Kubernetes' types into ours: the only place that knows Kubernetes' fields and its rules for them.
//!
//! Not where the meaning for routing is decided (that is `frontends`), and not a validator: what does not decide where
//! a packet goes is not looked at. Pure; an object either converts, or is not for us, or is refused with its name and
//! the field at fault. Invariant: no input makes it panic, and equal objects convert to equal values.

mod address;
mod fault;
mod names;
pub mod objects;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use self::fault::{Fault, FieldError};
pub use self::names::Names;
use self::objects::{EndpointSlice, Head, Metadata, Port, ServiceSpec};
use crate::model::{
    Change, Kind, Node, ObjectName, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort,
};

/// Which object: kind, namespace and name. A Node's namespace is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Node => write!(f, "{} {}", self.kind, self.name.name),
            _ => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// One object in our words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// An `EndpointSlice`.
    Slice(Slice),
    /// A Node.
    Node(Node),
}

impl Object {
    /// The change that says that this object exists.
    pub fn applied(self, key: Key) -> Change {
        match self {
            Self::Service(service) => Change::ServiceApplied(key.name, service),
            Self::Slice(slice) => Change::SliceApplied(key.name, slice),
            Self::Node(node) => Change::NodeApplied(node),
        }
    }
}

impl Key {
    /// The change that says that this object is gone. None for a Node: a node that runs us has not lost its addresses
    /// because its object is missing.
    pub fn gone(self) -> Option<Change> {
        match self.kind {
            Kind::Service => Some(Change::ServiceGone(self.name)),
            Kind::Slice => Some(Change::SliceGone(self.name)),
            Kind::Node => None,
        }
    }
}

/// What an object is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts, with this content.
    Ours(Object),
    /// It is as if it were not there, for this reason.
    Ignored(&'static str),
}

/// The kind of an object, or none for kinds that do not concern us.
///
/// # Errors
/// When the kind is ours in a version of the API that we do not read.
pub fn kind(head: &Head) -> Result<Option<Kind>, FieldError> {
    let (kind, expected) = match head.kind.as_str() {
        "Service" => (Kind::Service, "v1"),
        "Node" => (Kind::Node, "v1"),
        "EndpointSlice" => (Kind::Slice, "discovery.k8s.io/v1"),
        _ => return Ok(None),
    };
    if head.api_version == expected {
        Ok(Some(kind))
    } else if kind == Kind::Service && head.api_version.contains('/') {
        // Others have a kind of this name too, such as serving.knative.dev/v1.
        Ok(None)
    } else {
        Err(Fault::Version { value: head.api_version.clone(), expected }.at("apiVersion"))
    }
}

/// The key of an object. Without a namespace it is in `default`, as for kubectl.
///
/// # Errors
/// When it has no name.
pub fn key(kind: Kind, metadata: &Metadata, names: &mut Names) -> Result<Key, FieldError> {
    let name = metadata.name.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault::Missing.at("metadata.name"))?;
    let namespace = match (kind, metadata.namespace.as_deref()) {
        (Kind::Node, _) => "",
        (_, None | Some("")) => "default",
        (_, Some(namespace)) => namespace,
    };
    Ok(Key { kind, name: ObjectName { namespace: names.share(namespace), name: name.into() } })
}

/// Converts a Service. Headless and `ExternalName` Services are ours, without addresses.
///
/// # Errors
/// The first field that cannot be used.
pub fn service(object: &objects::Service, names: &mut Names) -> Result<Verdict, FieldError> {
    if object.metadata.labels.service_proxy_name.is_some() {
        return Ok(Verdict::Ignored(
            "another proxy serves it (label service.kubernetes.io/service-proxy-name)",
        ));
    }
    let spec = &object.spec;
    let cluster_ips = if is_proxied(spec) { cluster_ips(spec)? } else { Vec::new() };
    let ports = spec.ports.iter().enumerate().map(|(index, port)| service_port(index, port, names));
    Ok(Verdict::Ours(Object::Service(Service { cluster_ips, ports: ports.collect::<Result<_, _>>()? })))
}

/// Neither headless nor `ExternalName`, which may carry an address that means nothing.
fn is_proxied(spec: &ServiceSpec) -> bool {
    let first = if spec.cluster_ip.is_empty() { spec.cluster_ips.first() } else { Some(&spec.cluster_ip) };
    spec.service_type.as_deref() != Some("ExternalName")
        && first.is_some_and(|ip| !ip.is_empty() && ip != "None")
}

/// `clusterIPs[i]` is of `ipFamilies[i]`. The API server fills in both; objects of before dual stack and manifests
/// written by hand may have `clusterIP` alone, or no families.
fn cluster_ips(spec: &ServiceSpec) -> Result<Vec<IpAddr>, FieldError> {
    if spec.cluster_ips.is_empty() {
        return Ok(vec![ip(&spec.cluster_ip).map_err(|fault| fault.at("spec.clusterIP"))?]);
    }
    let count = if spec.ip_families.is_empty() { spec.cluster_ips.len() } else { spec.ip_families.len() };
    let mut found: Vec<IpAddr> = Vec::new();
    for (index, text) in spec.cluster_ips.iter().enumerate().take(count) {
        let checked = ip(text).and_then(|address| match spec.ip_families.get(index) {
            Some(family) if !is_of(address, family) => Err(Fault::Family { address, family: family.clone() }),
            _ if found.iter().any(|other| other.is_ipv4() == address.is_ipv4()) => {
                Err(Fault::SecondOfFamily { address })
            }
            _ => Ok(address),
        });
        found.push(checked.map_err(|fault| fault.at(format!("spec.clusterIPs[{index}]")))?);
    }
    Ok(found)
}

fn service_port(index: usize, object: &Port, names: &mut Names) -> Result<ServicePort, FieldError> {
    let port = object.port.ok_or(Fault::Missing).and_then(port);
    Ok(ServicePort {
        name: port_name(object, names),
        protocol: protocol(object).map_err(|fault| fault.at(format!("spec.ports[{index}].protocol")))?,
        port: port.map_err(|fault| fault.at(format!("spec.ports[{index}].port")))?,
    })
}

/// Converts an `EndpointSlice`.
///
/// # Errors
/// The first field that cannot be used.
pub fn slice(object: &EndpointSlice, names: &mut Names) -> Result<Verdict, FieldError> {
    let labels = &object.metadata.labels;
    if labels.headless.is_some() {
        return Ok(Verdict::Ignored("it is of a headless Service (label service.kubernetes.io/headless)"));
    }
    let Some(service) = labels.service_name.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(Verdict::Ignored("it is of no Service (no label kubernetes.io/service-name)"));
    };
    match object.address_type.as_str() {
        "IPv4" | "IPv6" => {}
        "" => return Err(Fault::Missing.at("addressType")),
        _ => return Ok(Verdict::Ignored("its addresses are not IP addresses (addressType)")),
    }
    let ports = object
        .ports
        .iter()
        .enumerate()
        .filter_map(|(index, port)| slice_port(index, port, names).transpose());
    let ports = ports.collect::<Result<_, _>>()?;
    let endpoints = (0..object.endpoints.len()).map(|index| endpoint(object, index, names));
    let endpoints = endpoints.collect::<Result<_, _>>()?;
    Ok(Verdict::Ours(Object::Slice(Slice { service: service.into(), ports, endpoints })))
}

/// A port without a number (or 0) is passed over: it stands for all ports, which only a headless Service can use.
fn slice_port(index: usize, object: &Port, names: &mut Names) -> Result<Option<SlicePort>, FieldError> {
    let Some(number) = object.port.filter(|&number| number != 0) else { return Ok(None) };
    Ok(Some(SlicePort {
        name: port_name(object, names),
        protocol: protocol(object).map_err(|fault| fault.at(format!("ports[{index}].protocol")))?,
        port: port(number).map_err(|fault| fault.at(format!("ports[{index}].port")))?,
    }))
}

fn endpoint(slice: &EndpointSlice, index: usize, names: &mut Names) -> Result<SliceEndpoint, FieldError> {
    let object = &slice.endpoints[index];
    let address = object.addresses.first().ok_or(Fault::Missing).and_then(|text| ip(text));
    let address = address.and_then(|address| match is_of(address, &slice.address_type) {
        true => Ok(address),
        false => Err(Fault::Family { address, family: slice.address_type.clone() }),
    });
    Ok(SliceEndpoint {
        address: address.map_err(|fault| fault.at(format!("endpoints[{index}].addresses[0]")))?,
        ready: object.conditions.ready.unwrap_or(true),
        node: object.node_name.as_deref().filter(|name| !name.is_empty()).map(|name| names.share(name)),
    })
}

/// Converts a Node.
///
/// # Errors
/// The first address that cannot be used.
pub fn node(object: &objects::Node) -> Result<Verdict, FieldError> {
    let mut addresses = Vec::new();
    for wanted in ["InternalIP", "ExternalIP"] {
        for (index, entry) in object.status.addresses.iter().enumerate() {
            if entry.address_type == wanted {
                let address = ip(&entry.address);
                addresses
                    .push(address.map_err(|fault| fault.at(format!("status.addresses[{index}].address")))?);
            }
        }
    }
    Ok(Verdict::Ours(Object::Node(Node { addresses })))
}

/// An absent name is the empty one, as the API server's defaulting has it.
fn port_name(object: &Port, names: &mut Names) -> Arc<str> {
    names.share(object.name.as_deref().unwrap_or_default())
}

fn protocol(object: &Port) -> Result<Protocol, Fault> {
    match object.protocol.as_deref() {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(Fault::Protocol { value: other.to_owned() }),
    }
}

fn port(value: i64) -> Result<u16, Fault> {
    u16::try_from(value).ok().filter(|&port| port != 0).ok_or(Fault::Port { value })
}

fn ip(text: &str) -> Result<IpAddr, Fault> {
    address::parse(text).ok_or_else(|| Fault::Address { value: text.to_owned() })
}

fn is_of(address: IpAddr, family: &str) -> bool {
    family == if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests;
