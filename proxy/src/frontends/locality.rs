//! Which ports of Services are without an endpoint of this node, where their policy wants one.
//!
//! Only counted, Service by Service: connections to them are dropped by what [`Backends`] says.

use super::{Backends, Frontend, IpFamily, Reach, Unserved};
use crate::model::ObjectName;
use std::collections::BTreeMap;

/// Where connections come from, as far as traffic policies tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Those to cluster IPs.
    Internal,
    /// All others.
    External,
}

/// By traffic and family.
type Counts = [usize; 4];

/// The ports of all Services.
#[derive(Clone, Debug, Default)]
pub(super) struct Localities {
    /// Only Services that have such ports.
    by_service: BTreeMap<ObjectName, Counts>,
    sum: Counts,
}

impl Localities {
    /// Takes in what a Service claims now.
    pub(super) fn replace(&mut self, service: &ObjectName, claimed: &BTreeMap<Frontend, Backends>) {
        let new = count(claimed);
        let old = if new == Counts::default() {
            self.by_service.remove(service)
        } else {
            self.by_service.insert(service.clone(), new)
        };
        for ((sum, new), old) in self.sum.iter_mut().zip(new).zip(old.unwrap_or_default()) {
            *sum = *sum + new - old;
        }
    }

    pub(super) fn ports_without_local(&self, traffic: Traffic, family: IpFamily) -> usize {
        self.sum[index(traffic, family)]
    }
}

fn index(traffic: Traffic, family: IpFamily) -> usize {
    usize::from(traffic == Traffic::External) * 2 + usize::from(family == IpFamily::V6)
}

/// A port counts once, however many addresses it has: it has each of them, and a node port besides, or none.
fn count(claimed: &BTreeMap<Frontend, Backends>) -> Counts {
    let mut counts = Counts::default();
    let mut at_place = BTreeMap::new();
    for (frontend, backends) in claimed {
        if backends.unserved() != Some(Unserved::Drop) {
            continue;
        }
        let internal = backends.reach == Reach::ClusterIp;
        let traffic = if internal { Traffic::Internal } else { Traffic::External };
        let at = index(traffic, frontend.place.family());
        let ports: &mut usize = at_place.entry((at, frontend.place)).or_default();
        *ports += 1;
        counts[at] = counts[at].max(*ports);
    }
    counts
}
