//! What the agent did and heard, as far as people ask for it later.
//!
//! Not a log and not metrics: the last of each, and how many there were. Pure: who tells also says when.

use crate::dataplane::Synced;
use crate::model::{Change, Kind};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The last time that something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// When.
    pub at: Timestamp,
    /// For how long, from the changed model to the kernel's answer.
    pub took: Duration,
    /// Operations that the kernel took.
    pub operations: usize,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The last sync.
    pub last: Option<Sync>,
    /// How many there were.
    pub syncs: u64,
    /// How many of them failed, at least in part.
    pub failed: u64,
    /// What failed in the last one, a sentence each.
    pub failing: Vec<String>,
    /// How many times changes that somebody else made to our tables were undone.
    pub repairs: u64,
    /// When the last time.
    pub repaired: Option<Timestamp>,
    /// When a kind of object was last heard of.
    pub heard: BTreeMap<Kind, Timestamp>,
}

impl History {
    /// An object changed, or its kind is complete.
    pub fn hear(&mut self, change: &Change, now: Timestamp) {
        let kind = match change {
            Change::ServiceApplied(..) | Change::ServiceGone(_) => Kind::Service,
            Change::SliceApplied(..) | Change::SliceGone(_) => Kind::Slice,
            Change::NodeApplied(_) | Change::NodeGone(_) => Kind::Node,
            Change::ServiceCidrApplied(..) | Change::ServiceCidrGone(_) => Kind::ServiceCidr,
            Change::PodApplied(..) | Change::PodGone(_) => Kind::Pod,
            Change::Complete(kind) => *kind,
        };
        self.heard.insert(kind, now);
    }

    /// A sync ended.
    pub fn sync(&mut self, synced: &Synced, took: Duration, now: Timestamp) {
        self.syncs += 1;
        self.failed += u64::from(!synced.failures.is_empty());
        self.failing = synced.failures.iter().map(ToString::to_string).collect();
        self.last = Some(Sync { at: now, took, operations: synced.operations });
        if synced.is_repair() {
            self.repairs += 1;
            self.repaired = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Failure;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_what_undoes_edits_of_others_is_a_repair() {
        let mut history = History::default();
        let wrote = Synced { operations: 3, ..Synced::default() };
        let took = Duration::from_millis(1);
        history.sync(&wrote, took, at(1));
        history.sync(&Synced::default(), took, at(2));
        assert_eq!((history.repairs, history.repaired), (0, None));
        history.sync(&Synced { repaired: 1, ..wrote }, took, at(3));
        assert_eq!((history.repairs, history.repaired, history.syncs), (1, Some(at(3)), 3));
    }

    #[test]
    fn what_fails_is_named_until_it_succeeds() {
        let mut history = History::default();
        let failure = Failure { what: "write".to_owned(), source: "no".into() };
        let failed = Synced { failures: vec![failure], ..Synced::default() };
        history.sync(&failed, Duration::ZERO, at(1));
        assert_eq!(history.failing, ["write: no"]);
        history.sync(&Synced::default(), Duration::ZERO, at(2));
        assert_eq!((history.failing.len(), history.failed), (0, 1));
    }
}
