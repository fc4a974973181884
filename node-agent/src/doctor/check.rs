//! What a check comes to, and all of them as text and as JSON. Pure.
//!
//! Invariant: what is not in order says what follows from it, and what to do about it.

use serde_json::{Value, json};
use std::fmt::{self, Write};

/// How a check ended, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// There is nothing to judge, or it could not be read.
    NotApplicable,
    /// It is in order.
    Ok,
    /// Pods have their network, but something may come of it.
    Warning,
    /// Some traffic of pods does not flow.
    Failed,
}

impl Outcome {
    /// Its name, in listings and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotApplicable => "n/a",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was checked. A check that finds several faults is there once for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked: the same words at all times.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found and, when it is not in order, what follows from it.
    pub found: String,
    /// What to do, when it is not in order.
    pub remedy: Option<String>,
}

impl Check {
    /// It is in order.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, found: found.into(), remedy: None }
    }

    /// There is nothing to judge.
    pub fn not_applicable(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::NotApplicable, found: why.into(), remedy: None }
    }

    /// What it is judged by could not be read.
    pub fn unread(name: &'static str, why: &str) -> Self {
        Self::not_applicable(name, format!("it cannot be judged: {why}"))
    }

    /// It may do harm.
    pub fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// It does harm.
    pub fn failed(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, ..Self::warning(name, found, remedy) }
    }

    /// The faults that were found, or that there are none.
    pub(super) fn or_ok(faults: Vec<Self>, name: &'static str, found: impl Into<String>) -> Vec<Self> {
        if faults.is_empty() { vec![Self::ok(name, found)] } else { faults }
    }
}

/// Everything that was checked, in the order of the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(pub Vec<Check>);

impl Report {
    /// Whether something failed.
    pub fn has_failed(&self) -> bool {
        self.count(Outcome::Failed) > 0
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.0.iter().filter(|check| check.outcome == outcome).count()
    }

    /// The same as a JSON document.
    pub fn to_json(&self) -> Value {
        let check = |check: &Check| {
            json!({
                "name": check.name,
                "outcome": check.outcome.name(),
                "found": check.found,
                "remedy": check.remedy,
            })
        };
        json!({
            "checks": self.0.iter().map(check).collect::<Vec<_>>(),
            "failed": self.count(Outcome::Failed),
            "warnings": self.count(Outcome::Warning),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|check| check.name.len()).max().unwrap_or_default();
        for Check { name, outcome, found, remedy } in &self.0 {
            writeln!(f, "{:7}  {name:width$}  {found}", outcome.name())?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:7}  {:width$}  -> {remedy}", "", "")?;
            }
        }
        f.write_char('\n')?;
        let [failed, warnings] = [Outcome::Failed, Outcome::Warning].map(|outcome| self.count(outcome));
        let (ok, open) = (self.count(Outcome::Ok), self.count(Outcome::NotApplicable));
        writeln!(f, "{failed} failed, {warnings} warnings, {ok} ok, {open} not applicable")
    }
}

/// The first of many, and how many more there are.
pub(super) fn list<T: fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => all.join(", "),
        Some(more) => format!("{} and {more} more", all[..SHOWN].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lists_the_steps_with_remedies_and_ends_with_a_summary() {
        let report = Report(vec![
            Check::ok("rights", "CAP_NET_ADMIN"),
            Check::failed("forwarding", "the node forwards nothing.", "Switch it on."),
            Check::not_applicable("leases", "there are none"),
        ]);
        let text = "ok       rights      CAP_NET_ADMIN\n\
                    failed   forwarding  the node forwards nothing.\n\
                    \u{20}                    -> Switch it on.\n\
                    n/a      leases      there are none\n\
                    \n\
                    1 failed, 0 warnings, 1 ok, 1 not applicable\n";
        assert_eq!(report.to_string(), text);
        assert!(report.has_failed());
        let json = report.to_json();
        assert_eq!((&json["failed"], &json["checks"][1]["remedy"]), (&json!(1), &json!("Switch it on.")));
    }

    #[test]
    fn of_many_the_first_are_named() {
        assert_eq!(list(["a"]), "a");
        assert_eq!(list(1..=5), "1, 2, 3, 4, 5");
        assert_eq!(list(1..=8), "1, 2, 3, 4, 5 and 3 more");
    }
}
