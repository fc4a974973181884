//! heddle-bench's process: flags, the two halves, the report.

use clap::{Args, Parser, Subcommand};
use heddle_bench::cluster::Size;
use heddle_bench::profile::Profile;
use heddle_bench::progress::Progress;
use heddle_bench::report::{Environment, Report, json};
use heddle_bench::{Failure, cni, control, sockets, travel};
use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures what heddle-proxy takes to follow a cluster, and what a connection through a Service costs.
///
/// Needs root, heddle-proxy and heddle-cni beside it, and nft for the ruleset that heddle is compared with. Everything
/// happens in network namespaces of its own. Missed bounds are said, and do not fail.
#[derive(Debug, Parser)]
#[command(name = "heddle-bench", version, max_term_width = 100)]
struct Flags {
    /// Less of everything: about half a minute where the whole takes several.
    #[arg(long, conflicts_with = "smallest")]
    quick: bool,
    /// Only what the proxy does and takes, at the sizes whose memory has a bound.
    #[arg(long, conflicts_with_all = ["quick", "smallest"])]
    memory: bool,
    /// Only enough to see that everything works; the figures mean nothing.
    #[arg(long)]
    smallest: bool,
    /// Writes the report there too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The commit that the programs were built from, for the report.
    #[arg(long, value_name = "ID", default_value = "unknown")]
    commit: String,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What is measured in the place of heddle-proxy.
#[derive(Debug, Subcommand)]
enum Part {
    /// Measures ADD and DEL of heddle-cni, and of Debian's bridge and host-local when they are there.
    Cni(Cni),
    /// Measures connections between two pods of a node: direct, and through Services that are served at sockets or by packets.
    Sockets,
}

#[derive(Debug, Args)]
struct Cni {
    /// Another configuration list to measure beside them.
    #[arg(long, value_name = "FILE", requires = "path")]
    list: Option<PathBuf>,
    /// Where the plugins of that list are.
    #[arg(long, value_name = "FOLDER")]
    path: Vec<PathBuf>,
}

impl Cni {
    fn settings(&self, flags: &Flags) -> cni::Settings {
        let other = self.list.clone().map(|list| (list, self.path.clone()));
        let (rounds, pods, burst) = match flags {
            Flags { smallest: true, .. } => (2, 1, 4),
            Flags { quick: true, .. } => (5, 5, 100),
            _ => (15, 15, 100),
        };
        let leases = if flags.smallest { vec![1, 10] } else { vec![100, 4_000, 60_000] };
        cni::Settings { rounds, pods, burst, leases, other }
    }
}

fn socket_settings(flags: &Flags) -> sockets::Settings {
    let (sizes, followed, rounds, connections, bulk) = match flags {
        Flags { smallest: true, .. } => (vec![(1, 1), (20, 3)], vec![(20, 3)], 2, 20, 1 << 20),
        Flags { quick: true, .. } => (vec![(1, 4), (1_000, 4)], vec![(10_000, 3)], 9, 1_000, 64 << 20),
        _ => (vec![(1, 4), (1_000, 4), (30_000, 4)], vec![(10_000, 3), (30_000, 4)], 21, 2_000, 256 << 20),
    };
    let of = |sizes: Vec<(u32, u32)>| sizes.into_iter().map(Size::from).collect();
    let changes = if flags.smallest { 5 } else { 300 };
    sockets::Settings { sizes: of(sizes), rounds, connections, bulk, followed: of(followed), changes }
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), Failure> {
    let profile = match flags {
        Flags { smallest: true, .. } => Profile::smallest(),
        Flags { memory: true, .. } => Profile::memory(),
        Flags { quick: true, .. } => Profile::quick(),
        _ => Profile::full(),
    };
    let mut report = Report::new(profile.name, Environment::this(&flags.commit));
    if let Some(Part::Cni(part)) = &flags.part {
        let settings = part.settings(flags);
        cni::measure(&settings, &mut Progress::new(cni::weight(&settings)), &mut report)?;
    } else if let Some(Part::Sockets) = &flags.part {
        let settings = socket_settings(flags);
        sockets::measure(&settings, &mut Progress::new(sockets::weight(&settings)), &mut report)?;
    } else {
        let mut progress = Progress::new(control::weight(&profile) + travel::weight(&profile));
        control::measure(&profile, &mut progress, &mut report)?;
        travel::measure(&profile, &mut progress, &mut report)?;
    }
    report.environment.end();
    write!(stdout(), "{report}")?;
    if let Some(file) = &flags.json {
        fs::write(file, format!("{:#}\n", json::write(&report)))
            .map_err(|cause| format!("write {}: {cause}", file.display()))?;
    }
    Ok(())
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
