//! What the cluster says of its nodes, nothing derived.
//!
//! Not Kubernetes' types: sources hand in what they converted. Pure. Invariant: it counts as complete only after the source
//! has told of every node once.

use heddle_proxy::model::{Change, Kind, Node};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    nodes: BTreeMap<Arc<str>, Node>,
    complete: bool,
}

impl Cluster {
    /// Takes one change in; those of other kinds of objects are passed over. Returns whether anything is different.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::NodeApplied(node) => {
                let old = self.nodes.insert(node.name.clone(), node.clone());
                old.as_ref() != Some(&node)
            }
            Change::NodeGone(name) => self.nodes.remove(&name).is_some(),
            Change::Complete(Kind::Node) => !std::mem::replace(&mut self.complete, true),
            _ => false,
        }
    }

    /// Whether every node is known.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// One node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All but one, in the order of their names.
    pub fn others<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.values().filter(move |node| *node.name != *name)
    }

    /// All of them, in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }
}
