//! Every file in `tests/scenarios` is a test: `cargo nextest run -p heddle-tests --test scenarios`.

use heddle_tests::scenario::{Scenario, pass_traffic};
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
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "scenario"));
    files.sort();
    Ok(files.into_iter().map(trial).collect())
}

fn trial(file: PathBuf) -> Trial {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Trial::test(format!("{name}::traffic"), move || traffic(&file))
}

fn traffic(file: &Path) -> Result<(), Failed> {
    let scenario = Scenario::parse(&fs::read_to_string(file)?)?;
    Ok(pass_traffic(&scenario)?)
}
