//! What the kernel is to have, given what the cluster says and what the kernel has of others.
//!
//! Pure. A route leads straight to the other node's address where that is on a link of ours; a router in between would not
//! know where the pods are, so what has to pass one travels inside packets between the nodes. Invariant: the plan holds a
//! route for every range that can be reached so, and a problem for every other.

mod ground;

use crate::claims::{Claim, claims};
use crate::cluster::Cluster;
use crate::overlay::{self, Obstacle, Overlay, Vxlan, mac_of, mtu_within, next_hop};
use crate::problem::Problem;
use crate::ruleset;
use crate::seen::Seen;
use ground::{Ground, Reach, address_like};
use heddle_netlink::link::LinkIndex;
use heddle_netlink::nft::{Table, TableFamily};
use heddle_netlink::route::{PROTOCOL_HEDDLE_NODE, Route, Tunnel};
use heddle_netlink::rule::Rule;
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The metric of our routes. It is above what programs and the kernel choose by themselves (0, and 1024 for IPv6), so that
/// another program's route to the same range goes before ours and ours is there when that one goes.
pub const METRIC: u32 = 4096;

/// How other nodes' pods are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Straight where a link leads to the node, else over VXLAN.
    #[default]
    Auto,
    /// Straight or not at all.
    Routes,
    /// Always over VXLAN.
    Vxlan,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Routes => "routes",
            Self::Vxlan => "vxlan",
        })
    }
}

/// What does not come from the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of our own node.
    pub node: Arc<str>,
    /// How other nodes' pods are reached.
    pub mode: Mode,
    /// Of VXLAN.
    pub vxlan: Vxlan,
    /// Whether what leaves the cluster gets the node's address.
    pub masquerades: bool,
    /// Ranges outside the cluster that see pods' own addresses.
    pub seen_by: Vec<IpNetwork>,
    /// The families that the kernel has.
    pub families: Vec<TableFamily>,
}

/// Where a route is: its table, and its destination.
pub type Place = (u32, IpNetwork);

/// The place of a route.
pub fn place_of(route: &Route) -> Place {
    (route.table, route.to)
}

/// What the kernel is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Our routes.
    pub routes: BTreeMap<Place, Route>,
    /// Our rules, by whose packets they are about.
    pub rules: BTreeMap<IpNetwork, Rule>,
    /// The device that routes lead through, where some node is reached so.
    pub overlay: Option<Overlay>,
    /// Our tables.
    pub tables: BTreeMap<TableFamily, Table>,
    /// The largest packet that a pod of this node can send to every other pod that it reaches, in bytes; none where the
    /// links' limits are not known.
    pub mtu: Option<u32>,
    /// What cannot be.
    pub problems: BTreeSet<Problem>,
}

/// Plans.
pub fn plan(cluster: &Cluster, settings: &Settings, seen: &Seen) -> Plan {
    let (claims, overlaps) = claims(cluster, &settings.node);
    let mut plan = Plan { problems: overlaps.into_iter().collect(), ..Plan::default() };
    plan.problems.extend(own_problems(cluster, settings));
    let ground = Ground::of(seen);
    let ways = plan.choose_ways(&ground, settings, &claims);
    let own = cluster.node(&settings.node).cloned().unwrap_or_default();
    plan.mtu = pod_mtu(&ground, settings.mode, &own, &ways);
    plan.plan_overlay(settings, &own, &ways);
    let through = plan.overlay.as_ref().and_then(|overlay| Through::find(overlay, settings, &own, seen));
    if plan.overlay.is_some() && through.is_none() {
        plan.problems.insert(Problem::NoTunnels(Obstacle::NoDevice));
    }
    ways.iter().for_each(|way| plan.lay(&ground, through.as_ref(), way));
    if settings.masquerades {
        let tables =
            settings.families.iter().map(|family| (*family, ruleset::table(*family, cluster, settings)));
        plan.tables = tables.collect();
    }
    plan
}

fn own_problems(cluster: &Cluster, settings: &Settings) -> Vec<Problem> {
    let name = || settings.node.clone();
    match cluster.node(&settings.node) {
        None => vec![Problem::NoOwnNode { name: name() }],
        Some(node) if node.pod_cidrs.is_empty() => vec![Problem::NoOwnRanges { name: name() }],
        Some(node) => {
            // Over VXLAN the others need any address, of whichever family.
            let is_lost = |range: &&IpNetwork| match settings.mode {
                Mode::Routes => address_like(node, **range).is_none(),
                Mode::Auto | Mode::Vxlan => node.addresses.is_empty(),
            };
            let lost = node.pod_cidrs.iter().filter(is_lost);
            lost.map(|range| Problem::NoAddress { node: name(), range: *range }).collect()
        }
    }
}

/// How a claim is reached, and the largest packet that goes there.
struct Chosen<'a> {
    claim: Claim<'a>,
    reach: Reach,
    mtu: Option<u32>,
}

impl Chosen<'_> {
    fn is_inside(&self) -> bool {
        matches!(self.reach, Reach::Inside { .. })
    }
}

/// The least of all ways, which is that of a pod too, as it is made before it is known where it sends to. Without another
/// node it is what one would be reached with.
fn pod_mtu(ground: &Ground<'_>, mode: Mode, own: &Node, ways: &[Chosen<'_>]) -> Option<u32> {
    let (address, uplink) = ground.uplink_mtu(&own.addresses).unzip();
    let least = ways.iter().filter_map(|way| way.mtu).chain(uplink).min();
    match (mode, address) {
        (Mode::Vxlan, Some(address)) if ways.is_empty() => uplink.map(|mtu| mtu_within(mtu, address)),
        _ => least,
    }
}

impl Plan {
    /// A way for each claim of another node that has one.
    fn choose_ways<'a>(
        &mut self,
        ground: &Ground<'_>,
        settings: &Settings,
        claims: &BTreeMap<IpAddr, Claim<'a>>,
    ) -> Vec<Chosen<'a>> {
        let mut ways = Vec::new();
        for claim in claims.values().filter(|(node, _)| *node.name != *settings.node) {
            match ground.reach(settings.mode, *claim) {
                Ok((reach, mtu)) => ways.push(Chosen { claim: *claim, reach, mtu }),
                Err(problem) => drop(self.problems.insert(problem)),
            }
        }
        let obstacle = ground.obstacle(settings.vxlan).filter(|_| ways.iter().any(Chosen::is_inside));
        if obstacle.is_some() {
            ways.retain(|way| !way.is_inside());
        }
        self.problems.extend(obstacle.map(Problem::NoTunnels));
        ways
    }

    fn plan_overlay(&mut self, settings: &Settings, own: &Node, ways: &[Chosen<'_>]) {
        let inside = || ways.iter().filter(|way| way.is_inside());
        let Some(mtu) = inside().map(|way| way.mtu.unwrap_or(mtu_within(1500, way.to()))).max() else {
            return;
        };
        let neighbour = |way: &Chosen<'_>| {
            let (node, range) = way.claim;
            (next_hop(range, mac_of(&node.name)), mac_of(&node.name))
        };
        self.rules = overlay::rules(own, PROTOCOL_HEDDLE_NODE);
        self.overlay = Some(Overlay {
            mac: mac_of(&settings.node),
            mtu,
            port: settings.vxlan.port,
            offload: settings.vxlan.offload,
            addresses: overlay::addresses(&own.pod_cidrs),
            neighbours: inside().map(neighbour).collect(),
        });
    }

    /// Adds the routes of a way; through a device that is not there yet, none.
    fn lay(&mut self, ground: &Ground<'_>, through: Option<&Through>, way: &Chosen<'_>) {
        let (node, range) = way.claim;
        let (is_free, problem) = ground.place(node, range);
        self.problems.extend(problem);
        match (way.reach, through) {
            (Reach::Direct { via, link }, _) if is_free => self.add(Route::new(range, Some(via), link)),
            (Reach::Inside { to }, Some(through)) => {
                let route = through.route(way, to);
                // The node itself, as our pods reach it.
                if let Some(address) = address_like(node, range) {
                    self.add(Route { to: address.into(), table: overlay::TABLE, ..route });
                }
                if is_free {
                    self.add(route);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, route: Route) {
        let route = Route { protocol: PROTOCOL_HEDDLE_NODE, priority: Some(METRIC), ..route };
        self.routes.insert(place_of(&route), route);
    }
}

impl Chosen<'_> {
    /// Whom packets on this way are addressed to.
    fn to(&self) -> IpAddr {
        match self.reach {
            Reach::Direct { via: to, .. } | Reach::Inside { to } => to,
        }
    }
}

/// The device, as routes lead through it.
struct Through {
    link: LinkIndex,
    vxlan: Vxlan,
    mtu: u32,
    /// The addresses of this node to which the others' pods answer through the device.
    sources: Vec<IpAddr>,
}

impl Through {
    fn find(overlay: &Overlay, settings: &Settings, own: &Node, seen: &Seen) -> Option<Self> {
        let device = seen.vxlan.device.as_ref().filter(|device| device.can_become(overlay))?;
        let sources = own.pod_cidrs.iter().filter_map(|range| address_like(own, *range));
        let sources = sources.filter(|address| seen.addresses.contains_key(address)).collect();
        Some(Self { link: device.link, vxlan: settings.vxlan, mtu: overlay.mtu, sources })
    }

    /// The route of a way.
    fn route(&self, way: &Chosen<'_>, to: IpAddr) -> Route {
        let (node, range) = way.claim;
        // IPv4 does without a checksum around what has one of its own (RFC 7348 section 5); IPv6 does not.
        let tunnel = Tunnel { id: self.vxlan.id, to, checksum: to.is_ipv6() };
        let hop = next_hop(range, mac_of(&node.name));
        Route {
            encap: Some(tunnel),
            // An IPv4 next hop is in the range itself, which no link has.
            onlink: hop.is_ipv4(),
            mtu: way.mtu.filter(|mtu| *mtu < self.mtu),
            source: self.sources.iter().copied().find(|ip| ip.is_ipv4() == range.is_ipv4()),
            ..Route::new(range, Some(hop), self.link)
        }
    }
}

#[cfg(test)]
mod tests;
