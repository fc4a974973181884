//! What was found, as a table for people and as JSON for programs.

use crate::stats::{Bound, Spread, Verdict};
use serde_json::{Value, json};
use std::fmt;
use std::fs;
use std::num::NonZero;
use std::thread;

/// Version of the JSON's shape.
const SCHEMA: u32 = 1;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which part of the bench it is from.
    pub group: &'static str,
    /// What was measured.
    pub what: String,
    /// In what.
    pub unit: &'static str,
    /// What came out.
    pub spread: Spread,
    /// What it must be, if anything.
    pub must: Option<Bound>,
}

impl Row {
    /// A figure of several measurements, which must be nothing in particular.
    pub fn spread(group: &'static str, what: &str, unit: &'static str, values: &[f64]) -> Self {
        let spread = Spread::of(values).unwrap_or(Spread::single(f64::NAN));
        Self { group, what: what.to_owned(), unit, spread, must: None }
    }

    /// A figure of one measurement.
    pub fn single(group: &'static str, what: &str, unit: &'static str, value: f64) -> Self {
        Self::spread(group, what, unit, &[value])
    }

    /// The same figure, which must be something.
    #[must_use]
    pub fn must(self, bound: Option<Bound>) -> Self {
        Self { must: bound, ..self }
    }

    /// Whether it is what it must be.
    pub fn verdict(&self) -> Option<Verdict> {
        Some(self.must?.judge(&self.spread))
    }

    fn json(&self) -> Value {
        json!({
            "group": self.group, "what": self.what, "unit": self.unit,
            "median": self.spread.median, "min": self.spread.min, "max": self.spread.max,
            "lowerQuartile": self.spread.lower, "upperQuartile": self.spread.upper,
            "samples": self.spread.count,
            "must": self.must.map(|must| must.to_string()),
            "verdict": self.verdict().map(|verdict| verdict.to_string()),
        })
    }
}

/// Where it was measured.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name, as the kernel gives it.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// Load averages at the start.
    pub load: String,
    /// The commit that the programs were built from, as far as the caller said.
    pub commit: String,
}

impl Machine {
    /// This one.
    pub fn this(commit: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let info = read("/proc/cpuinfo");
        let model = info.lines().find(|line| line.starts_with("model name"));
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: model.and_then(|line| line.split_once(": ")).map_or("unknown", |it| it.1).to_owned(),
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            load: load(),
            commit: commit.to_owned(),
        }
    }
}

/// The load averages of 1, 5 and 15 minutes.
fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Report {
    profile: &'static str,
    machine: Machine,
    rows: Vec<Row>,
}

impl Report {
    /// Nothing yet.
    pub fn new(profile: &'static str, machine: Machine) -> Self {
        Self { profile, machine, rows: Vec::new() }
    }

    /// Adds a figure.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let machine = &self.machine;
        json!({
            "schema": SCHEMA,
            "profile": self.profile,
            "machine": {
                "kernel": machine.kernel, "processor": machine.processor, "processors": machine.processors,
                "loadAtStart": machine.load, "loadAtEnd": load(), "commit": machine.commit,
            },
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { kernel, processor, processors, load: at_start, commit } = &self.machine;
        writeln!(f, "heddle-bench, profile {}, commit {commit}", self.profile)?;
        writeln!(
            f,
            "Linux {kernel}, {processors} × {processor}; load {at_start} at the start, {} now",
            load()
        )?;
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
        let mut group = "";
        for row in &self.rows {
            if row.group != group {
                group = row.group;
                writeln!(
                    f,
                    "\n{group:width$}  {:>10}  {:>21}  {:15}  must be",
                    "median", "min to max", "unit"
                )?;
            }
            write_row(f, row, width)?;
        }
        Ok(())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, row: &Row, width: usize) -> fmt::Result {
    let Spread { median, min, max, count, .. } = row.spread;
    let range = if count > 1 { format!("{} to {}", figure(min), figure(max)) } else { String::new() };
    write!(f, "{:width$}  {:>10}  {range:>21}  {:15}", row.what, figure(median), row.unit)?;
    match row.must.zip(row.verdict()) {
        Some((must, verdict)) => writeln!(f, "  {must}: {verdict}"),
        None => writeln!(f),
    }
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_it_must_be_and_whether_it_is() {
        let mut report = Report::new("test", Machine::this("abc"));
        report.add(Row::spread("g", "held", "ms", &[1.0, 2.0, 3.0]).must(Some(Bound::AtMost(3.0))));
        report.add(Row::single("g", "free", "MB", 12.34));
        let text = report.to_string();
        assert!(text.contains("≤ 3: held") && text.contains("12.3"), "{text}");
        let json = report.json();
        assert_eq!((&json["rows"][0]["verdict"], &json["rows"][1]["must"]), (&json!("held"), &Value::Null));
        assert_eq!(json["rows"][0]["samples"], 3);
    }
}
