//! Kubernetes' types into ours: the only place that knows Kubernetes' fields and its rules for them.
//!
//! Not where the meaning for routing is decided (that is `frontends`), and not a validator: what does not decide where
//! a packet goes is not looked at. Pure; an object either converts, perhaps without some fields, or is not for us, or is
//! refused with its name and the field at fault. Invariant: no input makes it panic, and equal objects convert to equal
//! values.

mod address;
mod fault;
mod names;
mod node;
pub mod objects;
mod pod;
mod service;
mod slice;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnetwork::IpNetwork;

pub(crate) use self::address::{parse as parse_address, parse_prefix};
pub use self::fault::{Fault, FieldError};
pub use self::names::Names;
pub use self::node::{node, service_cidr};
use self::objects::{Head, Metadata, Port};
pub use self::pod::pod;
pub(crate) use self::pod::{LABEL, OFF};
pub use self::service::service;
pub use self::slice::slice;
use crate::model::{Change, Kind, Node, ObjectName, Protocol, Service, Slice};

/// Which object: kind, namespace and name. The namespace of a Node or a `ServiceCIDR` is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match is_namespaced(self.kind) {
            false => write!(f, "{} {}", self.kind, self.name.name),
            true => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

fn is_namespaced(kind: Kind) -> bool {
    matches!(kind, Kind::Service | Kind::Slice | Kind::Pod)
}

/// One object in our words. What there are many of is shared by those who keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Arc<Service>),
    /// An `EndpointSlice`.
    Slice(Arc<Slice>),
    /// A Node. There is one, and all others would be as large as it.
    Node(Box<Node>),
    /// The ranges of a `ServiceCIDR`.
    ServiceCidr(Vec<IpNetwork>),
    /// The addresses of a Pod whose sockets are left out.
    Pod(Vec<IpAddr>),
}

/// A folder's roster holds one for each object.
const _: () = assert!(size_of::<Object>() <= 32);

impl Object {
    /// The change that says that this object exists.
    pub fn applied(self, key: Key) -> Change {
        match self {
            Self::Service(service) => Change::ServiceApplied(key.name, service),
            Self::Slice(slice) => Change::SliceApplied(key.name, slice),
            Self::Node(node) => Change::NodeApplied(*node),
            Self::ServiceCidr(ranges) => Change::ServiceCidrApplied(key.name.name, ranges),
            Self::Pod(addresses) => Change::PodApplied(key.name, addresses),
        }
    }
}

impl Key {
    /// The change that says that this object is gone.
    pub fn gone(self) -> Change {
        match self.kind {
            Kind::Service => Change::ServiceGone(self.name),
            Kind::Slice => Change::SliceGone(self.name),
            Kind::Node => Change::NodeGone(self.name.name),
            Kind::ServiceCidr => Change::ServiceCidrGone(self.name.name),
            Kind::Pod => Change::PodGone(self.name),
        }
    }
}

/// What an object is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts, with this content, for which these fields were passed over.
    Ours(Object, Vec<FieldError>),
    /// It is as if it were not there, for this reason.
    Ignored(&'static str),
    /// It is as if it were not there, because of this field, which nobody can mean.
    Stray(FieldError),
}

/// The fields at fault that an object can do without.
#[derive(Debug, Default)]
struct PassedOver(Vec<FieldError>);

impl PassedOver {
    fn add(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// What was read, or none when it is passed over.
    fn take<T>(&mut self, read: Result<T, FieldError>) -> Option<T> {
        read.map_err(|error| self.add(error)).ok()
    }

    fn verdict(self, object: Object) -> Verdict {
        Verdict::Ours(object, self.0)
    }
}

/// The kind of an object, or none for kinds that do not concern us.
///
/// # Errors
/// When the kind is ours in a version of the API that we do not read.
pub fn kind(head: &Head) -> Result<Option<Kind>, FieldError> {
    let (kind, expected) = match head.kind.as_str() {
        "Service" => (Kind::Service, "v1"),
        "Node" => (Kind::Node, "v1"),
        "Pod" => (Kind::Pod, "v1"),
        "EndpointSlice" => (Kind::Slice, "discovery.k8s.io/v1"),
        "ServiceCIDR" => (Kind::ServiceCidr, "networking.k8s.io/v1"),
        _ => return Ok(None),
    };
    if head.api_version == expected {
        Ok(Some(kind))
    } else if matches!(kind, Kind::Service | Kind::Pod) && head.api_version.contains('/') {
        // Others have a kind of this name too, such as serving.knative.dev/v1.
        Ok(None)
    } else {
        Err(Fault::value(&head.api_version, expected).at("apiVersion"))
    }
}

/// The key of an object. Without a namespace it is in `default`, as for kubectl.
///
/// # Errors
/// When it has no name.
pub fn key(kind: Kind, metadata: &Metadata, names: &mut Names) -> Result<Key, FieldError> {
    let name = metadata.name.as_deref().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault::Missing.at("metadata.name"))?;
    let namespace = match metadata.namespace.as_deref() {
        _ if !is_namespaced(kind) => "",
        None | Some("") => "default",
        Some(namespace) => namespace,
    };
    Ok(Key { kind, name: ObjectName { namespace: names.share(namespace), name: name.into() } })
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
        Some(other) => Err(Fault::value(other, "a protocol (TCP, UDP or SCTP)")),
    }
}

fn port(value: i64) -> Result<u16, Fault> {
    number(value, 1..=u16::MAX, "a port (1-65535)")
}

fn number<T: TryFrom<i64> + PartialOrd>(
    value: i64,
    allowed: RangeInclusive<T>,
    expected: &'static str,
) -> Result<T, Fault> {
    let number = T::try_from(value).ok().filter(|number| allowed.contains(number));
    number.ok_or(Fault::Number { value, expected })
}

fn ip(text: &str) -> Result<IpAddr, Fault> {
    parse_address(text).ok_or_else(|| Fault::value(text, "an IP address"))
}

fn prefix(text: &str) -> Result<IpNetwork, Fault> {
    parse_prefix(text).ok_or_else(|| Fault::value(text, "an IP prefix such as 10.0.0.0/8"))
}

fn is_of(address: IpAddr, family: &str) -> bool {
    family == if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests;
