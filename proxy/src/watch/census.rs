//! What the API server has said of one kind, and what that changes.
//!
//! Not a cache: it keeps the names of the objects that the model holds and nothing else. Pure. Invariant: the changes
//! that it gave name exactly the objects that are held, and an object leaves only when the server says that it is gone, or
//! lists everything and leaves it out.

use std::collections::BTreeMap;
use std::mem;

use crate::convert::{Key, Verdict};
use crate::memory;
use crate::model::{Change, Kind, ObjectName};

/// The names of one kind.
#[derive(Debug)]
pub(super) struct Census {
    kind: Kind,
    known: BTreeMap<ObjectName, Known>,
    /// The list that is being read holds something that cannot be told to be any object.
    has_nameless: bool,
}

/// What is known of one object; never neither of the two.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The model holds it.
    is_held: bool,
    /// The list that is being read holds it.
    is_listed: bool,
}

impl Census {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, known: BTreeMap::new(), has_nameless: false }
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.known.retain(|_, known| {
            known.is_listed = false;
            known.is_held
        });
        self.has_nameless = false;
    }

    /// The list that began holds this object; what it says comes by [`Census::exists`].
    pub(super) fn lists(&mut self, name: ObjectName) {
        self.known.entry(name).or_default().is_listed = true;
    }

    /// The list that began holds something without a name, which may be any object.
    pub(super) fn lists_nameless(&mut self) {
        self.has_nameless = true;
    }

    /// Whether the list, which is complete, leaves this object out.
    pub(super) fn is_missing(&self, name: &ObjectName) -> bool {
        !self.has_nameless && !self.known.get(name).is_some_and(|known| known.is_listed)
    }

    /// The list is complete: what it left out is gone.
    pub(super) fn end(&mut self) -> Vec<Change> {
        let missing: Vec<ObjectName> = self.held().filter(|name| self.is_missing(name)).cloned().collect();
        self.begin();
        let gone = missing.into_iter().filter_map(|name| self.is_gone(name)).collect::<Vec<_>>();
        memory::pack(&mut self.known);
        gone.into_iter().chain([Change::Complete(self.kind)]).collect()
    }

    /// An object exists.
    pub(super) fn exists(&mut self, name: ObjectName, verdict: Verdict) -> Option<Change> {
        match verdict {
            Verdict::Ours(object, _) => {
                self.known.entry(name.clone()).or_default().is_held = true;
                Some(object.applied(Key { kind: self.kind, name }))
            }
            Verdict::Ignored(_) | Verdict::Stray(_) => self.is_gone(name),
        }
    }

    /// An object is gone.
    pub(super) fn is_gone(&mut self, name: ObjectName) -> Option<Change> {
        let known = self.known.get_mut(&name)?;
        let was_held = mem::take(&mut known.is_held);
        if !known.is_listed {
            self.known.remove(&name);
        }
        was_held.then(|| Key { kind: self.kind, name }.gone())
    }

    /// The objects that the model holds.
    fn held(&self) -> impl Iterator<Item = &ObjectName> {
        self.known.iter().filter(|(_, known)| known.is_held).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::convert::Object;
    use crate::model::Service;

    fn name(name: &str) -> ObjectName {
        ObjectName::new("default", name)
    }

    fn ours() -> Verdict {
        Verdict::Ours(Object::Service(Arc::default()), vec![])
    }

    #[test]
    fn a_list_takes_back_what_it_leaves_out() {
        let mut census = Census::new(Kind::Service);
        census.begin();
        for held in ["a", "b"] {
            census.lists(name(held));
            census.exists(name(held), ours());
        }
        assert_eq!(census.end(), [Change::Complete(Kind::Service)]);
        census.begin();
        census.lists(name("b"));
        assert_eq!(census.end(), [Change::ServiceGone(name("a")), Change::Complete(Kind::Service)]);
    }

    #[test]
    fn a_list_that_breaks_off_takes_nothing_back() {
        let mut census = Census::new(Kind::Service);
        census.begin();
        census.lists(name("a"));
        census.exists(name("a"), ours());
        census.end();
        census.begin();
        census.begin();
        census.lists(name("a"));
        assert_eq!(census.end(), [Change::Complete(Kind::Service)]);
    }

    #[test]
    fn an_object_that_cannot_be_converted_keeps_its_last_good_state_even_across_a_list() {
        let mut census = Census::new(Kind::Service);
        census.exists(name("a"), ours());
        census.begin();
        // It is listed, and nothing is said of its content.
        census.lists(name("a"));
        assert_eq!(census.end(), [Change::Complete(Kind::Service)]);
    }

    #[test]
    fn a_list_with_something_nameless_takes_nothing_back_and_the_next_one_does() {
        let mut census = Census::new(Kind::Service);
        census.exists(name("a"), ours());
        census.begin();
        census.lists_nameless();
        assert!(!census.is_missing(&name("a")));
        assert_eq!(census.end(), [Change::Complete(Kind::Service)]);
        census.begin();
        assert_eq!(census.end(), [Change::ServiceGone(name("a")), Change::Complete(Kind::Service)]);
    }

    #[test]
    fn an_object_that_is_no_longer_for_us_is_gone() {
        let mut census = Census::new(Kind::Service);
        census.exists(name("a"), ours());
        let ignored = || Verdict::Ignored("test");
        assert_eq!(census.exists(name("a"), ignored()), Some(Change::ServiceGone(name("a"))));
        assert_eq!(census.exists(name("a"), ignored()), None);
        assert_eq!(census.is_gone(name("a")), None);
    }

    proptest! {
        /// However lists and single events follow each other, what the changes add up to is what the server holds.
        #[test]
        fn the_changes_add_up_to_what_the_server_holds(
            steps in prop::collection::vec((0u8..4, prop::sample::select(vec!["a", "b", "c"])), 0..40),
        ) {
            let mut census = Census::new(Kind::Service);
            let mut server: BTreeSet<&str> = BTreeSet::new();
            let mut replayed: BTreeMap<ObjectName, Arc<Service>> = BTreeMap::new();
            for (step, which) in steps {
                let changes: Vec<Change> = match step {
                    0 => {
                        server.insert(which);
                        census.exists(name(which), ours()).into_iter().collect()
                    }
                    1 => {
                        server.remove(which);
                        census.is_gone(name(which)).into_iter().collect()
                    }
                    // Seen by nobody until the next list.
                    2 => {
                        server.remove(which);
                        vec![]
                    }
                    _ => {
                        census.begin();
                        let mut changes = Vec::new();
                        for held in &server {
                            census.lists(name(held));
                            changes.extend(census.exists(name(held), ours()));
                        }
                        changes.extend(census.end());
                        let held: Vec<String> = server.iter().map(|name| (*name).to_owned()).collect();
                        prop_assert_eq!(census.held().map(|name| name.name.to_string()).collect::<Vec<_>>(), held);
                        changes
                    }
                };
                for change in changes {
                    match change {
                        Change::ServiceApplied(name, service) => { replayed.insert(name, service); }
                        Change::ServiceGone(name) => prop_assert!(replayed.remove(&name).is_some()),
                        _ => {}
                    }
                }
                prop_assert!(replayed.keys().eq(census.held()));
            }
        }
    }
}
