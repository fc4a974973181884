//! Which objects the files of a folder hold, and what changes when a file does.
//!
//! Not the model: it remembers which file an object came from, so that removing one file removes what was only there.
//! Pure. Invariant: replaying all changes that it ever gave yields, for each object, what the first file (by name)
//! that holds it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::documents::{Mistake, Parsed};
use crate::convert::{Key, Object};
use crate::memory;
use crate::model::{Change, Kind, Node, ObjectName};
use crate::problems::{self, News, Problem, Reason, Subject};

/// What one reading of a file leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// What is different for the model.
    pub changes: Vec<Change>,
    /// What is wrong, or in order again.
    pub news: Vec<News>,
    /// What people should hear besides, once: file and text.
    pub remarks: Vec<(Arc<str>, String)>,
}

/// The objects of all files.
#[derive(Debug, Default)]
pub struct Roster {
    /// Who holds each object, by file name; the first one counts.
    objects: BTreeMap<Key, Vec<Claim>>,
    files: BTreeMap<Arc<str>, File>,
}

#[derive(Debug)]
struct Claim {
    file: Arc<str>,
    object: Object,
}

#[derive(Debug, Default)]
struct File {
    /// In order. Not a set: most files hold one object, and the smallest set takes half a kilobyte.
    keys: Box<[Key]>,
    /// What is wrong in it.
    problems: BTreeSet<Problem>,
}

impl Roster {
    /// Names of the files that were read and not removed since.
    pub fn files(&self) -> impl Iterator<Item = &Arc<str>> {
        self.files.keys()
    }

    /// Takes no more memory than what it holds needs.
    pub fn pack(&mut self) {
        memory::pack(&mut self.objects);
    }

    /// Takes in what a file says now. An object with a mistake keeps its last good state; when it cannot even be told
    /// which object a document is, nothing of the file is forgotten.
    pub fn replace(&mut self, name: &str, parsed: Parsed) -> Update {
        let (name, old) = self.files.remove_entry(name).unwrap_or_else(|| (name.into(), File::default()));
        let mut update = Update::default();
        let all_stay = parsed.mistakes.iter().any(|mistake| mistake.key.is_none());
        let at_fault: BTreeSet<&Key> =
            parsed.mistakes.iter().filter_map(|mistake| mistake.key.as_ref()).collect();
        let refused = parsed.mistakes.iter().map(|mistake| problem(&name, mistake, Reason::OBJECT_REFUSED));
        let passed_over = parsed.remarks.iter().map(|mistake| problem(&name, mistake, Reason::FIELD_IGNORED));
        let strays = parsed.strays.iter().map(|mistake| problem(&name, mistake, Reason::OBJECT_IGNORED));
        let problems = refused.chain(passed_over).chain(strays).collect();
        update.news = problems::between(&old.problems, &problems);

        let mut keys: BTreeSet<Key> = parsed.objects.keys().cloned().collect();
        for (key, object) in parsed.objects {
            self.claim(&name, key, object, &mut update);
        }
        for key in old.keys {
            if all_stay || at_fault.contains(&key) {
                keys.insert(key);
            } else if !keys.contains(&key) {
                update.changes.extend(self.withdraw(&name, key));
            }
        }
        self.files.insert(name, File { keys: keys.into_iter().collect(), problems });
        update
    }

    /// Forgets a file and the objects that only it holds.
    pub fn remove(&mut self, name: &str) -> Update {
        let File { keys, problems } = self.files.remove(name).unwrap_or_default();
        Update {
            changes: keys.into_iter().filter_map(|key| self.withdraw(name, key)).collect(),
            news: problems::between(&problems, &BTreeSet::new()),
            remarks: Vec::new(),
        }
    }

    fn claim(&mut self, file: &Arc<str>, key: Key, object: Object, update: &mut Update) {
        let claims = self.objects.entry(key.clone()).or_default();
        let found = claims.binary_search_by(|claim| claim.file.cmp(file));
        if found.is_err()
            && let Some(other) = claims.first()
        {
            let first = (&other.file).min(file);
            update
                .remarks
                .push((file.clone(), format!("{key} is in {} too; the one in {first} counts", other.file)));
        }
        let (Ok(index) | Err(index)) = found;
        if index == 0 && claims.first().is_none_or(|claim| claim.object != object) {
            update.changes.push(object.clone().applied(key));
        }
        let claim = Claim { file: file.clone(), object };
        match found {
            Ok(index) => claims[index] = claim,
            // Most objects are in one file: no room is kept for a second claim.
            Err(index) => {
                claims.reserve_exact(1);
                claims.insert(index, claim);
            }
        }
    }

    fn withdraw(&mut self, file: &str, key: Key) -> Option<Change> {
        let claims = self.objects.get_mut(&key)?;
        let index = claims.binary_search_by(|claim| claim.file.as_ref().cmp(file)).ok()?;
        let old = claims.remove(index);
        match claims.first() {
            None => {
                self.objects.remove(&key);
                Some(key.gone())
            }
            Some(next) if index == 0 && next.object != old.object => Some(next.object.clone().applied(key)),
            Some(_) => None,
        }
    }
}

fn problem(file: &Arc<str>, mistake: &Mistake, reason: Reason) -> Problem {
    let subject = mistake.key.clone().map_or_else(|| Subject::File(file.clone()), Subject::Object);
    Problem { subject, reason, text: format!("{file}, {}: {}", mistake.place, mistake.message) }
}

/// Orders what several files changed together, with one change for each object, so that an object that moved between
/// files is never gone in between: make before break. Slices come before their Services, and go after them.
pub fn settle(changes: Vec<Change>) -> Vec<Change> {
    let last: BTreeMap<_, _> = changes.into_iter().map(|change| (subject(&change), change)).collect();
    let (gone, applied): (Vec<_>, Vec<_>) = last.into_values().partition(is_gone);
    applied.into_iter().rev().chain(gone).collect()
}

fn is_gone(change: &Change) -> bool {
    match change {
        Change::ServiceGone(_)
        | Change::SliceGone(_)
        | Change::NodeGone(_)
        | Change::ServiceCidrGone(_)
        | Change::PodGone(_) => true,
        Change::ServiceApplied(..)
        | Change::SliceApplied(..)
        | Change::NodeApplied(_)
        | Change::ServiceCidrApplied(..)
        | Change::PodApplied(..)
        | Change::Complete(_) => false,
    }
}

fn subject(change: &Change) -> (Kind, Option<ObjectName>) {
    match change {
        Change::ServiceApplied(name, _) | Change::ServiceGone(name) => (Kind::Service, Some(name.clone())),
        Change::SliceApplied(name, _) | Change::SliceGone(name) => (Kind::Slice, Some(name.clone())),
        Change::NodeApplied(Node { name, .. }) | Change::NodeGone(name) => cluster_wide(Kind::Node, name),
        Change::ServiceCidrApplied(name, _) | Change::ServiceCidrGone(name) => {
            cluster_wide(Kind::ServiceCidr, name)
        }
        Change::PodApplied(name, _) | Change::PodGone(name) => (Kind::Pod, Some(name.clone())),
        Change::Complete(kind) => (*kind, None),
    }
}

fn cluster_wide(kind: Kind, name: &Arc<str>) -> (Kind, Option<ObjectName>) {
    (kind, Some(ObjectName { namespace: "".into(), name: name.clone() }))
}

#[cfg(test)]
mod tests;
