//! Every file in `tests/scenarios` is a test: `cargo nextest run -p heddle-tests --test scenarios`.

use heddle_tests::scenario::{Outcomes, Scenario, pass_traffic};
use libtest_mimic::{Arguments, Failed, Trial};
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
    Ok(files.iter().flat_map(|file| rungs(file)).collect())
}

/// A scenario is two tests: what the programs say, which needs nothing, and what clients see, which needs root.
fn rungs(file: &Path) -> [Trial; 2] {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let (printed, passed) = (file.to_owned(), file.to_owned());
    [
        Trial::test(format!("{name}::outcomes"), move || outcomes(&printed)),
        Trial::test(format!("{name}::traffic"), move || traffic(&passed)),
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

fn traffic(file: &Path) -> Result<(), Failed> {
    let scenario = Scenario::parse(&fs::read_to_string(file)?)?;
    pass_traffic(&scenario).map_err(|error| Failed::from(with_causes(&error)))
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
