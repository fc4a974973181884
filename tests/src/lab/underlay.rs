//! What lies under the pods' network: subnets of nodes, a router between them, and everybody's addresses.
//!
//! It is a description, and arithmetic on it; [`Lab`](crate::lab::Lab) builds it. Invariant: a host's addresses follow from
//! its seat alone.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Numbers of the router, of the first node, and of the host outside, in each subnet.
const ROUTER: u8 = 1;
const FIRST_NODE: u8 = 11;
const OUTSIDE: u8 = 250;

/// Which families of addresses the underlay carries, or pods have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// Only IPv4: links have IPv6 addresses of their own (`fe80::`) and no others.
    Ipv4,
    /// Only IPv6.
    Ipv6,
    /// Both.
    #[default]
    Both,
}

impl Families {
    /// What there is, of one thing of each family.
    pub(super) fn keep<T>(self, [v4, v6]: [T; 2]) -> Vec<T> {
        match self {
            Self::Ipv4 => vec![v4],
            Self::Ipv6 => vec![v6],
            Self::Both => vec![v4, v6],
        }
    }
}

/// Which nodes are on which subnet, and what the subnets carry.
///
/// The subnets are 192.168.0.0/24 with fd00:192::/64, 192.168.1.0/24 with fd00:192:0:1::/64 and so on; nodes are numbered through
/// all of them: the first is 192.168.0.11 and fd00:192::b, and the second, if it is on the second subnet, 192.168.1.12 and
/// fd00:192:0:1::c.
#[derive(Clone, Debug)]
pub struct Underlay {
    subnets: Vec<Vec<String>>,
    families: Families,
    pub(super) pods: Families,
    pub(super) mtu: Option<u32>,
    /// Nodes have cgroups of their own.
    pub(super) sockets: bool,
}

impl Underlay {
    /// All nodes on one subnet.
    pub fn flat(nodes: &[&str]) -> Self {
        Self::routed(&[nodes])
    }

    /// Subnets with these nodes, and a router between. The router knows the subnets and nothing of pods; between several
    /// subnets it drops packets that have pods' addresses.
    pub fn routed(subnets: &[&[&str]]) -> Self {
        let names = |nodes: &&[&str]| nodes.iter().map(|&name| name.to_owned()).collect();
        Self {
            subnets: subnets.iter().map(names).collect(),
            families: Families::Both,
            pods: Families::Both,
            mtu: None,
            sockets: false,
        }
    }

    /// The same where hosts have addresses of these families only; pods still have both.
    #[must_use]
    pub fn carrying(self, families: Families) -> Self {
        Self { families, ..self }
    }

    /// The same where nodes have pod ranges of these families only.
    #[must_use]
    pub fn with_pods_of(self, pods: Families) -> Self {
        Self { pods, ..self }
    }

    /// The same with this MTU on every cable, in place of Ethernet's 1500.
    #[must_use]
    pub fn with_mtu(self, mtu: u32) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    /// The same where Services are served at sockets: each node has a cgroup of its own, in which its programs and pods are, and a
    /// BPF file system.
    #[must_use]
    pub fn with_sockets(self) -> Self {
        Self { sockets: true, ..self }
    }

    /// Whether packets between nodes may have to pass the router.
    pub(super) fn is_routed(&self) -> bool {
        self.subnets.len() > 1
    }

    /// The router's seats: one on each subnet, of which there is at least one.
    pub(super) fn routers(&self) -> Vec<Seat> {
        let count = u8::try_from(self.subnets.len().max(1)).expect("a lab has few subnets");
        (0..count).map(|subnet| self.seat(subnet, ROUTER)).collect()
    }

    /// The seat of the host outside: on the first subnet.
    pub(super) fn outside(&self) -> Seat {
        self.seat(0, OUTSIDE)
    }

    /// The nodes with their numbers, from 1 on, and their seats.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, u8, Seat)> {
        let everywhere = (0..).zip(&self.subnets);
        let named = everywhere.flat_map(|(subnet, names)| names.iter().map(move |name| (subnet, name)));
        (1..).zip(named).map(|(number, (subnet, name))| {
            (name.as_str(), number, self.seat(subnet, FIRST_NODE + number - 1))
        })
    }

    fn seat(&self, subnet: u8, number: u8) -> Seat {
        Seat { subnet, number, families: self.families }
    }
}

/// Where a host is plugged in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// The number of its subnet.
    pub(super) subnet: u8,
    /// The host's number in it.
    pub(super) number: u8,
    families: Families,
}

impl Seat {
    /// Its addresses with their subnets: IPv4, then IPv6.
    pub(super) fn networks(self) -> Vec<IpNetwork> {
        let v4 = Ipv4Network::new(Ipv4Addr::new(192, 168, self.subnet, self.number), 24);
        let v6 = Ipv6Addr::new(0xfd00, 0x192, 0, self.subnet.into(), 0, 0, 0, self.number.into());
        let v6 = Ipv6Network::new(v6, 64).expect("a prefix of at most 128 bits");
        self.families.keep([v4.expect("a prefix of at most 32 bits").into(), v6.into()])
    }

    /// The router's seat on the same subnet.
    pub(super) fn router(self) -> Self {
        Self { number: ROUTER, ..self }
    }

    /// Name of the bridge that is its subnet.
    pub(super) fn bridge(self) -> String {
        if self.subnet == 0 { "fabric".to_owned() } else { format!("fabric-{}", self.subnet) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_numbered_through_all_subnets() {
        let underlay = Underlay::routed(&[&["a", "b"], &["c"]]);
        let nodes: Vec<_> =
            underlay.nodes().map(|(name, number, seat)| (name, number, seat.networks())).collect();
        let networks = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(nodes[0], ("a", 1, networks(["192.168.0.11/24", "fd00:192::b/64"])));
        assert_eq!(nodes[2], ("c", 3, networks(["192.168.1.13/24", "fd00:192:0:1::d/64"])));
    }

    #[test]
    fn one_family_has_one_address() {
        let seat = Underlay::flat(&["a"]).carrying(Families::Ipv6).outside();
        assert_eq!(seat.networks(), ["fd00:192::fa/64".parse().unwrap()]);
        assert_eq!(seat.router().networks(), ["fd00:192::1/64".parse().unwrap()]);
    }
}
