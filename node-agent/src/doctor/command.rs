//! `heddle-node doctor`: the flags, the answer on standard output, the exit code.

use super::check::Report;
use super::look::{Asked, look};
use crate::config::{self, Source, Surroundings, name_of_node};
use crate::look::DEFAULT;
use crate::plan::Mode;
use clap::Args;
use heddle_proxy::config::LogFormat;
use heddle_proxy::door::Output;
use heddle_proxy::door::shown::pretty;
use heddle_proxy::logging;
use ipnetwork::IpNetwork;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Checks this node step by step and says what to do. It changes nothing, and works whether or not heddle-node runs. The exit
/// code is 1 when a step failed.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Name of this node; without it, the one that the running heddle-node has, the variable NODE_NAME, or the host's name.
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// Credentials for the API server; without them, and --master and --manifests, Nodes are those that the running
    /// heddle-node knows, and where none runs, those that the API server of the pod has.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Addresses of API servers, separated by commas, in place of the one that kubeconfig or pod have.
    #[arg(long, value_name = "URLS")]
    master: Option<String>,
    /// Read Nodes from the YAML and JSON files of this folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    manifests: Option<PathBuf>,
    /// How other nodes' pods are to be reached: auto, routes or vxlan. [default: as the running heddle-node has it, or auto]
    #[arg(long, value_name = "MODE", value_parser = config::mode)]
    mode: Option<Mode>,
    /// The socket of the heddle-node that runs here.
    #[arg(long, value_name = "PATH", default_value = DEFAULT)]
    status_socket: PathBuf,
    /// Where the node's files are: in a container, where its root is mounted.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The folder of the runtime's configurations, as the node has it.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// The folder of the runtime's plugins, as the node has it.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
    /// Where cluster IPs come from, separated by commas: the API server's --service-cluster-ip-range.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    service_cidr: Vec<IpNetwork>,
    /// How the answer looks.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

impl Flags {
    fn asked(&self, around: Surroundings) -> Asked {
        let is_server = self.kubeconfig.is_some() || self.master.is_some();
        let server =
            || Source::ApiServer { kubeconfig: self.kubeconfig.clone(), master: self.master.clone() };
        let folder = self.manifests.clone().map(Source::Manifests);
        let said = self.hostname_override.as_deref();
        Asked {
            named: said.map(|said| name_of_node(Some(said), &around)),
            unnamed: name_of_node(None, &around),
            mode: self.mode,
            socket: self.status_socket.clone(),
            source: folder.or_else(|| is_server.then(server)),
            root: self.root.clone(),
            configurations: self.cni_conf_dir.clone(),
            programs: self.cni_bin_dir.clone(),
            service_ranges: self.service_cidr.clone(),
            families: around.families,
        }
    }
}

/// Examines the node and prints what it found.
pub fn run(flags: &Flags, around: Surroundings) -> ExitCode {
    logging::start(LogFormat::Text, 0);
    let report = super::examine(&look(&flags.asked(around)));
    // Whoever reads our output, as `head` does, may have read enough.
    let _ = io::stdout().write_all(printed(&report, flags.output).as_bytes());
    if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn printed(report: &Report, output: Output) -> String {
    match output {
        Output::Text => report.to_string(),
        Output::Json => pretty(&report.to_json()),
    }
}
