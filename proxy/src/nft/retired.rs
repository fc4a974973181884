//! What the kernel still has though nothing leads to it any more.
//!
//! A packet that did its first lookup before a commit may do its second after it, and the processor that handles it may be
//! held up in between. So what such a packet may be on its way to is left standing for a while, and costs nobody anything.
//! Two generations do: what retires is young, all that is young gets old at once, and what is old is removed a while later.
//! No element has a time of its own. This is not the wanted table, and what comes back into that is taken from here.

use super::plan::Edits;
use super::ruleset;
use crate::delta::Delta;
use heddle_netlink::nft::{Cells, Chain, Data, Name, Op, TableFamily, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::{Duration, Instant};

/// Parts of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Elements, by set.
    pub elements: BTreeMap<Name, BTreeMap<Cells, Data>>,
    /// Chains.
    pub chains: BTreeMap<Name, Chain>,
}

impl Remains {
    /// The chains that these edits take out of the wanted table.
    pub fn of_chains(edits: &Delta<Name, Chain>) -> Self {
        let gone = edits.iter().filter(|(_, edit)| edit.new.is_none());
        let chains = gone.filter_map(|(name, edit)| Some((name.clone(), edit.old.clone()?)));
        Self { chains: chains.collect(), ..Self::default() }
    }

    /// Adds elements of a set.
    pub fn add(&mut self, set: &Name, elements: impl IntoIterator<Item = (Cells, Data)>) {
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_some() {
            self.elements.entry(set.clone()).or_default().extend(elements);
        }
    }

    /// Adds those of the other's chains that this would have removed.
    pub fn add_chains(&mut self, other: &Self, removal: &Transaction) {
        for op in &removal.ops {
            if let Op::DeleteChain(name) = op
                && let Some(chain) = other.chains.get(name)
            {
                self.chains.insert(name.clone(), chain.clone());
            }
        }
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty() && self.chains.is_empty()
    }

    fn extend(&mut self, other: Self) {
        other.elements.into_iter().for_each(|(set, elements)| self.add(&set, elements));
        self.chains.extend(other.chains);
    }

    fn has_element(&self, set: &Name, key: &Cells) -> bool {
        self.elements.get(set).is_some_and(|elements| elements.contains_key(key))
    }

    /// Takes out what these edits bring back or replace, and puts it before them.
    fn revive(&mut self, family: TableFamily, edits: &mut Edits) {
        revive(&mut self.chains, &mut edits.chains, coming);
        for (set, delta) in &mut edits.elements {
            let Some(retired) = self.elements.get_mut(set) else { continue };
            if **set == *ruleset::SOURCES {
                revive(retired, delta, |retired, delta| in_the_way(family, retired, delta));
            } else {
                revive(retired, delta, coming);
            }
            if retired.is_empty() {
                self.elements.remove(set);
            }
        }
    }
}

fn revive<K: Ord + Clone, V: Eq + Clone>(
    retired: &mut BTreeMap<K, V>,
    delta: &mut Delta<K, V>,
    find: impl Fn(&BTreeMap<K, V>, &Delta<K, V>) -> Vec<K>,
) {
    for key in find(retired, delta) {
        if let Some(value) = retired.remove(&key) {
            delta.found(&key, value);
        }
    }
}

fn coming<K: Ord + Clone, V: Eq + Clone>(_: &BTreeMap<K, V>, delta: &Delta<K, V>) -> Vec<K> {
    delta.iter().filter(|(_, edit)| edit.new.is_some()).map(|(key, _)| key.clone()).collect()
}

/// The kernel refuses a new range that overlaps an old one, so those of one frontend go together.
fn in_the_way(
    family: TableFamily,
    retired: &BTreeMap<Cells, Data>,
    delta: &Delta<Cells, Data>,
) -> Vec<Cells> {
    let filtered = |key: &Cells| ruleset::frontend_of(family, ruleset::SOURCES, key);
    let coming: BTreeSet<_> = coming(retired, delta).iter().filter_map(filtered).collect();
    let replaced = |key: &&Cells| filtered(key).is_some_and(|frontend| coming.contains(&frontend));
    retired.keys().filter(replaced).copied().collect()
}

/// What a table still holds for packets that are on their way.
#[derive(Debug, Default)]
pub struct Retired {
    young: Remains,
    old: Remains,
    /// When what is old got old; when the first of what is young came, where nothing is old.
    turned: Option<Instant>,
}

impl Retired {
    /// Takes in what nothing leads to any more.
    pub fn add(&mut self, remains: Remains, now: Instant) {
        if !remains.is_empty() {
            self.turned = self.turned.filter(|_| !self.is_empty()).or(Some(now));
            self.young.extend(remains);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// Takes out what is retired neither here nor in `new`: others have put it there.
    pub fn take_foreign(&self, new: &Remains, remains: &mut Remains) -> Remains {
        let known = [&self.young, &self.old, new];
        let is_foreign = |set: &Name, key: &Cells| !known.iter().any(|known| known.has_element(set, key));
        let mut foreign = Remains::default();
        for (set, elements) in &mut remains.elements {
            foreign.add(set, elements.extract_if(.., |key, _| is_foreign(set, key)));
        }
        remains.elements.retain(|_, elements| !elements.is_empty());
        let is_foreign = |name: &Name| !known.iter().any(|known| known.chains.contains_key(name));
        foreign.chains = remains.chains.extract_if(.., |name, _| is_foreign(name)).collect();
        foreign
    }

    /// Puts what comes back before the edits that bring it: the kernel has it.
    pub fn revive(&mut self, family: TableFamily, edits: &mut Edits) {
        self.young.revive(family, edits);
        self.old.revive(family, edits);
    }

    /// When to remove something, if a packet takes at most `transit` between two lookups.
    pub fn due(&self, transit: Duration) -> Option<Instant> {
        self.turned.filter(|_| !self.is_empty()).map(|turned| turned + transit)
    }

    /// What can be removed now; `None` when that is to wait. After something was taken there may be more.
    pub fn take_ripe(&mut self, now: Instant, transit: Duration) -> Option<Remains> {
        self.due(transit).filter(|due| *due <= now)?;
        self.turned = Some(now);
        let young = mem::take(&mut self.young);
        Some(mem::replace(&mut self.old, young))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str) -> Remains {
        Remains { chains: [(name.into(), Chain::default())].into(), ..Remains::default() }
    }

    #[test]
    fn what_retires_stays_for_one_to_two_transits() {
        let (start, transit) = (Instant::now(), Duration::from_millis(10));
        let at = |moment| start + Duration::from_millis(moment);
        let mut retired = Retired::default();
        assert_eq!(retired.due(transit), None);
        retired.add(chain("first"), at(0));
        retired.add(chain("second"), at(9));
        assert_eq!(retired.due(transit), Some(at(10)));
        assert_eq!(retired.take_ripe(at(9), transit), None);
        assert_eq!(retired.take_ripe(at(10), transit), Some(Remains::default()));
        retired.add(chain("third"), at(11));
        assert_eq!(retired.take_ripe(at(19), transit), None);
        let ripe = retired.take_ripe(at(20), transit).unwrap();
        assert_eq!(ripe.chains.keys().map(|name| &**name).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(retired.take_ripe(at(30), transit), Some(chain("third")));
        assert_eq!(retired.due(transit), None);
    }

    #[test]
    fn after_a_rest_the_first_to_retire_begins_a_transit_anew() {
        let (start, transit) = (Instant::now(), Duration::from_millis(10));
        let at = |moment| start + Duration::from_millis(moment);
        let mut retired = Retired::default();
        retired.add(chain("first"), at(0));
        retired.take_ripe(at(10), transit);
        retired.take_ripe(at(20), transit);
        retired.add(chain("second"), at(100));
        assert_eq!(retired.due(transit), Some(at(110)));
    }
}
