//! The bench as a whole, on its smallest profile: that it runs and tells everything, not what it finds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

use clap::ValueEnum;
use heddle_bench::figure::Figure;
use heddle_bench::report::{Report, json};
use heddle_bench::subjects::Subject;
use heddle_bench::workloads::Workload;
use heddle_tests::namespace::Namespace;
use heddle_tests::process::Invocation;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Far more than it needs on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// What one run wrote.
struct Run {
    report: Report,
    printed: String,
    page: String,
    text: String,
}

impl Run {
    fn of(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [file, page, text] =
            ["report.json", "report.html", "report.md"].map(|name| folder.path().join(name));
        let host = Namespace::new("bench").unwrap();
        let bench = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-bench"));
        let bench = bench.args(["--smallest", "--commit", "abc123", "--json", file.to_str().unwrap()]);
        let bench = bench.args([Path::new("--html"), &page, Path::new("--markdown"), &text]);
        let mut bench = bench.args(arguments).start(&host).unwrap();
        let status = bench.wait(LIMIT).unwrap();
        assert!(status.success(), "{status}\n{}", bench.stderr());
        let rules = Invocation::foreign("nft").args(["list", "ruleset"]).run(&host).unwrap();
        assert_eq!(rules.stdout, "", "the namespace that it was started in is as it was");
        let report = json::read(&fs::read_to_string(&file).unwrap()).unwrap();
        let lacking: Vec<&Figure> =
            report.figures.iter().filter(|figure| figure.spread().is_none()).collect();
        assert!(lacking.is_empty(), "figures without a number: {lacking:?}");
        let [page, text] = [page, text].map(|file| fs::read_to_string(file).unwrap());
        let run = Self { report, printed: bench.stdout(), page, text };
        run.is_told();
        run
    }

    /// The page and the text for pasting have a table for each workload, a row for each figure, and every claim.
    fn is_told(&self) {
        let Self { page, text, .. } = self;
        let (groups, figures) = (self.report.groups().len(), self.report.figures.len());
        let claims = self.report.claims.len();
        assert_eq!(page.matches("<h3>").count(), groups + page.matches("Flaws of the processor").count());
        let rows: usize = page
            .split("class=\"plots\"")
            .skip(1)
            .map(|card| card.matches("<tr><th scope=\"row\"").count())
            .sum();
        let elsewhere =
            page.split("id=\"environment\"").nth(1).unwrap().matches("<tr><th scope=\"row\"").count();
        assert_eq!(rows, figures + elsewhere);
        assert!(page.ends_with("</html>\n"), "{page}");
        assert_eq!(text.matches("\n|---|").count(), groups + usize::from(claims > 0), "{text}");
        let heads = groups + usize::from(claims > 0);
        assert_eq!(
            text.lines().filter(|line| line.starts_with("| ")).count(),
            heads + figures + claims,
            "{text}"
        );
    }

    /// The figure of a workload and of a subject with its size.
    fn figure(&self, workload: &str, who: &str) -> &Figure {
        let is = |figure: &&Figure| figure.workload == workload && figure.who() == who;
        let found = self.report.figures.iter().find(is);
        found.unwrap_or_else(|| panic!("no figure {workload} of {who} in\n{}", self.printed))
    }

    fn measured(&self, workload: &str, who: &str, samples: usize) {
        assert_eq!(self.figure(workload, who).values.len(), samples, "{workload} of {who}");
        let is_printed = self.printed.contains(workload) && self.printed.contains(who);
        assert!(is_printed, "{workload} of {who} is not in\n{}", self.printed);
    }

    fn claimed(&self, what: &str) {
        let claims: Vec<&str> = self.report.claims.iter().map(|claim| claim.what.as_str()).collect();
        assert!(claims.contains(&what), "{what} is not among {claims:#?}");
        assert!(self.printed.contains(what), "not printed: {what}");
    }
}

#[test]
fn the_smallest_profile_runs_and_its_report_is_complete() {
    let run = Run::of(&["run"]);
    let Report { schema, environment, interrupted, .. } = &run.report;
    assert_eq!((*schema, environment.commit.as_str(), *interrupted), (2, "abc123", false));
    assert_eq!((environment.load_at_start.len(), environment.load_at_end.len()), (3, 3));
    for (workload, who, samples) in [
        ("one endpoint: event to kernel committed", "heddle nft, 20 × 3", 5),
        ("one endpoint: event to kernel committed", "heddle ebpf, 20 × 3", 5),
        ("new Service: API write to kernel notified", "heddle nft, 20 × 3", 2),
        ("one endpoint: API write to first connection", "heddle nft, 20 × 3", 4),
        ("one endpoint: API write to first connection", "heddle ebpf, 20 × 3", 4),
        ("process started to first connection", "heddle ebpf, 20 × 3", 1),
        ("churn: changes that count before the next one", "heddle nft, 20 × 3", 1),
        ("churn: CPU of the proxy for a change", "heddle ebpf, 20 × 3", 1),
        ("memory after the start, from a folder", "heddle nft, 20 × 3", 1),
        ("memory of the maps", "heddle ebpf, 20 × 3", 1),
        ("ADD, one host port", "heddle-cni", 2),
    ] {
        run.measured(workload, who, samples);
    }
    every_subject_is_measured_with_every_workload(&run);
    let operations = run.figure("one endpoint: kernel operations", "heddle nft, 20 × 3").spread().unwrap();
    assert!((operations.median - 2.0).abs() < 1e-9, "one element goes and one comes: {operations:?}");
    let is_elements = |figure: &&Figure| figure.unit == "elements" && figure.who() == "heddle nft, 20 × 3";
    let elements = run.report.figures.iter().find(is_elements).unwrap();
    let (each, probed) = (20.0 * 5.0, 4.0);
    assert_eq!(
        elements.values,
        [each + probed],
        "a Service, its address and three endpoints, twenty times; one of one endpoint, which may ask itself"
    );
}

fn every_subject_is_measured_with_every_workload(run: &Run) {
    for subject in Subject::built_in() {
        let size = if subject.has_services() { ", 20 × 3" } else { "" };
        for (workload, ..) in Workload::value_variants().iter().flat_map(|workload| workload.kinds()) {
            run.measured(workload, &format!("{}{size}", subject.name()), 2);
        }
    }
    run.measured("new connections, one Service", "loopback", 2);
    let connections = "new connections, one Service";
    let ratios = run.report.ratios(run.figure(connections, "heddle nft, 20 × 3"));
    assert_eq!(ratios.unwrap().len(), 2, "one a round, to direct");
    for (what, to) in [
        ("new connections, one Service: heddle nft, 20 × 3", "kube-proxy nftables layout, 20 × 3"),
        ("rate of bulk TCP, one flow: heddle nft, 20 × 3", "direct"),
        ("new connections, one Service: heddle ebpf, 20 × 3", "direct"),
        ("rate of new connections, one Service: heddle ebpf, 20 × 3", "direct"),
        ("new connections, one Service: heddle ebpf, 20 × 3", "heddle nft, 20 × 3"),
        ("new connections, one Service: heddle nft, 20 × 3", "kube-proxy iptables layout, 20 × 3"),
        ("rate of new connections, one Service: heddle ebpf, tracked, 20 × 3", "direct beside ebpf, 20 × 3"),
        ("rate of bulk TCP, one flow: heddle ebpf, tracked, 20 × 3", "direct beside ebpf, 20 × 3"),
        ("rate of UDP request and answer: heddle ebpf, tracked, 20 × 3", "direct beside ebpf, 20 × 3"),
    ] {
        run.claimed(&format!("{what} / {to}"));
    }
    run.claimed("call of connect: heddle ebpf, tracked, 20 × 3 more than direct beside ebpf, 20 × 3");
}

#[test]
fn client_and_server_may_be_on_two_nodes_and_a_service_may_have_many_endpoints() {
    let subjects = "direct,nft,ebpf,nftables-layout,iptables-layout";
    let flags = ["run", "--only", "data-plane", "--nodes", "2", "--rounds", "1", "--services", "2"];
    let run = Run::of(&[&flags[..], &["--endpoints", "100", "--subjects", subjects]].concat());
    for workload in ["packets of new flows", "bulk UDP, 16 flows", "new connections, node port from outside"]
    {
        for who in ["heddle nft", "heddle ebpf", "kube-proxy nftables layout", "kube-proxy iptables layout"] {
            run.measured(workload, &format!("{who}, 2 × 100"), 1);
        }
    }
}

#[test]
fn a_subject_that_is_slowed_on_purpose_is_told_so_in_every_form_and_nothing_is_claimed_of_it() {
    let flags = ["run", "--only", "data-plane", "--subjects", "direct,nft", "--workloads", "connections"];
    let run = Run::of(&[&flags[..], &["--services", "3", "--finer", "2", "--handicap", "nft=500"]].concat());
    run.measured("new connections, one Service", "heddle nft, 3 × 3", 4);
    assert_eq!(run.report.handicaps, [("heddle nft".to_owned(), 500)].into());
    assert_eq!((run.report.claims.len(), run.report.profile.as_str()), (0, "smallest, finer by 2"));
    let told = "heddle nft was made slower on purpose, by 500 rules for each packet";
    assert!(run.printed.contains(&format!("HANDICAP: {told}\n")), "{}", run.printed);
    assert!(run.page.contains(&format!("Handicap: {told}.")), "{}", run.page);
    assert!(run.text.contains(&format!("**Handicap**: {told}.")), "{}", run.text);
}

#[test]
fn the_plugin_is_measured_beside_the_reference_plugins_and_a_list_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("own.conflist");
    let ipam = serde_json::json!({"type": "host-local", "subnet": "10.9.0.0/24"});
    let plugin = serde_json::json!({"type": "ptp", "ipam": ipam});
    let own = serde_json::json!({"name": "own", "cniVersion": "1.0.0", "plugins": [plugin]});
    fs::write(&list, own.to_string()).unwrap();
    let run = Run::of(&["cni", "--path", "/usr/lib/cni", "--list", list.to_str().unwrap()]);
    for (workload, who, samples) in [
        ("ADD", "heddle-cni", 2),
        ("ADD, one host port", "heddle-cni", 2),
        ("DEL: beyond the removal of a link", "heddle-cni", 2),
        ("DEL, IPv4 alone", "bridge + host-local", 2),
        ("ADD, IPv4 alone", "own", 2),
        ("4 ADDs at once: all", "heddle-cni", 2),
        ("memory at its peak", "heddle-cni", 1),
    ] {
        run.measured(workload, who, samples);
    }
    run.claimed("ADD, IPv4 alone: heddle-cni / own");
    run.claimed("ADD beside 10 leases / ADD beside 1 leases");
    assert!(run.report.ratios(run.figure("ADD, IPv4 alone", "heddle-cni")).is_some());
}
