//! Saved reports: shown again, and compared, by the program itself.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_bench::figure::{Figure, Part};
use heddle_bench::report::{Environment, Report, json};
use heddle_tests::namespace::Namespace;
use heddle_tests::process::{Invocation, Output};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder with a report, `old.json`, and others that took longer.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Self {
        let shelf = Self(tempfile::tempdir().unwrap());
        for (name, times) in [("old.json", 1.0), ("same.json", 1.01), ("slow.json", 1.2)] {
            shelf.put(name, &report(times));
        }
        let noisy =
            of(|usual| vec![usual, 1.6 * usual, 0.7 * usual, 1.3 * usual, usual, 0.8 * usual, 1.4 * usual]);
        shelf.put("noisy.json", &noisy);
        shelf
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, report: &Report) {
        fs::write(self.file(name), json::write(report).to_string()).unwrap();
    }

    /// Runs the program; names of files are those of the folder.
    fn bench(&self, arguments: &[&str]) -> Output {
        let place = |argument: &&str| {
            if argument.contains('.') { self.file(argument) } else { PathBuf::from(argument) }
        };
        let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench")).args(arguments.iter().map(place));
        bench.run(&Namespace::new("bench").unwrap()).unwrap()
    }
}

fn report(times: f64) -> Report {
    of(|usual| {
        let times = if usual > 20.0 { times } else { 1.0 };
        (0..12).map(|round| usual * times * (1.0 + 0.004 * f64::from(round * 5 % 12))).collect()
    })
}

/// With so many microseconds in each round, of what usually takes so many.
fn of(rounds: impl Fn(f64) -> Vec<f64>) -> Report {
    let mut report = Report::new("test", Environment::default());
    let connection = |subject| Figure::new(Part::DataPlane, "new connection", subject);
    report.add(connection("direct").less("µs of CPU", &rounds(20.0)));
    let these: Vec<f64> = rounds(24.0).into_iter().rev().collect();
    report.add(connection("heddle nft").less("µs of CPU", &these));
    report
}

#[test]
fn the_same_is_no_regression_and_what_is_slower_fails_with_a_line_for_each() {
    let shelf = Shelf::new();
    let same = shelf.bench(&["compare", "old.json", "same.json"]);
    assert!(same.status.success(), "{same:?}");
    let slow = shelf.bench(&["compare", "old.json", "slow.json"]);
    assert_eq!(slow.status.code(), Some(1), "{slow:?}");
    let lines: Vec<&str> = slow.stdout.lines().filter(|line| line.starts_with("regression: ")).collect();
    assert_eq!(lines.len(), 1, "{slow:?}");
    assert!(
        lines[0].contains("new connection: heddle nft") && lines[0].contains("× direct, 20.0 % worse"),
        "{slow:?}"
    );
    let back = shelf.bench(&["compare", "slow.json", "old.json"]);
    assert!(back.status.success() && back.stdout.contains("improvement: "), "{back:?}");
    let tolerant = shelf.bench(&["compare", "old.json", "slow.json", "--threshold", "30"]);
    assert!(tolerant.status.success(), "{tolerant:?}");
}

#[test]
fn what_is_too_noisy_to_tell_is_neither_a_success_nor_a_regression() {
    let shelf = Shelf::new();
    for (old, new) in [("old.json", "noisy.json"), ("noisy.json", "old.json")] {
        let noisy = shelf.bench(&["compare", old, new]);
        assert_eq!(noisy.status.code(), Some(125), "{noisy:?}");
        assert!(noisy.stdout.starts_with("noisy: data plane: new connection: heddle nft: "), "{noisy:?}");
        assert!(
            noisy.stdout.ends_with("answer: too noisy to tell whether something is worse\n"),
            "{noisy:?}"
        );
    }
}

#[test]
fn a_saved_report_is_shown_again_in_every_form() {
    let shelf = Shelf::new();
    let shown = shelf.bench(&[
        "report",
        "slow.json",
        "--json",
        "again.json",
        "--markdown",
        "a.md",
        "--html",
        "a.html",
    ]);
    assert!(shown.status.success() && shown.stdout.contains("new connection, µs of CPU"), "{shown:?}");
    let read = |name| fs::read_to_string(shelf.file(name)).unwrap();
    assert_eq!(json::read(&read("again.json")).unwrap(), json::read(&read("slow.json")).unwrap());
    assert!(read("a.md").contains("| heddle nft |") && read("a.html").contains("<h3>new connection</h3>"));
    let against = shelf.bench(&["report", "slow.json", "--against", "old.json"]);
    assert_eq!(against.status.code(), Some(1), "{against:?}");
}

#[test]
fn a_broken_report_is_told_in_one_line() {
    let shelf = Shelf::new();
    fs::write(shelf.file("bad.json"), "{\"schema\": 7}").unwrap();
    for arguments in
        [["compare", "old.json", "bad.json"].as_slice(), &["report", "bad.json"], &["report", "none.json"]]
    {
        let failed = shelf.bench(arguments);
        assert!(failed.status.code() == Some(2) && failed.stderr.lines().count() == 1, "{failed:?}");
        assert!(failed.stderr.starts_with("error: read "), "{failed:?}");
    }
    let first = shelf.bench(&["run", "--smallest", "--against", "none.json"]);
    assert!(!first.status.success() && first.stdout.is_empty(), "before anything is measured: {first:?}");
}
