//! Who holds which cluster IP and node port, and which are free.
//!
//! Derived from the stored objects and from nothing else: the store adds and removes claims with each commit. What is
//! handed out next goes upwards and wraps, so that the same requests get the same addresses in every run.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use super::resource::Claim;
use super::store::Key;

/// The claims of all objects, and the ranges that new ones come from.
#[derive(Debug)]
pub(crate) struct Claims {
    held: BTreeMap<Claim, Key>,
    networks: Vec<IpNetwork>,
    node_ports: RangeInclusive<u16>,
    last_ipv4: u128,
    last_ipv6: u128,
    last_node_port: u16,
}

impl Claims {
    pub(crate) fn new(networks: Vec<IpNetwork>, node_ports: RangeInclusive<u16>) -> Self {
        Self { held: BTreeMap::new(), networks, node_ports, last_ipv4: 0, last_ipv6: 0, last_node_port: 0 }
    }

    pub(crate) fn holder(&self, claim: Claim) -> Option<&Key> {
        self.held.get(&claim)
    }

    pub(crate) fn hold(&mut self, claim: Claim, key: &Key) {
        self.held.insert(claim, key.clone());
        match claim {
            Claim::Address(address @ IpAddr::V4(_)) => self.last_ipv4 = to_number(address),
            Claim::Address(address @ IpAddr::V6(_)) => self.last_ipv6 = to_number(address),
            Claim::NodePort(port) => self.last_node_port = port,
        }
    }

    pub(crate) fn release(&mut self, claim: Claim, key: &Key) {
        if self.holder(claim) == Some(key) {
            self.held.remove(&claim);
        }
    }

    /// The families of the service ranges, the cluster's preferred one first: `IPv4`, `IPv6`.
    pub(crate) fn families(&self) -> Vec<&'static str> {
        self.networks.iter().map(|it| if it.is_ipv4() { "IPv4" } else { "IPv6" }).collect()
    }

    pub(crate) fn network(&self, family: &str) -> Option<IpNetwork> {
        self.networks.iter().copied().find(|it| it.is_ipv4() == (family == "IPv4"))
    }

    pub(crate) fn node_ports(&self) -> RangeInclusive<u16> {
        self.node_ports.clone()
    }

    /// A cluster IP that nobody holds, neither the network's first nor its last address.
    pub(crate) fn find_free_address(&self, family: &str) -> Option<IpAddr> {
        let network = self.network(family)?;
        let (low, high) = (to_number(network.network()) + 1, last_address(network).checked_sub(1)?);
        let last = if network.is_ipv4() { self.last_ipv4 } else { self.last_ipv6 };
        let start = if (low..high).contains(&last) { last + 1 } else { low };
        (start..=high)
            .chain(low..start)
            .map(|number| to_address(number, network.is_ipv4()))
            .find(|address| self.holder(Claim::Address(*address)).is_none())
    }

    /// A node port that nobody holds and that is not among those `taken` by the same object.
    pub(crate) fn find_free_node_port(&self, taken: &[u16]) -> Option<u16> {
        let (low, high) = self.node_ports.clone().into_inner();
        let start = if (low..high).contains(&self.last_node_port) { self.last_node_port + 1 } else { low };
        (start..=high)
            .chain(low..start)
            .find(|port| !taken.contains(port) && self.holder(Claim::NodePort(*port)).is_none())
    }
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn to_address(number: u128, ipv4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if ipv4 => Ipv4Addr::from_bits(number).into(),
        _ => Ipv6Addr::from_bits(number).into(),
    }
}

fn last_address(network: IpNetwork) -> u128 {
    let bits = if network.is_ipv4() { 32 } else { 128 };
    let hosts = 1_u128.checked_shl(bits - u32::from(network.prefix())).map_or(u128::MAX, |size| size - 1);
    to_number(network.network()) | hosts
}
