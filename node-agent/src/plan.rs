//! What the kernel is to have, given what the cluster says and what the kernel has of others.
//!
//! Pure. A route leads straight to the other node's address, which must be on a link of ours: a router in between would not
//! know where the pods are. Invariant: the plan holds a route for every range that can be reached so, and a problem for every
//! other.

use crate::claims::{Claim, claims};
use crate::cluster::Cluster;
use crate::problem::Problem;
use crate::ruleset;
use crate::seen::Seen;
use heddle_netlink::link::LinkIndex;
use heddle_netlink::nft::{Table, TableFamily};
use heddle_netlink::route::{PROTOCOL_HEDDLE_NODE, Route};
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The metric of our routes. It is above what programs and the kernel choose by themselves (0, and 1024 for IPv6), so that
/// another program's route to the same range goes before ours and ours is there when that one goes.
pub const METRIC: u32 = 4096;

/// What does not come from the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of our own node.
    pub node: Arc<str>,
    /// Whether what leaves the cluster gets the node's address.
    pub masquerades: bool,
    /// Ranges outside the cluster that see pods' own addresses.
    pub seen_by: Vec<IpNetwork>,
    /// The families that the kernel has.
    pub families: Vec<TableFamily>,
}

/// What the kernel is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Our routes by their destinations.
    pub routes: BTreeMap<IpNetwork, Route>,
    /// Our tables.
    pub tables: BTreeMap<TableFamily, Table>,
    /// What cannot be.
    pub problems: BTreeSet<Problem>,
}

/// Plans.
pub fn plan(cluster: &Cluster, settings: &Settings, seen: &Seen) -> Plan {
    let (claims, overlaps) = claims(cluster, &settings.node);
    let mut plan = Plan { problems: overlaps.into_iter().collect(), ..Plan::default() };
    plan.problems.extend(own_problem(cluster, settings));
    let ground = Ground::of(seen);
    for claim in claims.values().filter(|(node, _)| *node.name != *settings.node) {
        match ground.route(*claim) {
            Ok((route, behind)) => {
                plan.problems.extend(behind);
                plan.routes.insert(claim.1, route);
            }
            Err(problem) => {
                plan.problems.insert(problem);
            }
        }
    }
    if settings.masquerades {
        let tables =
            settings.families.iter().map(|family| (*family, ruleset::table(*family, cluster, settings)));
        plan.tables = tables.collect();
    }
    plan
}

fn own_problem(cluster: &Cluster, settings: &Settings) -> Option<Problem> {
    let name = settings.node.clone();
    match cluster.node(&name) {
        None => Some(Problem::NoOwnNode { name }),
        Some(node) if node.pod_cidrs.is_empty() => Some(Problem::NoOwnRanges { name }),
        Some(_) => None,
    }
}

/// What others have laid, as routes are chosen by it.
struct Ground<'a> {
    seen: &'a Seen,
    /// Everybody else's routes of the main table. There are few: far fewer than nodes.
    others: Vec<&'a Route>,
}

impl<'a> Ground<'a> {
    fn of(seen: &'a Seen) -> Self {
        Self { seen, others: seen.others().collect() }
    }

    /// The route of a claim, and what goes before it.
    fn route(&self, (node, range): Claim<'_>) -> Result<(Route, Option<Problem>), Problem> {
        let name = || node.name.clone();
        if let Some(address) = node.addresses.iter().find(|address| self.seen.addresses.contains_key(address))
        {
            return Err(Problem::IsThisHost { node: name(), address: *address });
        }
        let address = address_of(node, range).ok_or_else(|| Problem::NoAddress { node: name(), range })?;
        let link = self.find_link(address);
        let link = link.ok_or_else(|| Problem::NotOnLink { node: name(), range, address })?;
        let route = Route {
            protocol: PROTOCOL_HEDDLE_NODE,
            priority: Some(METRIC),
            ..Route::new(range, Some(address), link)
        };
        let others = self.others.iter().filter(|other| other.to == range);
        let Some(metric) = others.map(|other| metric_of(other)).min().filter(|metric| *metric <= METRIC)
        else {
            return Ok((route, None));
        };
        let before = Problem::OtherRoute { node: name(), range, metric };
        // The kernel has one route for each destination and metric.
        if metric == METRIC { Err(before) } else { Ok((route, Some(before))) }
    }

    /// The link that an address is on; none when the kernel would ask a router.
    fn find_link(&self, address: IpAddr) -> Option<LinkIndex> {
        let fitting = self.others.iter().filter(|route| route.to.contains(address));
        let rank = |route: &&&Route| (route.to.prefix(), Reverse(metric_of(route)));
        let best = fitting.max_by_key(rank)?;
        best.gateway.is_none().then_some(best.link)
    }
}

/// The kernel says nothing of a metric of 0.
fn metric_of(route: &Route) -> u32 {
    route.priority.unwrap_or(0)
}

/// The first address in the range's family: internal ones come before external ones.
fn address_of(node: &Node, range: IpNetwork) -> Option<IpAddr> {
    node.addresses.iter().copied().find(|address| address.is_ipv4() == range.is_ipv4())
}

#[cfg(test)]
mod tests;
