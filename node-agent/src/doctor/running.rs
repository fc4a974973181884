//! What the running agent says of itself, by the JSON of `heddle-node status`. Pure.
//!
//! Not all that it says: how it does, and the Nodes that it believes in.

use super::facts::Read;
use crate::cluster::Cluster;
use heddle_proxy::model::{Change, Kind, Node};
use serde::Deserialize;
use std::net::IpAddr;

/// The agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Running {
    /// The name of our own node.
    pub node: String,
    /// `whole`, `waiting` or `failing`.
    pub state: String,
    /// Why it is not whole.
    pub why: Option<String>,
    /// How other nodes' pods are to be reached: `auto`, `routes` or `vxlan`.
    pub mode: String,
    /// The pod ranges of our own node.
    pub ranges: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The others.
    pub peers: Vec<Peer>,
}

/// Another node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// Its name.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// One for each range of its pods.
    pub paths: Vec<Path>,
}

/// How a range of pods is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Path {
    /// The range.
    pub range: String,
}

impl Running {
    /// Reads what `heddle-node status --output json` prints.
    ///
    /// # Errors
    /// When it is not that.
    pub fn read(text: &str) -> Read<Self> {
        serde_json::from_str(text).map_err(|error| format!("it says what cannot be read: {error}"))
    }

    /// The Nodes that it believes in.
    ///
    /// # Errors
    /// When it does not know all of them yet.
    pub fn cluster(&self) -> Read<Cluster> {
        if self.state == "waiting" {
            return Err("heddle-node does not know all of them yet".to_owned());
        }
        let mut cluster = Cluster::default();
        // A Node without ranges and addresses and one that is not there are the same to it.
        if !(self.ranges.is_empty() && self.addresses.is_empty()) {
            cluster.apply(Change::NodeApplied(node(&self.node, &self.addresses, self.ranges.iter())));
        }
        for Peer { node: name, addresses, paths } in &self.peers {
            cluster.apply(Change::NodeApplied(node(name, addresses, paths.iter().map(|path| &path.range))));
        }
        cluster.apply(Change::Complete(Kind::Node));
        Ok(cluster)
    }
}

fn node<'a>(name: &str, addresses: &[IpAddr], ranges: impl Iterator<Item = &'a String>) -> Node {
    Node {
        name: name.into(),
        addresses: addresses.to_owned(),
        pod_cidrs: ranges.filter_map(|range| range.parse().ok()).collect(),
        ..Node::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file is what `heddle-node status` prints, as its own tests hold it.
    #[test]
    fn nodes_are_those_that_status_prints() {
        let running = Running::read(include_str!("../../tests/look/status.json")).unwrap();
        assert_eq!((&*running.node, &*running.state, &*running.mode), ("node-1", "whole", "auto"));
        let cluster = running.cluster().unwrap();
        assert!(cluster.is_complete());
        let own = cluster.node("node-1").unwrap();
        assert_eq!((own.pod_cidrs.len(), own.addresses.len()), (2, 2));
        let names: Vec<_> =
            cluster.others("node-1").map(|node| (&*node.name, node.pod_cidrs.len())).collect();
        assert_eq!(names, [("node-2", 1), ("node-3", 1), ("node-4", 1), ("node-5", 0)]);
    }

    #[test]
    fn an_agent_that_waits_knows_no_nodes_and_words_of_another_are_refused() {
        let waiting = Running { state: "waiting".to_owned(), ..Running::default() };
        assert!(waiting.cluster().is_err());
        let whole = Running { state: "whole".to_owned(), ..Running::default() };
        assert!(whole.cluster().unwrap().node("").is_none());
        assert!(Running::read("{}").is_err());
    }
}
