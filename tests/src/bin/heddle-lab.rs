//! heddle-lab: the lab from the command line.

use clap::{Parser, Subcommand};
use heddle_tests::demo::{self, Stage};
use std::error::Error;
use std::io::{self, Write, stdout};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Nodes with pods and a Service in network namespaces of their own, with heddle at work in them.
///
/// Needs root, and heddle-cni, heddle-node and heddle-proxy beside it. Nothing is left of it when it ends, however it ends.
#[derive(Debug, Parser)]
#[command(name = "heddle-lab", version, max_term_width = 100)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Tells step by step what heddle does, and fails if a step is not true.
    Demo,
    /// Keeps the lab standing until Ctrl-C, and prints the ways into it.
    Up,
}

fn main() -> ExitCode {
    let ran = match Flags::parse().command {
        Command::Demo => demo::tell(&mut stdout()).map_err(Into::into),
        Command::Up => stand(),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the program speaks to the person who started it")]
            {
                eprintln!("error: {}", with_causes(error.as_ref()));
            }
            ExitCode::FAILURE
        }
    }
}

fn stand() -> Result<(), Box<dyn Error>> {
    let stage = Stage::build()?;
    let mut out = stdout();
    stage.show_ways_in(&mut out)?;
    writeln!(out, "\nIt stands until Ctrl-C.")?;
    out.flush()?;
    await_end()?;
    drop(stage);
    Ok(writeln!(out, "Gone.")?)
}

/// Returns when somebody wants the program to end.
fn await_end() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}

/// The error and what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
