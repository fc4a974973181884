//! What the proxy is told about its node, and whose traffic is whose.

use super::Packet;
use heddle_proxy::model::Model;
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// On which of the node's addresses node ports are served (row C4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// On all of them.
    All,
    /// On the first of each family that the Node object names.
    Primary,
    /// On those in one of these networks; on all of a family that has no network here.
    Within(Vec<IpNetwork>),
}

/// How a packet from a pod of this node is told from others (row D1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detector {
    /// It is not.
    Off,
    /// By its source; of each family only the first network counts.
    Sources(Vec<IpNetwork>),
    /// By the interface that it comes in by.
    Interface(Arc<str>),
    /// By the beginning of that interface's name.
    InterfacePrefix(Arc<str>),
}

/// What the proxy is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of its node.
    pub node: Arc<str>,
    /// The addresses of the node's interfaces, but for loopback ones.
    pub addresses: BTreeSet<IpAddr>,
    /// Where node ports are served.
    pub node_port_addresses: NodePortAddresses,
    /// How pods are told from others.
    pub detector: Detector,
    /// Cluster IPs are reached with the node's source address only (row D3).
    pub masquerade_all: bool,
}

impl Settings {
    /// Whether an address is one of the node's own.
    pub(super) fn is_here(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// Whether the packet comes from a pod of this node; `None` when nobody can tell (row D1).
    pub(super) fn detects_pod(&self, packet: &Packet) -> Option<bool> {
        let comes_in = |matches: &dyn Fn(&str) -> bool| packet.in_interface.as_deref().is_some_and(matches);
        match &self.detector {
            Detector::Off => None,
            Detector::Sources(networks) => {
                let first = networks.iter().find(|network| network.is_ipv4() == packet.source.is_ipv4())?;
                Some(first.contains(packet.source))
            }
            Detector::Interface(wanted) => Some(comes_in(&|name| *name == **wanted)),
            Detector::InterfacePrefix(prefix) => Some(comes_in(&|name| name.starts_with(&**prefix))),
        }
    }

    /// Whether node ports are served on an address (row C4, row C5: never on loopback).
    pub(super) fn serves_node_ports_on(&self, address: IpAddr, model: &Model) -> bool {
        if address.is_loopback() || !self.addresses.contains(&address) {
            return false;
        }
        match &self.node_port_addresses {
            NodePortAddresses::All => true,
            // row J2
            NodePortAddresses::Primary => {
                model.node().addresses.iter().find(|a| a.is_ipv4() == address.is_ipv4()) == Some(&address)
            }
            NodePortAddresses::Within(networks) => {
                let mut own = networks.iter().filter(|n| n.is_ipv4() == address.is_ipv4()).peekable();
                own.peek().is_none() || own.any(|network| network.contains(address))
            }
        }
    }
}
