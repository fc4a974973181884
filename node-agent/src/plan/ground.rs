//! What others have laid, as ways to other nodes are chosen by it: links, their routes, what stands in the way of a device.
//!
//! Pure. Nothing here is ours.

use super::{METRIC, Mode};
use crate::claims::Claim;
use crate::overlay::{Obstacle, Vxlan, mtu_within};
use crate::problem::Problem;
use crate::seen::Seen;
use heddle_netlink::link::LinkIndex;
use heddle_netlink::route::Route;
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;
use std::cmp::Reverse;
use std::net::IpAddr;

/// How pods of another node can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Straight, by a link that both nodes are on.
    Direct { via: IpAddr, link: LinkIndex },
    /// In packets to an address of the node.
    Inside { to: IpAddr },
}

/// What others have laid.
pub(super) struct Ground<'a> {
    seen: &'a Seen,
    /// Everybody else's routes of the main table. There are few: far fewer than nodes.
    others: Vec<&'a Route>,
}

impl<'a> Ground<'a> {
    pub(super) fn of(seen: &'a Seen) -> Self {
        Self { seen, others: seen.others().collect() }
    }

    /// The way to a claim, and the largest packet that goes there, if the links' limits are known.
    pub(super) fn reach(&self, mode: Mode, claim: Claim<'_>) -> Result<(Reach, Option<u32>), Problem> {
        let (node, _) = claim;
        if let Some(address) = node.addresses.iter().find(|address| self.seen.addresses.contains_key(address))
        {
            return Err(Problem::IsThisHost { node: node.name.clone(), address: *address });
        }
        match mode {
            Mode::Routes => self.direct(claim),
            Mode::Auto => self.direct(claim).or_else(|_| self.inside(claim)),
            Mode::Vxlan => self.inside(claim),
        }
    }

    fn direct(&self, (node, range): Claim<'_>) -> Result<(Reach, Option<u32>), Problem> {
        let name = || node.name.clone();
        let via = address_like(node, range).ok_or_else(|| Problem::NoAddress { node: name(), range })?;
        let route = self.towards(via).filter(|route| route.gateway.is_none());
        let route = route.ok_or_else(|| Problem::NotOnLink { node: name(), range, address: via })?;
        Ok((Reach::Direct { via, link: route.link }, self.mtu_of(route)))
    }

    /// The first address that any route leads to: which family carries the packets does not depend on what is in them.
    fn inside(&self, (node, range): Claim<'_>) -> Result<(Reach, Option<u32>), Problem> {
        let mut ways = node.addresses.iter().filter_map(|to| Some((*to, self.towards(*to)?)));
        let (to, route) = ways.next().ok_or_else(|| Problem::NoWay { node: node.name.clone(), range })?;
        Ok((Reach::Inside { to }, self.mtu_of(route).map(|mtu| mtu_within(mtu, to))))
    }

    /// The route that a packet to an address takes.
    fn towards(&self, address: IpAddr) -> Option<&'a Route> {
        let fitting = self.others.iter().copied().filter(|route| route.to.contains(address));
        fitting.max_by_key(|route| (route.to.prefix(), Reverse(metric_of(route))))
    }

    fn mtu_of(&self, route: &Route) -> Option<u32> {
        self.seen.mtus.get(&route.link).copied().into_iter().chain(route.mtu).min()
    }

    /// The largest packet of the link that has one of these addresses.
    pub(super) fn uplink_mtu(&self, addresses: &[IpAddr]) -> Option<(IpAddr, u32)> {
        addresses.iter().find_map(|ip| Some((*ip, *self.seen.mtus.get(self.seen.addresses.get(ip)?)?)))
    }

    /// Why there cannot be a device, where that is known before it is tried.
    pub(super) fn obstacle(&self, vxlan: Vxlan) -> Option<Obstacle> {
        let there = &self.seen.vxlan;
        if there.missing {
            return Some(Obstacle::NoVxlan);
        }
        if there.name_taken {
            return Some(Obstacle::NameTaken);
        }
        let by = there.others.get(&vxlan.port)?.clone();
        Some(Obstacle::PortTaken { port: vxlan.port, by })
    }

    /// Whether our route to a node's range can stand: others' routes of the range go before it, or have its very place.
    pub(super) fn place(&self, node: &Node, range: IpNetwork) -> (bool, Option<Problem>) {
        let others = self.others.iter().filter(|other| other.to == range);
        let before = others.map(|other| metric_of(other)).min().filter(|metric| *metric <= METRIC);
        // The kernel has one route for each destination and metric.
        let problem = before.map(|metric| Problem::OtherRoute { node: node.name.clone(), range, metric });
        (before != Some(METRIC), problem)
    }
}

/// The kernel says nothing of a metric of 0.
fn metric_of(route: &Route) -> u32 {
    route.priority.unwrap_or(0)
}

/// The first address in the range's family: internal ones come before external ones.
pub(super) fn address_like(node: &Node, range: IpNetwork) -> Option<IpAddr> {
    node.addresses.iter().copied().find(|address| address.is_ipv4() == range.is_ipv4())
}
