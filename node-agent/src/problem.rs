//! What is wrong, one sentence each, with what follows from it.

use crate::overlay::Obstacle;
use ipnetwork::IpNetwork;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Something that cannot be done as the cluster asks. Everything else goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// There is no object of our own node.
    NoOwnNode {
        /// Our name.
        name: Arc<str>,
    },
    /// Our node has no pod ranges.
    NoOwnRanges {
        /// Our name.
        name: Arc<str>,
    },
    /// A node has pods of a family in which it has no address.
    NoAddress {
        /// The node.
        node: Arc<str>,
        /// Its range.
        range: IpNetwork,
    },
    /// A node's address is not on a link of ours, and there is to be no other way than a link.
    NotOnLink {
        /// The node.
        node: Arc<str>,
        /// Its range.
        range: IpNetwork,
        /// Its address.
        address: IpAddr,
    },
    /// A node has no address that any route leads to.
    NoWay {
        /// The node.
        node: Arc<str>,
        /// Its range.
        range: IpNetwork,
    },
    /// Nodes that are reached in no other way than by VXLAN are not reached.
    NoTunnels(Obstacle),
    /// Another node has an address of this host.
    IsThisHost {
        /// The node.
        node: Arc<str>,
        /// The address.
        address: IpAddr,
    },
    /// Two nodes have the same pod addresses.
    Overlap {
        /// The node that goes without.
        node: Arc<str>,
        /// Its range.
        range: IpNetwork,
        /// The node that has them, which may be the same.
        holder: Arc<str>,
        /// Its range.
        held: IpNetwork,
    },
    /// Somebody else's route to the same range goes before ours.
    OtherRoute {
        /// The node.
        node: Arc<str>,
        /// Its range.
        range: IpNetwork,
        /// Its metric.
        metric: u32,
    },
    /// The plugin's program is not as it should be.
    NoProgram {
        /// Why.
        why: String,
    },
    /// The plugin's configuration is not as it should be.
    NoConfiguration {
        /// Why.
        why: String,
    },
    /// The container runtime takes another configuration than ours.
    OtherConfiguration {
        /// Its file.
        file: PathBuf,
    },
    /// The plugin is not told that pods have a network.
    NoHeartbeat {
        /// Why.
        why: String,
    },
    /// What pods left that are gone is not given back.
    NoSweep {
        /// Why.
        why: String,
    },
}

impl Problem {
    /// Whether it is one of the plugin's supply, and not of routes and tables.
    pub fn is_of_supply(&self) -> bool {
        matches!(
            self,
            Self::NoProgram { .. }
                | Self::NoConfiguration { .. }
                | Self::OtherConfiguration { .. }
                | Self::NoHeartbeat { .. }
                | Self::NoSweep { .. }
        )
    }

    /// One word for it, as Kubernetes writes reasons.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoOwnNode { .. } => "NodeMissing",
            Self::NoOwnRanges { .. } => "PodCIDRNotAvailable",
            Self::NoAddress { .. } => "NodeAddressMissing",
            Self::NotOnLink { .. } | Self::NoWay { .. } => "NoRouteToNode",
            Self::NoTunnels(_) => "VXLANNotAvailable",
            Self::IsThisHost { .. } => "NodeAddressConflict",
            Self::Overlap { .. } => "PodCIDROverlap",
            Self::OtherRoute { .. } => "RouteConflict",
            Self::NoProgram { .. } => "PluginNotInstalled",
            Self::NoConfiguration { .. } => "PluginNotConfigured",
            Self::OtherConfiguration { .. } => "PluginConfigurationConflict",
            Self::NoHeartbeat { .. } => "PluginNotTold",
            Self::NoSweep { .. } => "LeftoversNotSwept",
        }
    }

    /// Whether it is about the way to this range of another node.
    pub fn is_about(&self, other: &str, to: IpNetwork) -> bool {
        match self {
            Self::IsThisHost { node, .. } => **node == *other,
            Self::NoAddress { node, range }
            | Self::NotOnLink { node, range, .. }
            | Self::NoWay { node, range }
            | Self::Overlap { node, range, .. }
            | Self::OtherRoute { node, range, .. } => **node == *other && *range == to,
            _ => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOwnNode { name } => write!(
                f,
                "there is no Node {name}: its pods are not masqueraded until there is (is --hostname-override right?)"
            ),
            Self::NoOwnRanges { name } => write!(
                f,
                "Node {name} has no spec.podCIDRs yet: its pods are not masqueraded until it has (does the controller \
                 manager run with --allocate-node-cidrs?)"
            ),
            Self::NoAddress { node, range } => {
                write!(
                    f,
                    "Node {node} has no address of the family of {range}: its pods there are not reached"
                )
            }
            Self::NotOnLink { node, range, address } => write!(
                f,
                "Node {node} ({address}) is not on a link of this node, so no route leads to its pods in {range}: with \
                 --mode auto, VXLAN would"
            ),
            Self::NoWay { node, range } => write!(
                f,
                "no route of this node leads to any address of Node {node}: its pods in {range} are not reached"
            ),
            Self::NoTunnels(obstacle) => write!(
                f,
                "{obstacle}: pods of nodes that are reached over VXLAN alone are not reached until then"
            ),
            Self::IsThisHost { node, address } => write!(
                f,
                "Node {node} has the address {address} of this host: no route leads to its pods (is --hostname-override \
                 right?)"
            ),
            Self::Overlap { node, range, holder, held } => write!(
                f,
                "pod range {range} of Node {node} overlaps {held} of Node {holder}, which keeps it: no route leads to \
                 the former"
            ),
            Self::OtherRoute { node, range, metric } => write!(
                f,
                "another program's route to {range} (metric {metric}) goes before ours to Node {node}, which is left to it"
            ),
            Self::NoProgram { .. }
            | Self::NoConfiguration { .. }
            | Self::OtherConfiguration { .. }
            | Self::NoHeartbeat { .. }
            | Self::NoSweep { .. } => self.fmt_of_supply(f),
        }
    }
}

impl Problem {
    /// What is wrong with the plugin's supply; of all else, nothing.
    fn fmt_of_supply(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProgram { why } => {
                write!(f, "the plugin is not in place as it should be, and it is tried again: {why}")
            }
            Self::NoConfiguration { why } => write!(
                f,
                "the plugin's configuration is not in place as it should be, and it is tried again: {why}"
            ),
            Self::OtherConfiguration { file } => write!(
                f,
                "the container runtime takes {} before ours, so that new pods have another network (remove it, or start \
                 with --cni-exclusive=true)",
                file.display()
            ),
            Self::NoHeartbeat { why } => write!(
                f,
                "the plugin does not hear that this node's pods have a network, so that the runtime will call the node not \
                 ready: {why}"
            ),
            Self::NoSweep { why } => {
                write!(f, "what pods left that are gone is not given back, and it is tried again: {why}")
            }
            _ => Ok(()),
        }
    }
}
