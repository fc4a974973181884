//! Frontends into the wanted table, with the edits since the last time.
//!
//! A [`Plan`] is the wanted table of one family, kept up edit by edit; nothing is derived twice. Invariant: the table is a
//! function of the frontends, but for the order of one frontend's endpoints among its slots, which is kept as stable as it
//! can be so that one changed endpoint is one changed slot.

use super::ruleset;
use crate::delta::{Delta, Edit};
use crate::frontends::{Backends, Endpoint, Frontend};
use heddle_netlink::nft::{Cells, Chain, Data, Name, Table, TableFamily};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Edits of a table's content, in the kernel's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Chains made, changed or gone.
    pub chains: Delta<Name, Chain>,
    /// Elements made, changed or gone, by set.
    pub elements: BTreeMap<Name, Delta<Cells, Data>>,
}

/// The wanted table of one family.
#[derive(Clone, Debug)]
pub struct Plan {
    table: Table,
    edits: Edits,
    /// How many frontends use the chain for this number of endpoints.
    spread_uses: BTreeMap<usize, usize>,
    /// How many times each address is a local endpoint.
    hairpin_uses: BTreeMap<IpAddr, usize>,
    /// How many frontends have no endpoint.
    rejecting: usize,
}

impl Plan {
    /// The plan for no Service at all.
    pub fn new(family: TableFamily) -> Self {
        Self {
            table: ruleset::empty(family),
            edits: Edits::default(),
            spread_uses: BTreeMap::new(),
            hairpin_uses: BTreeMap::new(),
            rejecting: 0,
        }
    }

    /// The wanted table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What changed since the last call.
    pub fn take_edits(&mut self) -> Edits {
        std::mem::take(&mut self.edits)
    }

    /// Takes edits of frontends in; those of the other family are not ours.
    pub fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        for (frontend, edit) in delta.iter() {
            if TableFamily::of(frontend.address) == self.table.family {
                self.stage_frontend(frontend, edit);
            }
        }
    }

    fn stage_frontend(&mut self, frontend: &Frontend, edit: &Edit<Backends>) {
        let key = ruleset::frontend_key(frontend);
        let old: &[Endpoint] = edit.old.as_ref().map_or(&[], |b| &b.endpoints);
        let new: &[Endpoint] = edit.new.as_ref().map_or(&[], |b| &b.endpoints);
        self.count_hairpins(new, true);
        self.count_hairpins(old, false);
        self.fill_slots(key, old.len(), new);
        if old.len() != new.len() {
            self.count_spread(new.len(), true);
            self.count_spread(old.len(), false);
            let goto = (!new.is_empty()).then(|| Data::Goto(ruleset::spread_name(new.len())));
            self.set_element(ruleset::SERVICES, key, goto);
        }
        let rejected = edit.old.is_some() && old.is_empty();
        let rejects = edit.new.is_some() && new.is_empty();
        if rejected != rejects {
            self.set_rejecting(key, rejects);
        }
    }

    /// Puts endpoints into the slots 0..n, leaving those that stay where they are.
    fn fill_slots(&mut self, key: Cells, old_count: usize, endpoints: &[Endpoint]) {
        let slot = |i: usize| key.slot(u32::try_from(i).expect("a Service has fewer than 2^32 endpoints"));
        let held = &self.table.sets[ruleset::ENDPOINTS].elements;
        let before: Vec<Option<Cells>> = (0..old_count)
            .map(|i| match held.get(&slot(i)) {
                Some(Data::Cells(cells)) => Some(*cells),
                _ => None,
            })
            .collect();
        let after = assign(&before, endpoints.iter().map(ruleset::endpoint_data).collect());
        for i in 0..old_count.max(after.len()) {
            let wanted = after.get(i).copied();
            if before.get(i).copied().flatten() != wanted {
                self.set_element(ruleset::ENDPOINTS, slot(i), wanted.map(Data::Cells));
            }
        }
    }

    fn count_spread(&mut self, count: usize, more: bool) {
        if count > 0 && step(&mut self.spread_uses, count, more) {
            let chain = more.then(|| ruleset::spread_chain(count));
            self.edits.chains.set(&mut self.table.chains, ruleset::spread_name(count), chain);
        }
    }

    fn count_hairpins(&mut self, endpoints: &[Endpoint], more: bool) {
        for endpoint in endpoints.iter().filter(|e| e.local) {
            if step(&mut self.hairpin_uses, endpoint.address, more) {
                self.set_element(
                    ruleset::HAIRPIN,
                    ruleset::hairpin_key(endpoint.address),
                    more.then_some(Data::None),
                );
            }
        }
    }

    fn set_rejecting(&mut self, key: Cells, rejects: bool) {
        self.set_element(ruleset::NO_ENDPOINTS, key, rejects.then_some(Data::None));
        let before = self.rejecting;
        self.rejecting = if rejects { before + 1 } else { before - 1 };
        if (before == 0) != (self.rejecting == 0) {
            for (name, chain) in ruleset::reject_chains() {
                self.edits.chains.set(&mut self.table.chains, name, rejects.then_some(chain));
            }
        }
    }

    fn set_element(&mut self, set: &str, key: Cells, data: Option<Data>) {
        let elements =
            &mut self.table.sets.get_mut(set).expect("the table has all its sets from the start").elements;
        if !self.edits.elements.contains_key(set) {
            self.edits.elements.insert(set.into(), Delta::default());
        }
        if let Some(delta) = self.edits.elements.get_mut(set) {
            delta.set(elements, key, data);
        }
    }
}

/// Counts one use more or less; true when the first came or the last went.
fn step<K: Ord + Copy>(uses: &mut BTreeMap<K, usize>, key: K, more: bool) -> bool {
    let count = uses.entry(key).or_default();
    if more {
        *count += 1;
        return *count == 1;
    }
    *count -= 1;
    let last = *count == 0;
    if last {
        uses.remove(&key);
    }
    last
}

/// Places `wanted` into as many slots: what is in one of them already stays, the others fill the gaps in order.
fn assign(before: &[Option<Cells>], mut wanted: BTreeSet<Cells>) -> Vec<Cells> {
    let count = wanted.len();
    let mut slots: Vec<Option<Cells>> = before.iter().take(count).copied().collect();
    slots.resize(count, None);
    for slot in &mut slots {
        *slot = slot.filter(|cells| wanted.remove(cells));
    }
    let mut rest = wanted.into_iter();
    slots.into_iter().filter_map(|slot| slot.or_else(|| rest.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cells(ports: &[u16]) -> Vec<Cells> {
        ports.iter().map(|port| Cells::default().port(*port)).collect()
    }

    #[test]
    fn a_removed_endpoint_leaves_the_others_in_their_slots() {
        let before: Vec<Option<Cells>> = cells(&[1, 2, 3, 4]).into_iter().map(Some).collect();
        let after = assign(&before, cells(&[1, 3, 4]).into_iter().collect());
        assert_eq!(after, cells(&[1, 4, 3]), "only the last one moves, into the gap");
    }

    #[test]
    fn a_replaced_endpoint_takes_the_slot_of_the_old_one() {
        let before: Vec<Option<Cells>> = cells(&[1, 2, 3]).into_iter().map(Some).collect();
        assert_eq!(assign(&before, cells(&[1, 9, 3]).into_iter().collect()), cells(&[1, 9, 3]));
    }

    proptest! {
        #[test]
        fn every_wanted_endpoint_has_one_slot_and_few_slots_change(
            before in prop::collection::btree_set(0..20_u16, 0..12),
            wanted in prop::collection::btree_set(0..20_u16, 0..12),
        ) {
            let old: Vec<Option<Cells>> =
                before.iter().map(|port| Some(Cells::default().port(*port))).collect();
            let wanted_cells: BTreeSet<Cells> = wanted.iter().map(|port| Cells::default().port(*port)).collect();
            let after = assign(&old, wanted_cells.clone());
            prop_assert_eq!(after.len(), wanted.len());
            prop_assert_eq!(after.iter().copied().collect::<BTreeSet<_>>(), wanted_cells);
            let longest = after.len().max(old.len());
            let changed = (0..longest).filter(|i| old.get(*i).copied().flatten() != after.get(*i).copied()).count();
            let differing = before.symmetric_difference(&wanted).count();
            prop_assert!(changed <= 2 * differing, "{} slots for {} differences", changed, differing);
        }
    }
}
