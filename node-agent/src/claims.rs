//! Whose pods have which addresses.
//!
//! Pure. Invariant: no two claims overlap. Our own node's ranges come first, since its pods are here; then the others' by
//! name, so that every node of the cluster decides alike.

use crate::cluster::Cluster;
use crate::problem::Problem;
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A node's range of pod addresses.
pub type Claim<'a> = (&'a Node, IpNetwork);

/// The claims that count, by their first addresses, and the ranges that do not.
pub fn claims<'a>(cluster: &'a Cluster, own: &'a str) -> (BTreeMap<IpAddr, Claim<'a>>, Vec<Problem>) {
    let (mut claims, mut problems) = (BTreeMap::new(), Vec::new());
    let nodes = cluster.node(own).into_iter().chain(cluster.others(own));
    for (node, range) in nodes.flat_map(|node| node.pod_cidrs.iter().map(move |range| (node, *range))) {
        match find_overlap(&claims, range) {
            None => {
                claims.insert(range.network(), (node, range));
            }
            Some((holder, held)) => problems.push(Problem::Overlap {
                node: node.name.clone(),
                range,
                holder: holder.name.clone(),
                held,
            }),
        }
    }
    (claims, problems)
}

/// Ranges of prefixes nest or lie apart, and claims lie apart: only the neighbours can overlap.
fn find_overlap<'a>(claims: &BTreeMap<IpAddr, Claim<'a>>, range: IpNetwork) -> Option<Claim<'a>> {
    let first = range.network();
    let before = claims.range(..=first).next_back().filter(|(_, (_, held))| held.contains(first));
    let within = || claims.range(first..).next().filter(|(start, _)| range.contains(**start));
    before.or_else(within).map(|(_, claim)| *claim)
}
