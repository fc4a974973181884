//! What is wrong, one sentence each, with what follows from it.

use ipnetwork::IpNetwork;
use std::fmt;
use std::net::IpAddr;
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
    /// A node's address is not on a link of ours.
    NotOnLink {
        /// The node.
        node: Arc<str>,
        /// Its range.
        range: IpNetwork,
        /// Its address.
        address: IpAddr,
    },
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
                "Node {node} ({address}) is not on a link of this node, so no route leads to its pods in {range}: that \
                 takes VXLAN, which heddle-node does not have yet"
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
        }
    }
}
