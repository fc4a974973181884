//! Every file in `tests/scenarios` is a test: `cargo nextest run -p heddle-tests --test scenarios`.

use heddle_proxy::frontends::Reach;
use heddle_proxy::model::Protocol;
use heddle_tests::scenario::{Origin, Outcomes, Scenario, Served, Way, pass_traffic};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "there is no test yet to which this could belong")]
            {
                eprintln!("list the scenarios: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Result<Vec<Trial>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files: Result<Vec<PathBuf>, _> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut files: Vec<PathBuf> = files.map_err(|error: std::io::Error| error)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "scenario"));
    files.sort();
    let trials = files.iter().flat_map(|file| rungs(file)).collect::<Vec<_>>();
    let coverage = Trial::test("every_way_into_a_service_has_a_line_of_traffic", move || every_way(&files));
    Ok(trials.into_iter().chain([coverage]).collect())
}

/// A way is where a packet comes from, the kind of frontend, its policy, the protocol and the family.
fn every_way(files: &[PathBuf]) -> Result<(), Failed> {
    let mut taken = BTreeSet::new();
    for file in files {
        taken.extend(Way::of(&Scenario::parse(&fs::read_to_string(file)?)?));
    }
    let all = Way::all();
    let missing = all.iter().filter(|way| left_out(way).is_none() && !taken.contains(way));
    let missing = missing.map(|way| format!("{way}: no scenario"));
    let needless = taken.iter().filter_map(|way| Some((way, left_out(way)?)));
    let needless = needless.map(|(way, why)| format!("{way}: is tried, but was left out: {why}"));
    let wrong: Vec<String> = missing.chain(needless).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// Why a way has no traffic.
fn left_out(way: &Way) -> Option<&'static str> {
    if way.protocol == Protocol::Sctp {
        return Some(
            "a packet would load the kernel's module; the rules are compared in three-protocols-every-way",
        );
    }
    if way.origin == Origin::OtherNode && way.reach != Reach::NodePort {
        return Some("a node takes what it sends to these itself: it is the origin Node");
    }
    None
}

/// A scenario is three tests: what the programs say, which needs nothing, and what clients see, which needs root: with packets that
/// are routed, and with sockets that are served. ebpf:6.9: both ways have the same file, and the same answers.
fn rungs(file: &Path) -> [Trial; 3] {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let (printed, passed, served) = (file.to_owned(), file.to_owned(), file.to_owned());
    [
        Trial::test(format!("{name}::outcomes"), move || outcomes(&printed)),
        Trial::test(format!("{name}::traffic"), move || traffic(&passed, Served::AtPackets)),
        Trial::test(format!("{name}::sockets"), move || traffic(&served, Served::AtSockets)),
    ]
}

fn outcomes(file: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(file)?;
    let scenario = Scenario::parse(&text)?;
    let outcomes = Outcomes::of(&scenario);
    if blessing() {
        return Ok(fs::write(file, outcomes.bless(&text))?);
    }
    Ok(outcomes.meet(&scenario.outcomes)?)
}

fn traffic(file: &Path, served: Served) -> Result<(), Failed> {
    let scenario = Scenario::parse(&fs::read_to_string(file)?)?;
    pass_traffic(&scenario, served).map_err(|error| Failed::from(with_causes(&error)))
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "the one place where a scenario may be rewritten")]
fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}
