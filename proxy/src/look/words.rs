//! Who and where, as people write it, into a packet.
//!
//! A source is an address or a role: `pod` (of this node), `node`, `outside`. A destination is an address, `node` or a
//! Service's `namespace/name`, then `:PORT` and perhaps `/PROTOCOL`.

use super::Inside;
use crate::frontends::IpFamily;
use crate::model::{ObjectName, Protocol};
use crate::nft::Settings;
use crate::nft::settings::Locality;
use crate::packet::Packet;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The question which packet, in people's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// Who connects.
    pub source: String,
    /// To what.
    pub destination: String,
    /// The interface by which the packet comes in.
    pub in_interface: Option<String>,
}

/// Why words make no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// The destination has another form.
    #[error("{0:?} is not a destination: write ADDRESS:PORT/PROTOCOL, node:PORT or NAMESPACE/SERVICE:PORT")]
    Destination(String),
    /// The protocol is none that a Service can have.
    #[error("{0:?} is not a protocol: a Service has tcp, udp or sctp")]
    Protocol(String),
    /// The source has another form.
    #[error("{0:?} is not a source: write an address, pod, node or outside")]
    Source(String),
    /// Two families.
    #[error("{from} cannot connect to {to}: one is IPv4, the other IPv6")]
    Families {
        /// The source.
        from: IpAddr,
        /// The destination.
        to: IpAddr,
    },
    /// Nobody knows such an address.
    #[error("no address of {what} is known{family}: write an address instead")]
    Unknown {
        /// Whose.
        what: String,
        /// In which family.
        family: &'static str,
    },
}

/// What words refer to.
#[derive(Clone, Debug)]
pub struct Here<'a> {
    /// What the cluster says.
    pub inside: &'a Inside<'a>,
    /// How pods are known.
    pub settings: &'a Settings,
    /// The node's own addresses.
    pub addresses: &'a BTreeSet<IpAddr>,
}

/// The name of an interface that nobody has named; no interface can be called so.
const UNNAMED: &str = "?";
/// Hosts that are on no network (RFC 5737, RFC 3849).
const OUTSIDE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

impl Words {
    /// The packet that is meant.
    ///
    /// # Errors
    /// What in the words cannot be understood.
    pub fn packet(&self, here: &Here<'_>) -> Result<Packet, WordsError> {
        let (place, port, protocol) = split(&self.destination)?;
        let written = self.source.parse().ok();
        let destination = here.destination(place, written.map(IpFamily::of))?;
        let family = IpFamily::of(destination);
        let (source, in_interface) = match (&*self.source, written) {
            (_, Some(source)) => (source, (!here.is_own(source)).then(|| UNNAMED.into())),
            ("node", _) => (here.node(family)?, None),
            ("outside", _) => (outside(family), Some(UNNAMED.into())),
            ("pod", _) => here.pod(family)?,
            _ => return Err(WordsError::Source(self.source.clone())),
        };
        if IpFamily::of(source) != family {
            return Err(WordsError::Families { from: source, to: destination });
        }
        let in_interface = self.in_interface.as_deref().map(Arc::from).or(in_interface);
        Ok(Packet { source, in_interface, destination, port, protocol })
    }
}

/// Whether the packet comes in by an interface that nobody has named.
pub fn is_unnamed(packet: &Packet) -> bool {
    packet.in_interface.as_deref() == Some(UNNAMED)
}

/// Place, port and protocol of a destination.
fn split(text: &str) -> Result<(&str, u16, Protocol), WordsError> {
    let wrong = || WordsError::Destination(text.to_owned());
    let (place, rest) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (port, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(WordsError::Protocol(protocol.to_owned())),
    };
    let place = place.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(place);
    Ok((place, port.parse().map_err(|_| wrong())?, protocol))
}

fn outside(family: IpFamily) -> IpAddr {
    if family == IpFamily::V4 { OUTSIDE.0.into() } else { OUTSIDE.1.into() }
}

fn unknown(what: &str, family: Option<IpFamily>) -> WordsError {
    let family = match family {
        None => "",
        Some(IpFamily::V4) => " in IPv4",
        Some(IpFamily::V6) => " in IPv6",
    };
    WordsError::Unknown { what: what.to_owned(), family }
}

impl Here<'_> {
    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    fn destination(&self, place: &str, family: Option<IpFamily>) -> Result<IpAddr, WordsError> {
        if let Ok(address) = place.parse() {
            return Ok(address);
        }
        if place == "node" {
            return self.node(family.unwrap_or(IpFamily::V4)).or_else(|error| match family {
                None => self.node(IpFamily::V6),
                Some(_) => Err(error),
            });
        }
        let name = place.split_once('/').map(|(namespace, name)| ObjectName::new(namespace, name));
        let name = name.ok_or_else(|| WordsError::Destination(place.to_owned()))?;
        let ips = self.inside.model.service(&name).into_iter().flat_map(|service| &service.cluster_ips);
        let mut of_family = ips.filter(|ip| family.is_none_or(|family| IpFamily::of(**ip) == family));
        of_family.next().copied().ok_or_else(|| unknown(&format!("Service {name}"), family))
    }

    /// The node's own address.
    fn node(&self, family: IpFamily) -> Result<IpAddr, WordsError> {
        let mut known = self.inside.model.node().addresses.iter().chain(self.addresses);
        let own = known.find(|a| IpFamily::of(**a) == family && !a.is_loopback() && !is_link_local(**a));
        own.copied().ok_or_else(|| unknown("the node", Some(family)))
    }

    /// A pod of this node that is nobody's endpoint: an address out of its network, and the interface that it is known by.
    fn pod(&self, family: IpFamily) -> Result<(IpAddr, Option<Arc<str>>), WordsError> {
        let own = &self.inside.model.node().pod_cidrs[..];
        let (networks, interface) = match &self.settings.locality {
            Locality::Networks(networks) => (&networks[..], UNNAMED.into()),
            Locality::Interface(name) => (own, name.replace('*', "0").into()),
            Locality::Unknown | Locality::NodeNetworks => (own, UNNAMED.into()),
        };
        let network = networks.iter().find(|network| IpFamily::of(network.ip()) == family);
        let address =
            network.map(|network| last_host(*network)).ok_or_else(|| unknown("a pod", Some(family)))?;
        Ok((address, Some(interface)))
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The last address of a network that a host may have.
fn last_host(network: IpNetwork) -> IpAddr {
    match network.broadcast() {
        IpAddr::V4(v4) if network.prefix() < 31 => Ipv4Addr::from_bits(v4.to_bits() - 1).into(),
        last => last,
    }
}

#[cfg(test)]
mod tests;
