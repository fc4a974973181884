//! The same answers without a process: what one would believe, given these objects. Nothing is written anywhere.

use super::Inside;
use crate::dataplane::Surroundings;
use crate::delta::Delta;
use crate::ebpf::View;
use crate::frontends::{Backends, Frontend, Frontends, resolve};
use crate::history::History;
use crate::model::{Change, Model};
use crate::nft::Settings;
use crate::nft::plan::Plan;
use heddle_netlink::nft::TableFamily;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a process would hold.
#[derive(Clone, Debug)]
pub struct Offline {
    model: Model,
    frontends: Frontends,
    plans: Vec<Plan>,
    history: History,
    serves_sockets: bool,
}

impl Offline {
    /// After these changes, on the node with this name, and this address where its object is not to say it.
    pub fn of(
        (node, address): (&str, Option<IpAddr>),
        settings: &Settings,
        changes: impl IntoIterator<Item = Change>,
    ) -> Self {
        let mut model = Model::default();
        changes.into_iter().for_each(|change| model.apply(change));
        let frontends = resolve(&model, node);
        let all: BTreeMap<Frontend, Backends> =
            frontends.iter().map(|(frontend, _, backends)| (*frontend, backends.clone())).collect();
        let delta = Delta::between(&BTreeMap::new(), &all);
        let plan = |family| {
            let mut plan = Plan::new(family, settings.clone());
            plan.surround(&Surroundings::of(&model, address));
            plan.stage(&delta);
            plan
        };
        let plans = TableFamily::ALL.into_iter().map(plan).collect();
        Self { model, frontends, plans, history: History::default(), serves_sockets: false }
    }

    /// The same in a process that serves sockets, or does not.
    pub fn at_sockets(self, serves_sockets: bool) -> Self {
        Self { serves_sockets, ..self }
    }

    /// What is in it.
    pub fn inside(&self) -> Inside<'_> {
        Inside {
            model: &self.model,
            frontends: &self.frontends,
            wanted: self.plans.iter().map(Plan::table).collect(),
            history: &self.history,
            sockets: self.serves_sockets.then_some(View::Supposed),
        }
    }

    /// The addresses of the node, as far as its object has them.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.model.node().addresses.iter().copied().collect()
    }
}
