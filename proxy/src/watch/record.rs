//! What the API server has said of one kind of objects: what it comes to as changes, what is wrong with objects, and
//! whether the server answers.
//!
//! Not the objects, of which the `census` keeps what little is needed; and no door: it takes events and never waits.
//! Invariant: [`Change::Complete`] comes after every object of a whole list.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use kube::runtime::watcher::Event;
use tracing::{debug, info, warn};

use super::census::Census;
use super::lean::Lean;
use crate::convert::objects::Metadata;
use crate::convert::{self, FieldError, Key, Names, Verdict};
use crate::model::{Change, Kind, ObjectName};
use crate::problems::{self, News, Problem};

/// What is known of one kind, across its watchers.
pub(super) struct Record<T> {
    kind: Kind,
    census: Census,
    names: Names,
    convert: fn(&T, &mut Names) -> Result<Verdict, FieldError>,
    /// Why the last thing that the server did was to fail.
    failing: Option<String>,
    /// What is wrong with each object, where something is.
    told: BTreeMap<ObjectName, BTreeSet<Problem>>,
    /// What of that is new.
    news: Vec<News>,
}

impl<T: AsRef<Metadata>> Record<T> {
    pub(super) fn new(kind: Kind, convert: fn(&T, &mut Names) -> Result<Verdict, FieldError>) -> Self {
        Self {
            kind,
            census: Census::new(kind),
            names: Names::default(),
            convert,
            failing: None,
            told: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    pub(super) fn take_news(&mut self) -> Vec<News> {
        mem::take(&mut self.news)
    }

    pub(super) fn take(&mut self, event: Event<Lean<T>>) -> Vec<Change> {
        // A list begins before the server has answered.
        if !matches!(event, Event::Init) && self.failing.take().is_some() {
            info!(kind = %self.kind, "the API server answers again");
        }
        match event {
            Event::Init => {
                self.census.begin();
                Vec::new()
            }
            Event::InitDone => {
                let gone = |name: &&ObjectName| self.census.is_missing(name);
                let gone: Vec<ObjectName> = self.told.keys().filter(gone).cloned().collect();
                gone.iter().for_each(|name| self.tell(name, BTreeSet::new()));
                self.census.end()
            }
            Event::InitApply(lean) => self.object(&lean, Seen::Listed).into_iter().collect(),
            Event::Apply(lean) => self.object(&lean, Seen::Changed).into_iter().collect(),
            Event::Delete(lean) => self.object(&lean, Seen::Deleted).into_iter().collect(),
        }
    }

    fn object(&mut self, lean: &Lean<T>, seen: Seen) -> Option<Change> {
        let key = match convert::key(self.kind, lean.as_ref(), &mut self.names) {
            Ok(key) => key,
            Err(error) => {
                warn!(kind = %self.kind, %error, "ignored an object of the API server");
                if matches!(seen, Seen::Listed) {
                    self.census.lists_nameless();
                }
                return None;
            }
        };
        match seen {
            Seen::Deleted => {
                self.tell(&key.name, BTreeSet::new());
                return self.census.is_gone(key.name);
            }
            Seen::Listed => self.census.lists(key.name.clone()),
            Seen::Changed => {}
        }
        let read = lean.object.as_ref().map_err(|unreadable| unreadable.error.clone());
        match read.and_then(|object| (self.convert)(object, &mut self.names)) {
            Ok(verdict) => {
                self.tell(&key.name, problems(&key, &verdict));
                self.census.exists(key.name, verdict)
            }
            Err(error) => {
                self.tell(&key.name, [Problem::refused(&key, &error)].into());
                None
            }
        }
    }

    /// Notes what is wrong with an object now. It comes again with each list, and with each change of something else in it.
    fn tell(&mut self, name: &ObjectName, problems: BTreeSet<Problem>) {
        let before = self.told.remove(name).unwrap_or_default();
        self.news.extend(problems::between(&before, &problems));
        if !problems.is_empty() {
            self.told.insert(name.clone(), problems);
        }
    }

    /// Says what is wrong with the server, once until that changes.
    pub(super) fn fail(&mut self, why: String) {
        if self.failing.as_ref() == Some(&why) {
            debug!(kind = %self.kind, "the API server fails still: {why}");
        } else {
            warn!(kind = %self.kind, "the API server fails; what it said before stands: {why}");
            self.failing = Some(why);
        }
    }
}

fn problems(key: &Key, verdict: &Verdict) -> BTreeSet<Problem> {
    match verdict {
        Verdict::Ours(_, passed_over) => {
            passed_over.iter().map(|error| Problem::passed_over(key, error)).collect()
        }
        Verdict::Stray(error) => [Problem::stray(key, error)].into(),
        Verdict::Ignored(_) => BTreeSet::new(),
    }
}

/// How an object was seen.
#[derive(Clone, Copy)]
enum Seen {
    Listed,
    Changed,
    Deleted,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::convert::objects::Service;

    fn lean(name: &str, port: i64) -> Lean<Service> {
        let object = json!({"metadata": {"name": name, "namespace": "x", "resourceVersion": "1"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": port}]}});
        serde_json::from_value(object).unwrap()
    }

    fn gone(name: &str) -> Change {
        Change::ServiceGone(ObjectName::new("x", name))
    }

    fn count_applied(changes: &[Change]) -> usize {
        changes.iter().filter(|change| matches!(change, Change::ServiceApplied(..))).count()
    }

    /// kp:A13
    #[test]
    fn a_kind_is_complete_after_its_list_and_a_later_list_takes_back_what_is_missing() {
        let mut record = Record::new(Kind::Service, convert::service);
        assert_eq!(record.take(Event::Init), []);
        assert_eq!(count_applied(&record.take(Event::InitApply(lean("a", 80)))), 1);
        assert_eq!(count_applied(&record.take(Event::InitApply(lean("b", 80)))), 1);
        assert_eq!(record.take(Event::InitDone), [Change::Complete(Kind::Service)]);
        record.take(Event::Init);
        record.take(Event::InitApply(lean("b", 80)));
        assert_eq!(record.take(Event::InitDone), [gone("a"), Change::Complete(Kind::Service)]);
        assert_eq!(record.take(Event::Delete(lean("b", 80))), [gone("b")]);
    }

    #[test]
    fn an_object_with_a_mistake_changes_nothing() {
        let mut record = Record::new(Kind::Service, convert::service);
        record.take(Event::Apply(lean("a", 80)));
        assert_eq!(record.take(Event::Apply(lean("a", 70_000))), []);
        assert_eq!(record.take(Event::Delete(lean("a", 70_000))), [gone("a")]);
    }

    #[test]
    fn an_object_of_another_shape_keeps_its_last_good_state_until_it_is_deleted() {
        let mut record = Record::new(Kind::Service, convert::service);
        record.take(Event::Apply(lean("a", 80)));
        let bad = || -> Lean<Service> {
            let object = json!({"metadata": {"name": "a", "namespace": "x"}, "spec": {"ports": "80"}});
            serde_json::from_value(object).unwrap()
        };
        assert_eq!(record.take(Event::Apply(bad())), []);
        let news = record.take_news();
        assert!(
            matches!(&news[..], [News::Began(problem)] if problem.text.starts_with("spec.ports: ")),
            "{news:?}"
        );
        record.take(Event::Init);
        assert_eq!(record.take(Event::InitApply(bad())), []);
        assert_eq!(record.take(Event::InitDone), [Change::Complete(Kind::Service)]);
        assert_eq!(record.take_news(), []);
        assert_eq!(record.take(Event::Delete(bad())), [gone("a")]);
        assert!(matches!(record.take_news()[..], [News::Ended(_)]));
    }

    #[test]
    fn a_list_that_only_begins_is_no_answer() {
        let mut record = Record::new(Kind::Service, convert::service);
        record.fail("it is away".to_owned());
        record.take(Event::Init);
        assert!(record.failing.is_some());
        record.take(Event::InitDone);
        assert!(record.failing.is_none());
    }

    #[test]
    fn a_mistake_is_news_once_until_the_object_is_corrected_or_goes() {
        let mut record = Record::new(Kind::Service, convert::service);
        let mut news = |event| {
            record.take(event);
            let texts = record.take_news().into_iter().map(|news| match news {
                News::Began(problem) => format!("+ {problem}"),
                News::Ended(problem) => format!("- {problem}"),
            });
            texts.collect::<Vec<_>>()
        };
        let text = |port: i64| {
            format!(
                "Service x/a: spec.ports[0].port: {port} is not a port (1-65535); its last good state stays"
            )
        };
        let (began, ended) = (format!("+ {}", text(70_000)), format!("- {}", text(70_000)));
        assert_eq!(news(Event::Apply(lean("a", 70_000))), [&*began]);
        assert_eq!(news(Event::Apply(lean("a", 70_000))), [""; 0]);
        assert_eq!(news(Event::Apply(lean("a", 70_001))), [format!("+ {}", text(70_001)), ended.clone()]);
        assert_eq!(news(Event::Apply(lean("a", 80))), [format!("- {}", text(70_001))]);
        assert_eq!(news(Event::Apply(lean("a", 70_000))), [&*began]);
        assert_eq!(news(Event::Delete(lean("a", 70_000))), [&*ended]);
        assert_eq!(news(Event::Apply(lean("a", 70_000))), [&*began]);
        assert_eq!(news(Event::Init), [""; 0]);
        assert_eq!(news(Event::InitDone), [&*ended], "a list that leaves it out");
    }
}
