//! Who has which address in the random clusters: one plan for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The node that the tables are for.
pub(crate) const OUR_NODE: u8 = 1;
/// In the addresses of pods of which nobody says on which node they are.
pub(crate) const SOMEWHERE: u8 = 4;

fn address(ipv4: bool, (a, b): (u8, u8), node: u8, n: u8) -> IpAddr {
    if ipv4 {
        Ipv4Addr::new(a, b, node, n).into()
    } else {
        let network = 0xfd00 | u16::from(a);
        Ipv6Addr::new(network, u16::from(b), 0, u16::from(node), 0, 0, 0, u16::from(n)).into()
    }
}

/// A pod on a node.
pub(crate) fn pod(ipv4: bool, node: u8, n: u8) -> IpAddr {
    address(ipv4, (10, 0), node, n)
}

/// The address that a node's object names.
pub(crate) fn node(ipv4: bool, node: u8) -> IpAddr {
    address(ipv4, (192, 168), 0, node)
}

/// The address of our node in another network.
pub(crate) fn storage(ipv4: bool) -> IpAddr {
    address(ipv4, (172, 16), 0, OUR_NODE)
}

/// The address of our node on its pods' bridge.
pub(crate) fn bridge(ipv4: bool) -> IpAddr {
    pod(ipv4, OUR_NODE, 254)
}

/// The loopback address.
pub(crate) fn loopback(ipv4: bool) -> IpAddr {
    if ipv4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

/// A cluster IP.
pub(crate) fn cluster_ip(ipv4: bool, n: u8) -> IpAddr {
    address(ipv4, (10, 96), 0, n)
}

/// The address of a load balancer.
pub(crate) fn load_balancer(ipv4: bool, n: u8) -> IpAddr {
    address(ipv4, (192, 0), 2, n)
}

/// An external IP.
pub(crate) fn external(ipv4: bool, n: u8) -> IpAddr {
    address(ipv4, (198, 51), 100, n)
}

/// An external IP that several Services may claim.
pub(crate) fn shared(ipv4: bool) -> IpAddr {
    external(ipv4, 250)
}

/// A host outside of the cluster.
pub(crate) fn outside(ipv4: bool, n: u8) -> IpAddr {
    address(ipv4, (203, 0), 113, n)
}

/// The networks of one kind, both families: what `of` gives, cut to so many bits.
pub(crate) fn networks(of: impl Fn(bool) -> IpAddr, bits: (u8, u8)) -> Vec<ipnetwork::IpNetwork> {
    let network = |ipv4: bool, prefix| {
        let network = ipnetwork::IpNetwork::new(of(ipv4), prefix).unwrap();
        ipnetwork::IpNetwork::new(network.network(), prefix).unwrap()
    };
    vec![network(true, bits.0), network(false, bits.1)]
}
