//! The device that carries packets to nodes that no link leads to: VXLAN (RFC 7348), one for all of them.
//!
//! It collects its metadata from routes: each says to which node's address a packet is sent, so the device itself knows nobody,
//! and a pod range may travel over the other family of addresses. What a node has to know of another is computed: the Ethernet address from its name, and
//! from that or from its pod range the next hop. Pure. Invariant: every node of a cluster computes the same.

use heddle_cni::names;
use heddle_netlink::link::Mac;
use heddle_netlink::rule::Rule;
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Its name.
pub const DEVICE: &str = "heddle-vxlan";
/// The UDP port that IANA gave VXLAN. Linux' own default is the one of before the RFC, 8472, which flannel has.
pub const PORT: u16 = 4789;
/// The VXLAN network identifier.
pub const ID: u32 = 1;
/// The routing table with the nodes themselves, as our pods reach them.
///
/// A packet from a pod to another node goes through the device as well: what lies between the nodes knows no pods' addresses, and
/// may drop what has one. The nodes' own packets must not, since those carry all others.
pub const TABLE: u32 = 110_110;
/// The priority of the rules that lead our pods' packets to that table: shortly before `main` (32766), behind what people choose.
pub const RULE: u32 = 32_110;
/// Below, the kernel takes IPv6 off a device (`IPV6_MIN_MTU`, RFC 8200 section 5).
const MTU_MIN: u32 = 1280;

/// Settings of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The UDP port of every node.
    pub port: u16,
    /// The network identifier of every node.
    pub id: u32,
    /// Whether checksums of packets inside are left to the hardware. Off is slower, and right with hardware that computes them
    /// wrong.
    pub offload: bool,
}

impl Default for Vxlan {
    fn default() -> Self {
        Self { port: PORT, id: ID, offload: true }
    }
}

/// The device as it is to be, or is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Its Ethernet address.
    pub mac: Mac,
    /// The largest packet that goes to some node, in bytes; routes to other nodes may have less.
    pub mtu: u32,
    /// The UDP port on which it listens and to which it sends.
    pub port: u16,
    /// Whether checksums of packets inside are left to the hardware.
    pub offload: bool,
    /// The first address of each of the node's own pod ranges: what the node masquerades on the way to pods of others, or
    /// sends there in a family in which it has no address, comes from there, and so is answered through the device.
    pub addresses: BTreeSet<IpNetwork>,
    /// Who is behind it, by next hops.
    pub neighbours: BTreeMap<IpAddr, Mac>,
}

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The kernel has no VXLAN.
    NoVxlan,
    /// A link of another kind has its name.
    NameTaken,
    /// Another VXLAN device has its port.
    PortTaken {
        /// The port.
        port: u16,
        /// The other device.
        by: String,
    },
    /// It is not there yet, or was refused.
    NoDevice,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVxlan => f.write_str("this kernel has no VXLAN (CONFIG_VXLAN, module vxlan)"),
            Self::NameTaken => write!(f, "a link named {DEVICE} is no VXLAN device (rename or remove it)"),
            Self::PortTaken { port, by } => write!(
                f,
                "the VXLAN device {by} has UDP port {port} (remove it, or give all nodes another --vxlan-port)"
            ),
            Self::NoDevice => write!(f, "the kernel does not make the VXLAN device {DEVICE}"),
        }
    }
}

/// The Ethernet address of a node's device.
pub fn mac_of(node: &str) -> Mac {
    Mac::local(names::hash(&["vxlan", node]))
}

/// The next hop to a pod range of the node with this device. A range's first address is nobody's (it is the subnet's own, RFC 4291
/// section 2.6.1); in IPv6 a next hop is an address of the link.
pub fn next_hop(range: IpNetwork, Mac([a, b, c, d, e, f]): Mac) -> IpAddr {
    match range {
        IpNetwork::V4(range) => range.network().into(),
        IpNetwork::V6(_) => {
            let [x, y, z] = [[a, b], [c, d], [e, f]].map(u16::from_be_bytes);
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, x, y, z).into()
        }
    }
}

/// What is left for a packet that travels between two nodes in packets of at most `mtu` bytes with headers of this family: less
/// the outer IP header (20 or 40), UDP (8), VXLAN (8) and the inner Ethernet header (14).
pub fn mtu_within(mtu: u32, outer: IpAddr) -> u32 {
    let headers = if outer.is_ipv4() { 50 } else { 70 };
    mtu.saturating_sub(headers).max(MTU_MIN)
}

/// The device's addresses for these pod ranges.
pub fn addresses(ranges: &[IpNetwork]) -> BTreeSet<IpNetwork> {
    ranges.iter().map(|range| IpNetwork::from(range.network())).collect()
}

/// The rules by which our pods' packets come to [`TABLE`].
pub fn rules(own: &Node, protocol: u8) -> BTreeMap<IpNetwork, Rule> {
    let rule = |from: &IpNetwork| (*from, Rule { from: *from, table: TABLE, priority: RULE, protocol });
    own.pod_cidrs.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_compute_of_each_other_stays_the_same_from_version_to_version() {
        let mac = mac_of("node-1");
        assert_eq!(mac.to_string(), "8e:5f:a5:98:b2:09");
        assert_eq!(next_hop("10.244.1.0/24".parse().unwrap(), mac).to_string(), "10.244.1.0");
        assert_eq!(next_hop("fd00::/64".parse().unwrap(), mac).to_string(), "fe80::8e5f:a598:b209");
        assert_ne!(mac, mac_of("node-2"));
    }

    #[test]
    fn the_headers_of_both_families_are_taken_off() {
        assert_eq!(mtu_within(1500, [192, 168, 0, 1].into()), 1450);
        assert_eq!(mtu_within(1500, "fd00::1".parse().unwrap()), 1430);
        assert_eq!(
            mtu_within(1300, [192, 168, 0, 1].into()),
            1280,
            "the kernel cuts in pieces what is outside"
        );
    }
}
