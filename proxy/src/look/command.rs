//! The subcommands: each asks the running process over its socket, or works its answer out from a folder of manifests.

use super::dump::{self, Part};
use super::offline::Offline;
use super::protocol::{Ask, PROXY};
use super::socket::{self, answer_trace};
use super::words::Words;
use crate::config::{CommandLine, Config, Source};
use crate::door::shown::pretty;
use crate::door::{Answer, Output, ask};
use crate::problems::News;
use crate::watch::Manifests;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Asks a running heddle-proxy. Without a subcommand, heddle-proxy is the daemon: see `heddle-proxy --help`.
#[derive(Debug, Parser)]
#[command(name = "heddle-proxy", version, max_term_width = 100)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the running heddle-proxy does: its last sync, what it holds, what is wrong.
    Status {
        #[command(flatten)]
        door: Door,
    },
    /// What would become of a connection, and why: frontend, policy, endpoints with their shares, source NAT, and the
    /// kernel's rules and elements that do it.
    Trace {
        /// Who connects: an address, or `pod` (of this node), `node` or `outside`.
        source: String,
        /// To what: ADDRESS:PORT, node:PORT or NAMESPACE/SERVICE:PORT, then perhaps /udp or /sctp.
        destination: String,
        /// The interface by which the packet comes in. Matters where pods are known by their interface.
        #[arg(long, value_name = "NAME")]
        in_interface: Option<String>,
        #[command(flatten)]
        door: Door,
        #[command(flatten)]
        offline: OfflineFlags,
    },
    /// What heddle-proxy believes: the cluster's objects, the frontends that follow from them and the planned tables; and
    /// on request what the kernel has, with the difference.
    Dump {
        /// Which parts, separated by commas; without it, all but the kernel's.
        #[arg(long, value_name = "PARTS", value_enum, value_delimiter = ',')]
        part: Vec<Part>,
        #[command(flatten)]
        door: Door,
        #[command(flatten)]
        offline: OfflineFlags,
    },
}

#[derive(Debug, Args)]
struct Door {
    /// The socket of the heddle-proxy that is asked.
    #[arg(long, value_name = "PATH", default_value = socket::DEFAULT)]
    status_socket: PathBuf,
    /// How the answer looks.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

/// The daemon's flags that decide what it believes. They are read by the daemon's own rules.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without a running heddle-proxy")]
struct OfflineFlags {
    /// Answer from the manifests of this folder, as a heddle-proxy with the following flags would.
    #[arg(long, value_name = "DIR")]
    manifests: Option<String>,
    /// The daemon's configuration file, in place of the flags below.
    #[arg(long, value_name = "FILE", requires = "manifests")]
    config: Option<String>,
    /// As for the daemon.
    #[arg(long, value_name = "NAME", requires = "manifests")]
    hostname_override: Option<String>,
    /// As for the daemon.
    #[arg(long, value_name = "MODE", requires = "manifests")]
    proxy_mode: Option<String>,
    /// As for the daemon.
    #[arg(long, value_name = "CIDRS", requires = "manifests")]
    cluster_cidr: Option<String>,
    /// As for the daemon.
    #[arg(long, value_name = "MODE", requires = "manifests")]
    detect_local_mode: Option<String>,
    /// As for the daemon.
    #[arg(long, value_name = "NAME", requires = "manifests")]
    pod_bridge_interface: Option<String>,
    /// As for the daemon.
    #[arg(long, value_name = "PREFIX", requires = "manifests")]
    pod_interface_name_prefix: Option<String>,
    /// As for the daemon.
    #[arg(long, requires = "manifests")]
    masquerade_all: bool,
    /// As for the daemon.
    #[arg(long, value_name = "CIDRS", requires = "manifests")]
    nodeport_addresses: Option<String>,
}

/// Whether a command line, whose first word is the program's name, asks for a subcommand.
pub fn is_asked(arguments: &[OsString]) -> bool {
    let first = arguments.get(1).and_then(|first| first.to_str());
    first.is_some_and(|first| ["status", "trace", "dump"].contains(&first))
}

/// Runs a subcommand and prints its answer.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let answer = match Flags::try_parse_from(arguments) {
        Ok(flags) => answer(flags.command),
        Err(error) => error.exit(),
    };
    match answer {
        Ok(text) => ask::print(&text, None),
        Err(sentence) => ask::print("", Some(&sentence)),
    }
}

fn answer(command: Command) -> Answer {
    match command {
        Command::Status { door } => ask(&door, &Ask::Status),
        Command::Trace { source, destination, in_interface, door, offline } => {
            let words = Words { source, destination, in_interface };
            let Some(config) = offline.config()? else { return ask(&door, &Ask::Trace(words)) };
            let believed = believe(&config)?;
            let addresses = believed.addresses();
            answer_trace(&believed.inside(), (&config.settings, &addresses), &words, door.output)
        }
        Command::Dump { part, door, offline } => {
            let mut parts = if part.is_empty() { Part::DEFAULT.to_vec() } else { part };
            parts.sort_unstable();
            parts.dedup();
            let Some(config) = offline.config()? else { return ask(&door, &Ask::Dump(parts)) };
            dump_offline(&believe(&config)?, &parts, door.output)
        }
    }
}

fn ask(door: &Door, ask: &Ask) -> Answer {
    ask::ask(PROXY, &door.status_socket, ask, door.output)
}

impl OfflineFlags {
    /// The configuration that a daemon with these flags would have; `None` where a running one is to be asked.
    fn config(&self) -> Result<Option<Config>, String> {
        let Some(manifests) = &self.manifests else { return Ok(None) };
        let given = [
            ("config", &self.config),
            ("hostname-override", &self.hostname_override),
            ("proxy-mode", &self.proxy_mode),
            ("cluster-cidr", &self.cluster_cidr),
            ("detect-local-mode", &self.detect_local_mode),
            ("pod-bridge-interface", &self.pod_bridge_interface),
            ("pod-interface-name-prefix", &self.pod_interface_name_prefix),
            ("nodeport-addresses", &self.nodeport_addresses),
        ];
        let given = given.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?)));
        let mut arguments = vec!["heddle-proxy".to_owned(), format!("--manifests={manifests}")];
        arguments.extend(given);
        arguments.extend(self.masquerade_all.then(|| "--masquerade-all".to_owned()));
        let host_name = rustix::system::uname();
        let line = CommandLine::read(arguments, &host_name.nodename().to_string_lossy());
        let config = line.and_then(|line| line.config());
        config
            .map(Some)
            .map_err(|error| error.to_string().trim_end().trim_start_matches("error: ").to_owned())
    }
}

/// What a daemon would believe. What is wrong with the manifests is said, and is no reason to say nothing else.
fn believe(config: &Config) -> Result<Offline, String> {
    let Source::Manifests(folder) = &config.source else { return Err("there are no manifests".to_owned()) };
    let mut manifests = Manifests::open(folder, config.scope()).map_err(|error| error.to_string())?;
    let changes = manifests.first().map_err(|error| error.to_string())?;
    for news in manifests.take_news() {
        if let News::Began(problem) = news {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "warning: {problem}");
        }
    }
    let believed = Offline::of((&config.node, config.node_address), &config.settings, changes);
    Ok(believed.at_sockets(config.serves_sockets))
}

fn dump_offline(believed: &Offline, parts: &[Part], output: Output) -> Answer {
    let inside = believed.inside();
    let compared = if parts.contains(&Part::Kernel) {
        let wanted = inside.wanted.iter().map(|table| (*table).clone()).collect();
        socket::read_kernel(wanted).map_err(|error| format!("read the kernel's tables: {error}"))?
    } else {
        Vec::new()
    };
    let text = |part: &Part| match part {
        Part::Kernel => dump::kernel_text(&compared),
        part => dump::text(&inside, *part),
    };
    let json = |part: &Part| match part {
        Part::Kernel => dump::kernel_json(&compared),
        part => dump::json(&inside, *part),
    };
    Ok(match output {
        Output::Text => parts.iter().map(text).collect(),
        Output::Json => pretty(&parts.iter().map(json).collect::<serde_json::Map<_, _>>().into()),
    })
}
