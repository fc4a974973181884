//! What the API server has said of one kind, and what that changes.
//!
//! Not a cache: it keeps the names of the objects that the model holds and nothing else. Pure. Invariant: the changes
//! that it gave name exactly the objects in `held`, and an object leaves only when the server says that it is gone, or
//! lists everything and leaves it out.

use std::collections::BTreeSet;

use crate::convert::{Key, Verdict};
use crate::model::{Change, Kind, ObjectName};

/// The names of one kind.
#[derive(Debug)]
pub(super) struct Census {
    kind: Kind,
    held: BTreeSet<ObjectName>,
    /// What the list that is being read holds so far.
    listed: BTreeSet<ObjectName>,
    /// The list that is being read holds something that cannot be told to be any object.
    has_nameless: bool,
}

impl Census {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, held: BTreeSet::new(), listed: BTreeSet::new(), has_nameless: false }
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.listed.clear();
        self.has_nameless = false;
    }

    /// The list that began holds this object; what it says comes by [`Census::exists`].
    pub(super) fn lists(&mut self, name: ObjectName) {
        self.listed.insert(name);
    }

    /// The list that began holds something without a name, which may be any object.
    pub(super) fn lists_nameless(&mut self) {
        self.has_nameless = true;
    }

    /// Whether the list, which is complete, leaves this object out.
    pub(super) fn is_missing(&self, name: &ObjectName) -> bool {
        !self.has_nameless && !self.listed.contains(name)
    }

    /// The list is complete: what it left out is gone.
    pub(super) fn end(&mut self) -> Vec<Change> {
        let missing: Vec<ObjectName> =
            self.held.iter().filter(|name| self.is_missing(name)).cloned().collect();
        self.begin();
        let gone = missing.into_iter().filter_map(|name| self.is_gone(name)).collect::<Vec<_>>();
        gone.into_iter().chain([Change::Complete(self.kind)]).collect()
    }

    /// An object exists.
    pub(super) fn exists(&mut self, name: ObjectName, verdict: Verdict) -> Option<Change> {
        match verdict {
            Verdict::Ours(object, _) => {
                self.held.insert(name.clone());
                Some(object.applied(Key { kind: self.kind, name }))
            }
            Verdict::Ignored(_) | Verdict::Stray(_) => self.is_gone(name),
        }
    }

    /// An object is gone.
    pub(super) fn is_gone(&mut self, name: ObjectName) -> Option<Change> {
        self.held.remove(&name).then(|| Key { kind: self.kind, name }.gone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::convert::Object;
    use crate::model::Service;

    fn name(name: &str) -> ObjectName {
        ObjectName::new("default", name)
    }

    fn ours() -> Verdict {
        Verdict::Ours(Object::Service(Service::default()), vec![])
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
            let mut replayed: BTreeMap<ObjectName, Service> = BTreeMap::new();
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
                        prop_assert_eq!(census.held.iter().map(|name| name.name.to_string()).collect::<Vec<_>>(), held);
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
                prop_assert!(replayed.keys().eq(census.held.iter()));
            }
        }
    }
}
