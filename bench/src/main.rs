//! heddle-bench's process: what is asked for is measured and told, also when it ends early.

use clap::Parser;
use heddle_bench::flags::{Amount, Cni, Command, Flags, Run, Section};
use heddle_bench::interrupt::{self, Interrupt};
use heddle_bench::output;
use heddle_bench::progress::Progress;
use heddle_bench::report::{Environment, Report};
use heddle_bench::stats::Verdict;
use heddle_bench::{Failure, cni, control, run, sockets};
use std::io::{Write, stderr};
use std::process::ExitCode;

fn main() -> ExitCode {
    match work(&Flags::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn work(flags: &Flags) -> Result<ExitCode, Failure> {
    match &flags.command {
        Command::Report { file } => flags.outputs.ready()?.deliver(&output::read(file)?),
        Command::Compare { old, new } => output::compare(old, new, flags.outputs.threshold),
        Command::Run(run) => report(flags, |stop, report| measure(run, flags.amount, stop, report)),
        Command::Cni(cni) => report(flags, |_, report| plugin(cni, flags.amount, report)),
    }
}

/// Measures, and tells what was found until then.
fn report(
    flags: &Flags,
    measure: impl FnOnce(&Interrupt, &mut Report) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let outputs = flags.outputs.ready()?;
    let stop = Interrupt::watch()?;
    let mut report = Report::new(flags.amount.profile().name, Environment::this(&flags.commit));
    let measured = measure(&stop, &mut report);
    report.environment.end();
    // Whatever failed after a signal failed of it.
    report.interrupted = stop.check().is_err();
    let compared = outputs.deliver(&report)?;
    if report.interrupted {
        let _ = writeln!(stderr(), "interrupted: the report has what was measured until then");
        return Ok(ExitCode::from(interrupt::EXIT));
    }
    measured?;
    let falls_short = report.claims.iter().any(|claim| claim.verdict() == Verdict::Missed);
    Ok(if flags.check && falls_short { ExitCode::FAILURE } else { compared })
}

/// Measures all parts that are asked for.
fn measure(asked: &Run, amount: Amount, stop: &Interrupt, report: &mut Report) -> Result<(), Failure> {
    let (plan, profile) = (asked.plan(amount)?, amount.profile());
    let settings = Cni::default().settings(amount);
    let weights = [
        (Section::DataPlane, run::weight(&plan)),
        (Section::ControlPlane, control::weight(&profile) + sockets::weight(&profile)),
        (Section::Plugin, cni::weight(&settings)),
    ];
    let asked_for = weights.iter().filter(|(section, _)| asked.has(*section));
    let mut progress = Progress::new(asked_for.map(|(_, weight)| weight).sum());
    if asked.has(Section::DataPlane) {
        run::measure(&plan, stop, &mut progress, report)?;
    }
    if asked.has(Section::ControlPlane) {
        control::measure(&profile, stop, &mut progress, report)?;
        sockets::measure(&profile, stop, &mut progress, report)?;
    }
    if asked.has(Section::Plugin) {
        stop.check()?;
        cni::measure(&settings, &mut progress, report)?;
    }
    Ok(())
}

fn plugin(asked: &Cni, amount: Amount, report: &mut Report) -> Result<(), Failure> {
    let settings = asked.settings(amount);
    cni::measure(&settings, &mut Progress::new(cni::weight(&settings)), report)
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
