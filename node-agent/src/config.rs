//! The command line: flags → [`Config`], validated, nothing started.

use crate::doctor;
use crate::look;
use crate::overlay::{self, Vxlan};
use crate::plan::{Mode, Settings};
use crate::supply;
use crate::web;
use clap::{ArgAction, Parser, Subcommand, value_parser};
use heddle_netlink::nft::TableFamily;
use heddle_proxy::config::LogFormat;
use ipnetwork::IpNetwork;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// The pod network between nodes: routes to the other nodes' pods, and masquerade of what leaves the cluster.
///
/// Nodes come from the API server (--kubeconfig, or the in-cluster credentials without it) or from a folder of manifests
/// (--manifests). Routes and tables stay when heddle-node stops; the next start takes them over.
#[derive(Clone, Debug, Parser)]
#[command(name = "heddle-node", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Flags {
    /// What is asked in place of running.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Name of this node; without it, the variable NODE_NAME, and without that, the host's name.
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,
    /// Credentials for the API server; without them, those of the pod.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Addresses of API servers, separated by commas, in place of the one that kubeconfig or pod have.
    #[arg(long, value_name = "URLS")]
    master: Option<String>,
    /// Read Nodes from the YAML and JSON files of this folder, and follow its changes.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    manifests: Option<PathBuf>,
    /// How other nodes' pods are reached: auto (straight where a link leads to the node, else over VXLAN), routes (straight
    /// or not at all) or vxlan (always).
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = mode)]
    mode: Mode,
    /// UDP port of VXLAN, the same on all nodes.
    #[arg(long, value_name = "PORT", default_value_t = overlay::PORT)]
    vxlan_port: u16,
    /// Network identifier (VNI) of VXLAN, the same on all nodes.
    #[arg(long, value_name = "ID", default_value_t = overlay::ID, value_parser = value_parser!(u32).range(1..1 << 24))]
    vxlan_id: u32,
    /// Leave checksums of packets inside VXLAN to the hardware. Off helps where packets arrive damaged, and costs speed.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    vxlan_checksum_offload: bool,
    /// Give what leaves the cluster the node's address.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    masquerade: bool,
    /// Ranges outside the cluster that see pods' own addresses, separated by commas.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    non_masquerade_cidrs: Vec<IpNetwork>,
    /// Where /healthz, /readyz and /livez are answered, such as 127.0.0.1:10270; nowhere without it.
    #[arg(long, value_name = "ADDRESS")]
    healthz_bind_address: Option<SocketAddr>,
    /// Where /metrics is answered, which may be the same; an empty one for nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = web::METRICS, value_parser = listens_at)]
    metrics_bind_address: ListensAt,
    /// Socket on which `heddle-node status` is answered; an empty one for nowhere.
    #[arg(long, value_name = "PATH", default_value = look::DEFAULT)]
    status_socket: String,
    /// Where the kernel's settings are written: in a container, whose /proc/sys is read-only, the node's, mounted elsewhere.
    #[arg(long, value_name = "DIR", default_value = "/proc/sys")]
    sysctl_dir: PathBuf,
    #[command(flatten)]
    supply: supply::Flags,
    /// Remove our routes and tables, and the plugin's files from the folders that are named, and exit. Nothing else removes
    /// them. The plugin itself stays while a pod needs it for its end.
    #[arg(long)]
    cleanup: bool,
    /// With --cleanup, do not exit but wait for a signal: a pod of a DaemonSet that has done its work is not to be started again.
    #[arg(long, requires = "cleanup")]
    wait: bool,
    /// How much is logged: 0 says what happens, 4 each sync, 6 everything.
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u32,
    /// How it is logged: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    logging_format: String,
}

/// An address, or none.
#[derive(Clone, Copy, Debug)]
struct ListensAt(Option<SocketAddr>);

fn listens_at(text: &str) -> Result<ListensAt, AddrParseError> {
    if text.is_empty() { Ok(ListensAt(None)) } else { text.parse().map(|address| ListensAt(Some(address))) }
}

/// What else the program is started for.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    #[expect(missing_docs, reason = "its text for --help is its type's")]
    Status(look::command::Flags),
    #[expect(missing_docs, reason = "its text for --help is its type's")]
    Doctor(doctor::command::Flags),
}

pub(crate) fn mode(text: &str) -> Result<Mode, &'static str> {
    match text {
        "auto" => Ok(Mode::Auto),
        "routes" => Ok(Mode::Routes),
        "vxlan" => Ok(Mode::Vxlan),
        _ => Err("the modes are auto, routes and vxlan"),
    }
}

/// Where Nodes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    ApiServer {
        /// Credentials.
        kubeconfig: Option<PathBuf>,
        /// Addresses in place of theirs.
        master: Option<String>,
    },
    /// A folder.
    Manifests(PathBuf),
}

/// What the process is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is planned by.
    pub settings: Settings,
    /// Where Nodes come from.
    pub source: Source,
    /// Where probes are answered.
    pub probes: Option<SocketAddr>,
    /// Where metrics are answered.
    pub metrics: Option<SocketAddr>,
    /// Where questions are answered.
    pub status_socket: Option<PathBuf>,
    /// Where the kernel's settings are written.
    pub sysctl: PathBuf,
    /// What the plugin is supplied with.
    pub supply: supply::Settings,
    /// Remove everything instead.
    pub cleans_up: bool,
    /// And wait for a signal after that.
    pub waits: bool,
    /// klog's number for how much is logged.
    pub verbosity: u32,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// What the process is told by others than the command line.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The variable `NODE_NAME`.
    pub node_name: Option<String>,
    /// The host's own name.
    pub host_name: String,
    /// The folder of our own program.
    pub beside: PathBuf,
    /// The families that the kernel has.
    pub families: Vec<TableFamily>,
}

/// The name of our own node: what is said, or what Kubernetes or the host says.
pub fn name_of_node(said: Option<&str>, around: &Surroundings) -> Arc<str> {
    let named = said.or(around.node_name.as_deref()).filter(|name| !name.trim().is_empty());
    named.unwrap_or(&around.host_name).trim().to_lowercase().into()
}

impl Flags {
    /// What they mean.
    pub fn config(self, around: Surroundings) -> Config {
        let node = name_of_node(self.hostname_override.as_deref(), &around);
        let source = match self.manifests {
            Some(folder) => Source::Manifests(folder),
            None => Source::ApiServer { kubeconfig: self.kubeconfig, master: self.master },
        };
        let supply = self.supply.settings(&around.beside, &around.families);
        let settings = Settings {
            node,
            mode: self.mode,
            vxlan: Vxlan { port: self.vxlan_port, id: self.vxlan_id, offload: self.vxlan_checksum_offload },
            masquerades: self.masquerade,
            seen_by: self.non_masquerade_cidrs,
            families: around.families,
        };
        let log_format = if self.logging_format == "json" { LogFormat::Json } else { LogFormat::Text };
        Config {
            settings,
            source,
            probes: self.healthz_bind_address,
            metrics: self.metrics_bind_address.0,
            status_socket: Some(self.status_socket).filter(|path| !path.is_empty()).map(PathBuf::from),
            sysctl: self.sysctl_dir,
            supply,
            cleans_up: self.cleanup,
            waits: self.wait,
            verbosity: self.verbosity,
            log_format,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[&str], node_name: Option<&str>) -> Config {
        let flags = Flags::try_parse_from([&["heddle-node"], flags].concat()).unwrap();
        let node_name = node_name.map(str::to_owned);
        flags.config(Surroundings {
            node_name,
            host_name: "Host".to_owned(),
            families: vec![TableFamily::Ip],
            ..Surroundings::default()
        })
    }

    #[test]
    fn the_node_is_named_by_flag_variable_or_host_in_this_order() {
        assert_eq!(&*config(&["--hostname-override", " A "], Some("b")).settings.node, "a");
        assert_eq!(&*config(&[], Some("B")).settings.node, "b");
        assert_eq!(&*config(&[], None).settings.node, "host");
        assert_eq!(&*config(&[], Some(" ")).settings.node, "host");
    }

    #[test]
    fn modes_and_numbers_of_vxlan_are_what_they_can_be() {
        let given = config(&["--mode", "vxlan", "--vxlan-port", "8472", "--vxlan-id", "7"], None).settings;
        assert_eq!((given.mode, given.vxlan), (Mode::Vxlan, Vxlan { port: 8472, id: 7, offload: true }));
        assert_eq!(config(&[], None).settings.mode, Mode::Auto);
        for refused in
            [["--mode", "ipip"], ["--vxlan-id", "0"], ["--vxlan-id", "16777216"], ["--vxlan-port", "65536"]]
        {
            assert!(Flags::try_parse_from(["heddle-node", refused[0], refused[1]]).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn questions_are_answered_in_run_unless_that_is_said_otherwise() {
        let socket = |flags: &[&str]| config(flags, None).status_socket;
        assert_eq!(socket(&[]), Some("/run/heddle/node.sock".into()));
        assert_eq!(socket(&["--status-socket", "/a/b"]), Some("/a/b".into()));
        assert_eq!(socket(&["--status-socket", ""]), None);
    }

    #[test]
    fn metrics_are_answered_on_the_host_itself_unless_that_is_said_otherwise() {
        let metrics = |flags: &[&str]| config(flags, None).metrics.map(|address| address.to_string());
        assert_eq!(metrics(&[]).as_deref(), Some("127.0.0.1:10271"));
        assert_eq!(metrics(&["--metrics-bind-address", "[::1]:1"]).as_deref(), Some("[::1]:1"));
        assert_eq!(metrics(&["--metrics-bind-address", ""]), None);
        assert!(Flags::try_parse_from(["heddle-node", "--metrics-bind-address", "10271"]).is_err());
    }

    #[test]
    fn a_subcommand_has_flags_of_its_own() {
        let read = |words: &[&str]| Flags::try_parse_from([&["heddle-node"], words].concat());
        assert!(matches!(read(&["status", "-o", "json"]).unwrap().command, Some(Command::Status(_))));
        assert!(read(&[]).unwrap().command.is_none());
        assert!(read(&["--cleanup", "status"]).is_err() && read(&["status", "--cleanup"]).is_err());
    }

    #[test]
    fn ranges_that_see_pods_are_a_list() {
        let config = config(&["--non-masquerade-cidrs", "10.0.0.0/8,fd00::/8"], None);
        assert_eq!(config.settings.seen_by, ["10.0.0.0/8", "fd00::/8"].map(|range| range.parse().unwrap()));
        assert!(config.settings.masquerades);
    }
}
