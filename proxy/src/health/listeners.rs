//! On which addresses health checks make us listen.
//!
//! Pure: a function of the checks, of the settings for node ports, and of the addresses that the node has at the moment.

use super::checks::{Check, Key};
use crate::frontends::IpFamily;
use crate::model::ObjectName;
use crate::nft::settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A listener that is wanted: where, and for which Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The address and port.
    pub address: SocketAddr,
    /// The Service whose health is asked for there.
    pub service: ObjectName,
}

impl Listener {
    /// The check that is answered there.
    pub fn check(&self) -> Key {
        (IpFamily::of(self.address.ip()), self.service.clone())
    }
}

/// An address of one of the node's links, and the link's number.
pub type LinkAddress = (IpAddr, u32);

/// The node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Those that its Node object has, the first of each family being its own.
    pub of_object: Vec<IpAddr>,
    /// Those that its links have.
    pub of_links: BTreeSet<LinkAddress>,
}

/// The listeners that the checks want: on the addresses that serve node ports, or on all of the family at once.
pub fn wanted(
    checks: &BTreeMap<Key, Check>,
    settings: &Settings,
    addresses: &Addresses,
) -> BTreeSet<Listener> {
    let v4 = places(IpFamily::V4, settings, addresses);
    let v6 = places(IpFamily::V6, settings, addresses);
    let listeners = checks.iter().flat_map(|((family, service), check)| {
        let places = if *family == IpFamily::V4 { &v4 } else { &v6 };
        places.iter().map(|place| {
            let mut address = *place;
            address.set_port(check.port);
            Listener { address, service: service.clone() }
        })
    });
    listeners.collect()
}

/// The addresses of a family to listen on, with port 0.
fn places(family: IpFamily, settings: &Settings, addresses: &Addresses) -> BTreeSet<SocketAddr> {
    let ours = |address: &IpAddr| IpFamily::of(*address) == family;
    let primary = addresses.of_object.iter().copied().find(ours);
    let Some(networks) = settings.node_port_networks(family, primary) else {
        let any: IpAddr = match family {
            IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
            IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        return [SocketAddr::new(any, 0)].into();
    };
    let matching = addresses.of_links.iter().filter(|(ip, _)| networks.iter().any(|n| n.contains(*ip)));
    matching.map(|(ip, link)| place(*ip, *link)).collect()
}

/// A link-local address is one only together with its link.
fn place(ip: IpAddr, link: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, 0, 0, link).into(),
        _ => SocketAddr::new(ip, 0),
    }
}

#[cfg(test)]
mod tests;
