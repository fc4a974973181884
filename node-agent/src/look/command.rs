//! The subcommand: it asks the running agent over its socket.

use super::{AGENT, Ask, DEFAULT, Told};
use clap::Args;
use heddle_proxy::door::{Output, ask};
use std::path::PathBuf;
use std::process::ExitCode;

/// How the running heddle-node does: what it keeps in the kernel, the way to each other node, what is wrong.
///
/// It fails unless the kernel has all that is to be there; what cannot be planned is reported as a problem and is no failure.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// The socket of the heddle-node that is asked.
    #[arg(long, value_name = "PATH", default_value = DEFAULT)]
    status_socket: PathBuf,
    /// How the answer looks.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
    /// Every node and every problem; without it, of many those that are not well, and a few others. JSON has all.
    #[arg(short, long)]
    all: bool,
}

/// Asks, and prints the answer.
pub fn run(flags: &Flags) -> ExitCode {
    let asked = Ask::Status { all: flags.all };
    match ask::ask::<Told>(AGENT, &flags.status_socket, &asked, flags.output) {
        Ok(told) => ask::print(&told.text, told.amiss.as_deref()),
        Err(sentence) => ask::print("", Some(&sentence)),
    }
}
