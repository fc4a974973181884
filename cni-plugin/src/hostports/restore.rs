//! What is missing of the ports of all pods, and how it comes back.
//!
//! The plugin is a process that ends; whoever stays (heddle-node) looks when the table changed. What should be there is what the
//! links of pods remember. Invariant: nothing is taken from a pod that has it, and nothing is written while all is there.

use super::claim::Claim;
use super::{Error, HostPorts, families, refused, ruleset};
use crate::node::Node;
use heddle_netlink::nft::{self, TableFamily};
use std::collections::BTreeMap;

/// What should be there and is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// A table that pods have ports in is gone or was edited: nobody but us does so for a good reason.
    pub broken: bool,
    /// All ports of the pods that lack one, by the notes of their elements. With whole tables, it may be a DEL that takes them:
    /// it removes elements first, and then the link.
    pub pods: BTreeMap<String, Vec<Claim>>,
}

impl HostPorts {
    /// Compares the tables with what the links of pods remember.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn find_missing(&mut self, node: &mut Node) -> Result<Missing, Error> {
        let mut missing = Missing { broken: false, pods: node.remembered_ports()?.into_iter().collect() };
        let all: Vec<Claim> = missing.pods.values().flatten().cloned().collect();
        for family in families(&all) {
            missing.broken |= !self.is_whole(family)?;
        }
        let elements = self.read(&TableFamily::ALL)?;
        let has: Vec<_> = elements.all.iter().filter_map(|(_, element)| ruleset::claim(element)).collect();
        missing.pods.retain(|_, claims| missing.broken || claims.iter().any(|claim| !has.contains(claim)));
        Ok(missing)
    }

    pub(super) fn is_whole(&mut self, family: TableFamily) -> Result<bool, Error> {
        let rules = nft::load_rules(&mut self.socket, family, ruleset::TABLE);
        Ok(rules.map_err(refused("read the table of host ports"))? == ruleset::rules(family))
    }
}
