//! How the agent does, as a table or as JSON.
//!
//! Pure. docs/looking-inside.md has the fields.

use super::AGENT;
use super::links::Links;
use super::peers::{self, MOST};
use crate::problem::Problem;
use crate::pulse::STUCK;
use crate::view::{Standing, View};
use heddle_proxy::door::shown::ago;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// An agent that is at one step for longer is said to be.
const LONG: Duration = Duration::from_secs(1);

/// What the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Name of the node.
    pub node: String,
    /// How other nodes' pods are reached.
    pub mode: String,
    /// When it was started.
    pub started: Timestamp,
}

/// How the agent does.
#[derive(Clone, Copy, Debug)]
pub struct Status<'a> {
    /// What it is.
    pub process: &'a Process,
    /// What it believes.
    pub view: &'a View,
    /// The links of that.
    pub links: &'a Links,
    /// For how long it has been at one step of its work; none while it waits for events.
    pub busy: Option<Duration>,
    /// When this was asked.
    pub now: Timestamp,
}

impl Status<'_> {
    /// Why the kernel has not all that it is to have; none when it has.
    pub fn amiss(&self) -> Option<String> {
        let why = self.why()?;
        Some(format!("{} on {} is {}: {why}", AGENT.name, self.process.node, self.state()))
    }

    fn state(&self) -> &'static str {
        match self.view.standing {
            _ if self.stuck().is_some() => "stuck",
            Standing::Waiting => "waiting",
            Standing::Whole => "whole",
            Standing::Failing => "failing",
        }
    }

    fn stuck(&self) -> Option<Duration> {
        self.busy.filter(|busy| *busy >= STUCK)
    }

    fn why(&self) -> Option<String> {
        if let Some(busy) = self.stuck() {
            return Some(format!("it has been at one step for {} s, and /livez fails", busy.as_secs()));
        }
        match (self.view.standing, &self.view.failures[..]) {
            (Standing::Waiting, _) => {
                Some("not every Node is known yet, and nothing is written before".to_owned())
            }
            (Standing::Whole, _) => None,
            (Standing::Failing, []) => Some("it is tried again".to_owned()),
            (Standing::Failing, [only]) => Some(format!("{only}; it is tried again")),
            (Standing::Failing, [first, more @ ..]) => {
                Some(format!("{first} (and {} more); it is tried again", more.len()))
            }
        }
    }

    fn moment(&self, at: Timestamp) -> String {
        format!("{at:.0} ({})", ago(self.now, at))
    }

    /// For people. Of long lists a beginning, unless all is asked for.
    pub fn text(&self, all: bool) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = self.write(&mut text, all);
        text
    }

    fn write(&self, f: &mut String, all: bool) -> fmt::Result {
        let process = self.process;
        writeln!(f, "{} {} on {}, mode {}", AGENT.name, AGENT.version, process.node, process.mode)?;
        self.write_standing(f)?;
        // Before the first turn nothing is known of them.
        if self.view.at.is_some() {
            self.write_node(f)?;
            peers::write(f, (self.view, self.links), all)?;
        }
        let problem = |(problem, since): (&Problem, &Timestamp)| {
            format!("{problem} ({}, {})", problem.reason(), ago(self.now, *since))
        };
        list(f, "problems", self.view.problems.iter().map(problem), all)?;
        list(f, "failures", self.view.failures.iter().cloned(), all)?;
        match &self.view.last_failure {
            None => field(f, "last error", "none"),
            Some((at, text)) => field(f, "last error", format!("{}: {text}", self.moment(*at))),
        }
    }

    fn write_standing(&self, f: &mut String) -> fmt::Result {
        let (process, view) = (self.process, self.view);
        let why = self.why().map_or(String::new(), |why| format!(": {why}"));
        field(f, "state", format!("{}{why}", self.state()))?;
        field(f, "since", self.moment(view.since.unwrap_or(process.started)))?;
        if let Some(busy) = self.busy.filter(|busy| *busy >= LONG) {
            field(f, "at work", format!("for {} s at one step", busy.as_secs()))?;
        }
        field(f, "started", self.moment(process.started))?;
        let moment = |at: Option<Timestamp>| at.map_or("none yet".to_owned(), |at| self.moment(at));
        field(f, "last sync", moment(view.at))?;
        field(f, "last whole", moment(view.whole))?;
        match view.repaired {
            None => field(f, "drift", "none"),
            Some(at) => field(f, "drift", format!("undone {} times, last {}", view.repairs, self.moment(at))),
        }
    }

    fn write_node(&self, f: &mut String) -> fmt::Result {
        let own = self.view.own.as_ref();
        field(f, "ranges", joined(own.map_or(&[][..], |own| &own.ranges)))?;
        field(f, "addresses", joined(own.map_or(&[][..], |own| &own.addresses)))?;
        field(f, "mtu", self.view.mtu.map_or("unknown".to_owned(), |mtu| mtu.to_string()))?;
        let word = |is: bool| if is { "yes" } else { "no" };
        field(f, "masquerade", word(self.view.masquerades))?;
        field(f, "forwarding", word(self.view.forwards))
    }

    /// For programs: everything, however much.
    pub fn json(&self) -> Value {
        let (view, own) = (self.view, self.view.own.as_ref());
        let moment = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let problem = |(problem, since): (&Problem, &Timestamp)| {
            json!({
                "reason": problem.reason(),
                "text": problem.to_string(),
                "since": since.to_string(),
            })
        };
        json!({
            "version": AGENT.version,
            "node": self.process.node,
            "mode": self.process.mode,
            "started": self.process.started.to_string(),
            "now": self.now.to_string(),
            "state": self.state(),
            "why": self.why(),
            "since": view.since.unwrap_or(self.process.started).to_string(),
            "busySeconds": self.busy.map(|busy| busy.as_secs()),
            "lastSync": moment(view.at),
            "lastWhole": moment(view.whole),
            "repairs": view.repairs,
            "lastRepair": moment(view.repaired),
            "ranges": own.map_or(Vec::new(), |own| texts(&own.ranges)),
            "addresses": own.map_or(Vec::new(), |own| texts(&own.addresses)),
            "mtu": view.mtu,
            "masquerade": view.masquerades,
            "forwarding": view.forwards,
            "peers": peers::json((view, self.links)),
            "problems": view.problems.iter().map(problem).collect::<Vec<_>>(),
            "failures": view.failures,
            "lastError": view.last_failure.as_ref().map(|(at, text)| json!({
                "at": at.to_string(),
                "text": text,
            })),
        })
    }
}

fn field(f: &mut String, name: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "{name:<12}{value}")
}

/// How many there are, and one on each line.
fn list(f: &mut String, name: &str, lines: impl ExactSizeIterator<Item = String>, all: bool) -> fmt::Result {
    let count = lines.len();
    if count == 0 {
        return field(f, name, "none");
    }
    field(f, name, count)?;
    let shown = if all { count } else { count.min(MOST) };
    lines.take(shown).try_for_each(|line| writeln!(f, "  {line}"))?;
    match count - shown {
        0 => Ok(()),
        more => writeln!(f, "  ... and {more} more: --all shows them"),
    }
}

fn joined<T: Display>(values: &[T]) -> String {
    if values.is_empty() { "none".to_owned() } else { texts(values).join(", ") }
}

fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
