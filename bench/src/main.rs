//! heddle-bench's process: what is asked for is measured and told, also when it ends early.

use clap::Parser;
use heddle_bench::Failure;
use heddle_bench::flags::{Command, Flags};
use heddle_bench::interrupt::{self, Interrupt};
use heddle_bench::output;
use heddle_bench::parts::Parts;
use heddle_bench::report::{Environment, Report};
use heddle_bench::stats::Verdict;
use std::io::{Write, stderr};
use std::process::ExitCode;

/// What diff ends with when it cannot compare: a failure is not what was looked for.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match work(&Flags::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {}", with_causes(&error));
            ExitCode::from(FAILED)
        }
    }
}

fn work(flags: &Flags) -> Result<ExitCode, Failure> {
    match &flags.command {
        Command::Report { file } => flags.outputs.ready()?.deliver(&output::read(file)?),
        Command::Compare { old, new } => output::compare(old, new, flags.outputs.threshold),
        Command::Run(run) => report(flags, &Parts::of(run, flags.amount, &flags.outputs)?),
        Command::Cni(cni) => report(flags, &Parts::of_plugins(cni, flags.amount)),
    }
}

/// Measures, and tells what was found until then.
fn report(flags: &Flags, parts: &Parts) -> Result<ExitCode, Failure> {
    let outputs = flags.outputs.ready()?;
    let stop = Interrupt::watch()?;
    let mut report = Report::new(&flags.amount.name(), Environment::this(&flags.commit));
    let measured = parts.measure(&stop, &mut report);
    report.environment.end();
    report.interrupted = measured.is_err();
    let compared = outputs.deliver(&report)?;
    // Whatever failed after a signal failed of it.
    if report.interrupted && stop.check().is_err() {
        let _ = writeln!(stderr(), "interrupted: the report has what was measured until then");
        return Ok(ExitCode::from(interrupt::EXIT));
    }
    measured?;
    let falls_short = report.claims.iter().any(|claim| claim.verdict() == Verdict::Missed);
    Ok(if flags.check && falls_short { ExitCode::FAILURE } else { compared })
}

fn with_causes(error: &Failure) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
