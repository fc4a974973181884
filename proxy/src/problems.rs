//! What is wrong with the cluster's objects, as one account of it.
//!
//! Not where problems are found: the sources, the frontends and the dataplane each tell of their own as they begin and end.
//! Pure. Invariant: a problem is in the account from the first time it was told of until it ended, however often it was told.

use crate::convert::{FieldError, Key};
use crate::frontends::{Contested, Dispute, Frontend};
use crate::model::{Kind, ObjectName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An object.
    Object(Key),
    /// A file of manifests that cannot be told to be any object.
    File(Arc<str>),
}

impl Subject {
    /// Kubernetes' name of the kind, or `File`.
    pub fn kind(&self) -> String {
        match self {
            Self::Object(key) => key.kind.to_string(),
            Self::File(_) => "File".to_owned(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(key) => key.fmt(f),
            Self::File(name) => write!(f, "file {name}"),
        }
    }
}

/// What sort of problem it is. Those of heddle-node are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// Its name, which is that of the Event and of the metric's label.
    pub name: &'static str,
    /// What cannot be done, as Events have it.
    pub action: &'static str,
    /// Whether it is the affair of one node, or the same on all.
    pub is_of_node: bool,
}

impl Reason {
    /// A field cannot be used, and the object counts without it.
    pub const FIELD_IGNORED: Self = Self::of_all("FieldIgnored");
    /// The object, or the file, cannot be used; its last good state stays.
    pub const OBJECT_REFUSED: Self = Self::of_all("ObjectRefused");
    /// The object is as if it were not there, though nobody can mean that.
    pub const OBJECT_IGNORED: Self = Self::of_all("ObjectIgnored");
    /// Another Service has a frontend of this one.
    pub const FRONTEND_CONFLICT: Self = Self::of_all("FrontendConflict");
    /// The node's kernel refuses a frontend of this Service.
    pub const FRONTEND_SET_ASIDE: Self =
        Self { name: "FrontendSetAside", action: "RouteService", is_of_node: true };
    /// A Service's health check cannot be asked for on this node; kube-proxy's word.
    pub const FAILED_TO_START_SERVICE_HEALTHCHECK: Self =
        Self { name: "FailedToStartServiceHealthcheck", action: "Listen", is_of_node: true };

    const fn of_all(name: &'static str) -> Self {
        Self { name, action: "RouteService", is_of_node: false }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// One thing that is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object.
    pub subject: Subject,
    /// What sort of problem.
    pub reason: Reason,
    /// What is wrong and what follows, with the field and what would end it.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.text)
    }
}

impl Problem {
    /// An object counts without a field that cannot be used.
    pub fn passed_over(key: &Key, error: &FieldError) -> Self {
        let text = format!("{error}; it counts without this field");
        Self { subject: Subject::Object(key.clone()), reason: Reason::FIELD_IGNORED, text }
    }

    /// An object cannot be used.
    pub fn refused(key: &Key, error: &FieldError) -> Self {
        let text = format!("{error}; its last good state stays");
        Self { subject: Subject::Object(key.clone()), reason: Reason::OBJECT_REFUSED, text }
    }

    /// An object is of use to nobody.
    pub fn stray(key: &Key, error: &FieldError) -> Self {
        let text = format!("{error}; it is as if it were not there");
        Self { subject: Subject::Object(key.clone()), reason: Reason::OBJECT_IGNORED, text }
    }

    /// A Service lost one of its frontends to another.
    pub fn conflict(Contested { frontend, loser }: &Contested, Dispute { owner, reach }: &Dispute) -> Self {
        let text = format!(
            "{}: {frontend} is that of Service {owner}, which came first, and is not served for this one until that one \
             is gone or gives it up; take it out of one of the two",
            reach.field(),
        );
        Self { subject: service(loser), reason: Reason::FRONTEND_CONFLICT, text }
    }

    /// The kernel refuses a Service's frontend.
    pub fn set_aside(frontend: &Frontend, owner: &ObjectName, why: &str) -> Self {
        let text = format!(
            "{frontend} is not served on this node: the kernel refuses it ({why}); it is tried again when the Service or \
             its endpoints change"
        );
        Self { subject: service(owner), reason: Reason::FRONTEND_SET_ASIDE, text }
    }
}

fn service(name: &ObjectName) -> Subject {
    Subject::Object(Key { kind: Kind::Service, name: name.clone() })
}

/// What happened to a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is there.
    Began(Problem),
    /// It is there no more.
    Ended(Problem),
}

/// What is new when some problems take the place of others.
pub fn between(old: &BTreeSet<Problem>, new: &BTreeSet<Problem>) -> Vec<News> {
    let began = new.difference(old).cloned().map(News::Began);
    began.chain(old.difference(new).cloned().map(News::Ended)).collect()
}

/// The problems that there are now, each with the moment that it was first told of.
#[derive(Clone, Debug)]
pub struct Account<T> {
    /// By object and what is wrong, so that all of one object stand together.
    open: BTreeMap<Problem, T>,
}

impl<T> Default for Account<T> {
    fn default() -> Self {
        Self { open: BTreeMap::new() }
    }
}

impl<T> Account<T> {
    /// Takes news in; true when the account differs.
    pub fn take(&mut self, news: &News, now: T) -> bool {
        match news {
            News::Began(problem) if self.open.contains_key(problem) => false,
            News::Began(problem) => {
                self.open.insert(problem.clone(), now);
                true
            }
            News::Ended(problem) => self.open.remove(problem).is_some(),
        }
    }

    /// The problems, in the order of their objects.
    pub fn iter(&self) -> impl Iterator<Item = (&Problem, &T)> {
        self.open.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True when all is in order.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontends::{Place, Reach};
    use crate::model::Protocol;

    fn contested() -> Contested {
        let place = Place::Address([192, 0, 2, 1].into());
        let frontend = Frontend { place, protocol: Protocol::Tcp, port: 80 };
        Contested { frontend, loser: ObjectName::new("shop", "b") }
    }

    fn problem() -> Problem {
        let dispute = Dispute { owner: ObjectName::new("shop", "a"), reach: Reach::ExternalIp };
        Problem::conflict(&contested(), &dispute)
    }

    #[test]
    fn a_problem_is_there_once_from_its_beginning_to_its_end() {
        let mut account = Account::default();
        assert!(account.take(&News::Began(problem()), 1));
        assert!(!account.take(&News::Began(problem()), 2));
        assert_eq!(account.iter().collect::<Vec<_>>(), [(&problem(), &1)]);
        assert!(account.take(&News::Ended(problem()), 3));
        assert!(!account.take(&News::Ended(problem()), 4));
        assert!(account.is_empty());
        assert!(account.take(&News::Began(problem()), 5), "it can begin again");
    }

    #[test]
    fn a_conflict_names_the_field_the_frontend_and_who_has_it() {
        let text = problem().to_string();
        for part in
            ["Service shop/b: ", "spec.externalIPs", "192.0.2.1:80/tcp", "Service shop/a", "take it out"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_set_aside_names_the_frontend_and_the_kernels_reason() {
        let owner = ObjectName::new("shop", "a");
        let problem = Problem::set_aside(&contested().frontend, &owner, "file exists");
        assert_eq!(
            (problem.reason, problem.subject.to_string().as_str()),
            (Reason::FRONTEND_SET_ASIDE, "Service shop/a")
        );
        assert!(
            problem.text.contains("192.0.2.1:80/tcp") && problem.text.contains("(file exists)"),
            "{problem}"
        );
    }
}
