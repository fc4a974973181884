//! What the agent believes of its node after a turn, as one value for everybody else.
//!
//! Not what decides: nothing is planned from it. Pure. Invariant: whatever becomes of a turn, the view says what is
//! known; what could not be read is as it was last.

use crate::cluster::Cluster;
use crate::plan::{Plan, Settings};
use crate::problem::Problem;
use heddle_netlink::link::LinkIndex;
use heddle_netlink::route::{Route, TABLE_MAIN};
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// How the last turn ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// There was none: not every Node is known yet.
    #[default]
    Waiting,
    /// The kernel has all that was planned.
    Whole,
    /// It refused something, which is tried again.
    Failing,
}

/// Everything that is known of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// How the last turn ended.
    pub standing: Standing,
    /// Whether the kernel has what all pods need: it refused at most the ways to some of the other nodes.
    pub usable: bool,
    /// Since when turns end so. None while there was none.
    pub since: Option<Timestamp>,
    /// When it ended.
    pub at: Option<Timestamp>,
    /// When the kernel last had all that was planned.
    pub whole: Option<Timestamp>,
    /// Our own node: what its object says. None when there is no such object.
    pub own: Option<Own>,
    /// The other nodes, by their names.
    pub peers: BTreeMap<Arc<str>, Peer>,
    /// Whether what leaves the cluster gets the node's address.
    pub masquerades: bool,
    /// Whether the node forwards.
    pub forwards: bool,
    /// The largest packet that a pod of this node can send to every other pod that it reaches, in bytes; none where the
    /// links' limits are not known.
    pub mtu: Option<u32>,
    /// How many routes the kernel is to have of us.
    pub routes: usize,
    /// What cannot be as the cluster asks, and since when.
    pub problems: BTreeMap<Problem, Timestamp>,
    /// What the kernel refused in this turn, a sentence each.
    pub failures: Vec<String>,
    /// What it refused last, and when, whether that is over or not.
    pub last_failure: Option<(Timestamp, String)>,
    /// How many times changes that somebody else made were undone.
    pub repairs: u64,
    /// When the last time.
    pub repaired: Option<Timestamp>,
}

/// What the object of our own node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The ranges of its pods.
    pub ranges: Vec<IpNetwork>,
    /// Its addresses, internal ones first.
    pub addresses: Vec<IpAddr>,
}

/// Another node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its addresses, internal ones first.
    pub addresses: Vec<IpAddr>,
    /// How each range of its pods is reached.
    pub paths: Vec<Path>,
}

/// How one range of pods is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The range.
    pub range: IpNetwork,
    /// The way there. None where there is none: a problem says why.
    pub way: Option<Way>,
    /// The largest packet that goes there, where that is less than the link takes.
    pub mtu: Option<u32>,
}

impl Path {
    /// What [`kind`](Self::kind) may be.
    pub const KINDS: [&str; 3] = ["direct", "vxlan", "none"];

    /// One word for how it goes, or that it does not.
    pub fn kind(&self) -> &'static str {
        self.way.as_ref().map_or("none", Way::kind)
    }
}

/// A way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Straight, by a link that both are on.
    Direct {
        /// The address of the other node.
        via: IpAddr,
        /// The link.
        link: LinkIndex,
    },
    /// In packets between the nodes, by the VXLAN device.
    Vxlan {
        /// The address of the other node.
        to: IpAddr,
        /// The device.
        link: LinkIndex,
    },
}

impl Way {
    fn of(route: &Route) -> Option<Self> {
        let link = route.link;
        match route.encap {
            Some(tunnel) => Some(Self::Vxlan { to: tunnel.to, link }),
            None => Some(Self::Direct { via: route.gateway?, link }),
        }
    }

    /// The address of the other node.
    pub fn to(&self) -> IpAddr {
        match self {
            Self::Direct { via: to, .. } | Self::Vxlan { to, .. } => *to,
        }
    }

    /// One word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Direct { .. } => "direct",
            Self::Vxlan { .. } => "vxlan",
        }
    }

    /// The link that packets leave by.
    pub fn link(&self) -> LinkIndex {
        match self {
            Self::Direct { link, .. } | Self::Vxlan { link, .. } => *link,
        }
    }

    /// What people call it, by a link of this name.
    pub fn name(&self, link: &str) -> String {
        match self {
            Self::Direct { via, .. } => format!("direct via {via} dev {link}"),
            Self::Vxlan { to, .. } => format!("vxlan to {to}"),
        }
    }
}

/// What a turn found and did.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// What the cluster says.
    pub cluster: &'a Cluster,
    /// What does not come from the cluster.
    pub settings: &'a Settings,
    /// What the kernel is to have; the last plan when the kernel could not be read.
    pub plan: &'a Plan,
    /// Whether the node forwards.
    pub forwards: bool,
    /// What the kernel refused, a sentence each.
    pub failures: &'a [String],
    /// Whether that is at most the ways to some of the other nodes.
    pub usable: bool,
    /// Whether it undid what somebody else had changed.
    pub repaired: bool,
}

impl View {
    /// The view after another turn, which ended now.
    pub fn after(&self, turn: Turn<'_>, now: Timestamp) -> Self {
        let Turn { cluster, settings, plan, forwards, failures, usable, repaired } = turn;
        let is_whole = failures.is_empty();
        let standing = if is_whole { Standing::Whole } else { Standing::Failing };
        let own = cluster.node(&settings.node);
        let own = own.map(|node| Own { ranges: node.pod_cidrs.clone(), addresses: node.addresses.clone() });
        let peers = cluster.others(&settings.node).map(|node| (node.name.clone(), Peer::of(node, plan)));
        let since = |problem: &Problem| self.problems.get(problem).copied().unwrap_or(now);
        let last_failure = failures.last().map(|failure| (now, failure.clone()));
        Self {
            standing,
            since: self.since.filter(|_| self.standing == standing).or(Some(now)),
            usable,
            at: Some(now),
            whole: if is_whole { Some(now) } else { self.whole },
            masquerades: settings.masquerades && own.as_ref().is_some_and(|own| !own.ranges.is_empty()),
            own,
            peers: peers.collect(),
            forwards,
            mtu: plan.mtu,
            routes: plan.routes.len(),
            problems: self
                .problems
                .keys()
                .filter(|problem| problem.is_of_supply())
                .chain(&plan.problems)
                .map(|problem| (problem.clone(), since(problem)))
                .collect(),
            failures: failures.to_owned(),
            last_failure: last_failure.or_else(|| self.last_failure.clone()),
            repairs: self.repairs + u64::from(repaired),
            repaired: if repaired { Some(now) } else { self.repaired },
        }
    }

    /// The same, with what is wrong now with the plugin's supply.
    #[must_use]
    pub fn with_supply(&self, wrong: &BTreeSet<Problem>, now: Timestamp) -> Self {
        let mut problems = self.problems.clone();
        problems.retain(|problem, _| !problem.is_of_supply() || wrong.contains(problem));
        wrong.iter().for_each(|problem| _ = problems.entry(problem.clone()).or_insert(now));
        Self { problems, ..self.clone() }
    }

    /// All paths to other nodes.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.peers.values().flat_map(|peer| &peer.paths)
    }
}

impl Peer {
    fn of(node: &Node, plan: &Plan) -> Self {
        let path = |range: &IpNetwork| {
            let route = plan.routes.get(&(TABLE_MAIN, *range));
            let way = route.and_then(Way::of);
            // Where two nodes claim a range, the route is to one of them.
            let way = way.filter(|way| node.addresses.contains(&way.to()));
            Path { range: *range, way, mtu: way.and(route).and_then(|route| route.mtu) }
        };
        Self { addresses: node.addresses.clone(), paths: node.pod_cidrs.iter().map(path).collect() }
    }
}

#[cfg(test)]
mod tests;
