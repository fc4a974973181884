//! The objects, and everything that ever happened to them since the last compaction.
//!
//! One counter numbers every change, as etcd does; it is the `resourceVersion` of objects and lists. The store knows
//! keys, revisions and history; it does not know what a Service is. Its invariant: undoing the history from the
//! objects, newest first, gives the state at any revision back to `compacted`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::claims::Claims;
use super::resource::Resource;

/// Where an object is kept. Ordered by kind, namespace and name, which is the order of lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) plural: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(resource: &Resource, namespace: &str, name: &str) -> Self {
        let namespace = if resource.namespaced { namespace.to_owned() } else { String::new() };
        Self { plural: resource.plural, namespace, name: name.to_owned() }
    }
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// The history that was asked for is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// The oldest revision that is still known.
    pub(crate) oldest: u64,
}

/// All objects and their recent history.
#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Event>,
    history_limit: usize,
    revision: u64,
    compacted: u64,
    pub(crate) claims: Claims,
}

impl Store {
    /// An empty store that remembers its last `history_limit` changes.
    pub(crate) fn new(claims: Claims, history_limit: usize) -> Self {
        let (objects, history) = (BTreeMap::new(), VecDeque::new());
        // Revision 0 means "any" in requests, so no state may have it.
        Self { objects, history, history_limit, revision: 1, compacted: 1, claims }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// The objects of a kind, in all namespaces or in one.
    pub(crate) fn find_all(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        let namespace = namespace.map(str::to_owned);
        let first = Key::new(resource, namespace.as_deref().unwrap_or_default(), "");
        let plural = resource.plural;
        self.objects.range(first..).take_while(move |(key, _)| {
            key.plural == plural && namespace.as_ref().is_none_or(|it| key.namespace == *it)
        })
    }

    /// The keys of everything in a namespace.
    pub(crate) fn keys_in_namespace(&self, namespace: &str) -> Vec<Key> {
        self.objects.keys().filter(|key| key.namespace == namespace).cloned().collect()
    }

    /// The objects of a kind as they were at `revision`.
    pub(crate) fn snapshot(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<BTreeMap<Key, Arc<Value>>, Compacted> {
        let later = self.events_after(revision)?;
        let mut objects: BTreeMap<_, _> = self
            .find_all(resource, namespace)
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        let ours = later.filter(|event| {
            event.key.plural == resource.plural && namespace.is_none_or(|it| event.key.namespace == it)
        });
        for event in ours.rev() {
            match &event.before {
                Some(before) => objects.insert(event.key.clone(), Arc::clone(before)),
                None => objects.remove(&event.key),
            };
        }
        Ok(objects)
    }

    /// The changes after `revision`, oldest first.
    pub(crate) fn events_after(
        &self,
        revision: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Event>, Compacted> {
        if revision < self.compacted {
            return Err(Compacted { oldest: self.compacted });
        }
        let first = self.history.partition_point(|event| event.revision <= revision);
        Ok(self.history.range(first..))
    }

    /// Sets an object, or removes it, and numbers the change. Returns the object as stored or as it last was.
    pub(crate) fn commit(&mut self, key: &Key, object: Option<Value>, resource: &Resource) -> Arc<Value> {
        self.revision += 1;
        let before = self.objects.get(key).cloned();
        for claim in before.iter().flat_map(|it| (resource.claims)(it)) {
            self.claims.release(claim, key);
        }
        let after = object.map(|object| Arc::new(stamp(object, self.revision)));
        if let Some(after) = &after {
            for claim in (resource.claims)(after) {
                self.claims.hold(claim, key);
            }
            self.objects.insert(key.clone(), Arc::clone(after));
        } else {
            self.objects.remove(key);
        }
        let kept = after.clone().or_else(|| before.clone()).unwrap_or_default();
        self.history.push_back(Event { revision: self.revision, key: key.clone(), before, after });
        self.trim(self.history_limit);
        kept
    }

    /// Forgets the history: older revisions can no longer be listed or watched from.
    pub(crate) fn compact(&mut self) {
        self.trim(0);
        self.compacted = self.revision;
    }

    fn trim(&mut self, limit: usize) {
        while self.history.len() > limit {
            if let Some(event) = self.history.pop_front() {
                self.compacted = event.revision;
            }
        }
    }
}

/// The object with the version that it got.
pub(crate) fn stamp(mut object: Value, revision: u64) -> Value {
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    object
}

#[cfg(test)]
mod tests {
    use super::super::kinds::node::RESOURCE;
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(&RESOURCE, "ignored", name)
    }

    fn store(limit: usize) -> Store {
        Store::new(Claims::new(Vec::new(), 1..=1), limit)
    }

    fn set(store: &mut Store, name: &str, color: &str) -> u64 {
        store.commit(&key(name), Some(json!({"metadata": {"name": name}, "color": color})), &RESOURCE);
        store.revision()
    }

    fn colors(store: &Store, revision: u64) -> Result<Vec<String>, Compacted> {
        let objects = store.snapshot(&RESOURCE, None, revision)?;
        Ok(objects.values().map(|it| it["color"].as_str().unwrap_or_default().to_owned()).collect())
    }

    #[test]
    fn every_change_has_its_own_revision_and_stamps_the_object() {
        let mut store = store(9);
        let first = set(&mut store, "a", "red");
        let second = set(&mut store, "a", "blue");
        assert_eq!(second, first + 1);
        assert_eq!(store.get(&key("a")).unwrap()["metadata"]["resourceVersion"], second.to_string());
    }

    #[test]
    fn any_state_since_the_compaction_can_be_read_again() {
        let mut store = store(9);
        let empty = store.revision();
        let red = set(&mut store, "a", "red");
        let blue = set(&mut store, "a", "blue");
        let both = set(&mut store, "b", "green");
        store.commit(&key("a"), None, &RESOURCE);
        assert_eq!(colors(&store, empty), Ok(vec![]));
        assert_eq!(colors(&store, red), Ok(vec!["red".into()]));
        assert_eq!(colors(&store, blue), Ok(vec!["blue".into()]));
        assert_eq!(colors(&store, both), Ok(vec!["blue".into(), "green".into()]));
        assert_eq!(colors(&store, store.revision()), Ok(vec!["green".into()]));
    }

    #[test]
    fn compaction_forgets_the_past_and_keeps_the_present() {
        let mut store = store(9);
        let old = set(&mut store, "a", "red");
        let now = set(&mut store, "a", "blue");
        store.compact();
        assert_eq!(colors(&store, old), Err(Compacted { oldest: now }));
        assert!(store.events_after(old).is_err());
        assert_eq!(colors(&store, now), Ok(vec!["blue".into()]));
    }

    #[test]
    fn a_full_history_loses_its_oldest_changes() {
        let mut store = store(2);
        let revisions: Vec<_> =
            ["a", "b", "c"].into_iter().map(|name| set(&mut store, name, "red")).collect();
        assert!(store.events_after(revisions[0] - 1).is_err());
        let later: Vec<_> = store.events_after(revisions[0]).unwrap().map(|event| event.revision).collect();
        assert_eq!(later, revisions[1..]);
    }
}
