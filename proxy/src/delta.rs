//! The difference between two ordered maps.
//!
//! A [`Delta`] is either computed between two maps, or recorded while one of them is edited. It holds only keys whose
//! value really differs, with the value before and after. It knows nothing of what keys and values mean.

use std::collections::BTreeMap;

/// One key's value before and after; never the same twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<V> {
    /// Before; `None` when the key is new.
    pub old: Option<V>,
    /// After; `None` when the key is gone.
    pub new: Option<V>,
}

/// The edits that lead from one map to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<K, V> {
    edits: BTreeMap<K, Edit<V>>,
}

impl<K, V> Default for Delta<K, V> {
    fn default() -> Self {
        Self { edits: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V: Eq + Clone> Delta<K, V> {
    /// What leads from `old` to `new`.
    pub fn between(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
        let cloned = |(key, value): (&K, &V)| (key.clone(), value.clone());
        Self::merge(old.iter().map(cloned), new.iter().map(cloned))
    }

    /// The same for maps of any kind: both sides in the order of their keys.
    pub fn merge(old: impl Iterator<Item = (K, V)>, new: impl Iterator<Item = (K, V)>) -> Self {
        let mut edits = BTreeMap::new();
        let mut old = old.peekable();
        for (key, value) in new {
            while let Some((gone, value)) = old.next_if(|(other, _)| *other < key) {
                edits.insert(gone, Edit { old: Some(value), new: None });
            }
            let before = old.next_if(|(other, _)| *other == key).map(|(_, value)| value);
            if before.as_ref() != Some(&value) {
                edits.insert(key, Edit { old: before, new: Some(value) });
            }
        }
        edits.extend(old.map(|(gone, value)| (gone, Edit { old: Some(value), new: None })));
        Self { edits }
    }

    /// Adds an edit. Edits of one key add up: the oldest value before and the newest after are kept, and a key that is
    /// back at its first value is no edit at all.
    pub fn record(&mut self, key: &K, old: Option<&V>, new: Option<&V>) {
        let first = match self.edits.remove(key) {
            Some(edit) => edit.old,
            None => old.cloned(),
        };
        if first.as_ref() != new {
            self.edits.insert(key.clone(), Edit { old: first, new: new.cloned() });
        }
    }

    /// Says what a key had before its first edit, where that was thought to be nothing. A key without an edit is then gone.
    pub fn found(&mut self, key: &K, old: V) {
        let new = self.edits.remove(key).and_then(|edit| edit.new);
        if new.as_ref() != Some(&old) {
            self.edits.insert(key.clone(), Edit { old: Some(old), new });
        }
    }

    /// Sets a key of `map` (`None` removes it) and records the edit.
    pub fn set(&mut self, map: &mut BTreeMap<K, V>, key: K, new: Option<V>) {
        self.record(&key, map.get(&key), new.as_ref());
        match new {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }

    /// The edits, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Edit<V>)> {
        self.edits.iter()
    }

    /// How one key changes, if it does.
    pub fn get(&self, key: &K) -> Option<&Edit<V>> {
        self.edits.get(key)
    }

    /// True when the maps are equal.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Number of keys that differ.
    pub fn len(&self) -> usize {
        self.edits.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map() -> impl Strategy<Value = BTreeMap<u8, u8>> {
        prop::collection::btree_map(0..6_u8, 0..3_u8, 0..6)
    }

    fn after(mut map: BTreeMap<u8, u8>, delta: &Delta<u8, u8>) -> BTreeMap<u8, u8> {
        for (key, edit) in delta.iter() {
            assert_eq!(map.get(key), edit.old.as_ref());
            match edit.new {
                Some(value) => map.insert(*key, value),
                None => map.remove(key),
            };
        }
        map
    }

    proptest! {
        #[test]
        fn the_edits_lead_from_one_map_to_the_other(old in map(), new in map()) {
            let delta = Delta::between(&old, &new);
            prop_assert_eq!(after(old, &delta), new);
        }

        #[test]
        fn a_map_does_not_differ_from_itself(map in map()) {
            prop_assert!(Delta::between(&map, &map).is_empty());
        }

        #[test]
        fn what_is_found_later_makes_the_edits_those_from_it(found in map(), new in map()) {
            let mut delta = Delta::between(&BTreeMap::new(), &new);
            found.iter().for_each(|(key, value)| delta.found(key, *value));
            prop_assert_eq!(delta, Delta::between(&found, &new));
        }

        #[test]
        fn recorded_edits_are_those_between_start_and_end(
            start in map(), steps in prop::collection::vec((0..6_u8, prop::option::of(0..3_u8)), 0..20),
        ) {
            let mut map = start.clone();
            let mut recorded = Delta::default();
            for (key, value) in steps {
                recorded.set(&mut map, key, value);
            }
            prop_assert_eq!(recorded, Delta::between(&start, &map));
        }
    }
}
