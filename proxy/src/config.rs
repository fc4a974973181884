//! Flags into a validated [`Config`]; nothing is started here.
//!
//! This is the only place that reads the command line and asks for the host's name.

use crate::nft::settings::{Locality, NodePortAddresses, Settings};
use clap::{Parser, ValueEnum};
use ipnetwork::IpNetwork;
use std::path::PathBuf;

/// Services and EndpointSlices into nftables: a kube-proxy replacement.
///
/// Objects come from the API server (--kubeconfig, or the in-cluster credentials without it) or from a folder of
/// Kubernetes manifests (--manifests), which needs no cluster. The rules stay when heddle-proxy stops; the next start
/// takes them over.
#[derive(Debug, Parser)]
#[command(name = "heddle-proxy", version, max_term_width = 100)]
struct Flags {
    /// Read Services, EndpointSlices and Nodes from the YAML and JSON files of this folder, and follow its changes.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    manifests: Option<PathBuf>,

    /// Kubeconfig of the API server; without it, the credentials that a pod has.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Address of the API server, in place of the one that kubeconfig or pod have: that one may be a Service which
    /// heddle-proxy itself is to set up.
    #[arg(long, value_name = "URL")]
    master: Option<String>,

    /// How packets are routed.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Mode::Nftables)]
    proxy_mode: Mode,

    /// Networks that pods get their addresses from, one of each family, separated by a comma. What comes to a cluster IP
    /// from elsewhere is masqueraded.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    cluster_cidr: Vec<IpNetwork>,

    /// How packets of this node's pods are known.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = LocalMode::ClusterCidr)]
    detect_local_mode: LocalMode,

    /// The interface that pods' packets come in by, with --detect-local-mode=BridgeInterface.
    #[arg(long, value_name = "NAME", required_if_eq("detect_local_mode", "BridgeInterface"))]
    pod_bridge_interface: Option<String>,

    /// How the names of those interfaces begin, with --detect-local-mode=InterfaceNamePrefix.
    #[arg(long, value_name = "PREFIX", required_if_eq("detect_local_mode", "InterfaceNamePrefix"))]
    pod_interface_name_prefix: Option<String>,

    /// Masquerade everything that goes to a cluster IP.
    #[arg(long)]
    masquerade_all: bool,

    /// Where node ports are served: networks separated by commas, or `primary` for the node's own address.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', default_value = "primary")]
    nodeport_addresses: Vec<String>,

    /// Name of this node; without it, the host's name.
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,

    /// How much is logged: 0 says what happens, 4 each sync, 6 everything.
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,

    /// How it is logged.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    logging_format: LogFormat,
}

/// A dataplane, by the name that `--proxy-mode` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// nf_tables.
    Nftables,
}

/// How packets of this node's pods are known, by the name that `--detect-local-mode` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LocalMode {
    /// Their source is in `--cluster-cidr`.
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    /// Their source is in the networks that the Node object has for its pods.
    #[value(name = "NodeCIDR")]
    NodeCidr,
    /// They come in by the bridge.
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    /// They come in by an interface with this beginning.
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder of manifests.
    Manifests(PathBuf),
    /// The API server.
    ApiServer {
        /// Its address and our credentials; without it, those that a pod has.
        kubeconfig: Option<PathBuf>,
        /// Its address, whatever the credentials say.
        master: Option<String>,
    },
}

/// What heddle-proxy is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this node, trimmed and in lower case.
    pub node: String,
    /// Where objects come from.
    pub source: Source,
    /// How packets are routed.
    pub mode: Mode,
    /// What is decided about it.
    pub settings: Settings,
    /// 0 to 255, as klog's.
    pub verbosity: u8,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Why the flags make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The flags are wrong, or help or the version was asked for; clap says it.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// `--nodeport-addresses` has something that is no network.
    #[error("--nodeport-addresses: {value:?} is neither a network nor, alone, \"primary\"")]
    NodePortAddresses {
        /// What it has.
        value: String,
    },
    /// The node has no name.
    #[error("the node has no name: give one with --hostname-override")]
    NoNodeName,
}

impl Config {
    /// Reads the process's command line.
    ///
    /// # Errors
    /// When a flag is unknown or its value makes no sense.
    pub fn from_args() -> Result<Self, ConfigError> {
        Self::from_flags(std::env::args_os(), || {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        })
    }

    /// Reads a command line, whose first word is the program's name. The host's name is asked for when no flag has one.
    ///
    /// # Errors
    /// When a flag is unknown or its value makes no sense.
    pub fn from_flags<T: Into<std::ffi::OsString> + Clone>(
        args: impl IntoIterator<Item = T>,
        host_name: impl FnOnce() -> String,
    ) -> Result<Self, ConfigError> {
        let flags = Flags::try_parse_from(args)?;
        let node = flags.hostname_override.clone().unwrap_or_else(host_name).trim().to_lowercase();
        if node.is_empty() {
            return Err(ConfigError::NoNodeName);
        }
        let settings = settings(&flags)?;
        let source = match flags.manifests {
            Some(folder) => Source::Manifests(folder),
            None => Source::ApiServer { kubeconfig: flags.kubeconfig, master: flags.master },
        };
        Ok(Self {
            node,
            source,
            mode: flags.proxy_mode,
            settings,
            verbosity: flags.verbosity,
            log_format: flags.logging_format,
        })
    }
}

fn settings(flags: &Flags) -> Result<Settings, ConfigError> {
    let locality = match flags.detect_local_mode {
        LocalMode::ClusterCidr if flags.cluster_cidr.is_empty() => Locality::Unknown,
        LocalMode::ClusterCidr => Locality::Networks(flags.cluster_cidr.clone()),
        LocalMode::NodeCidr => Locality::NodeNetworks,
        LocalMode::BridgeInterface => {
            Locality::Interface(flags.pod_bridge_interface.clone().unwrap_or_default())
        }
        LocalMode::InterfaceNamePrefix => Locality::Interface(format!(
            "{}*",
            flags.pod_interface_name_prefix.as_deref().unwrap_or_default()
        )),
    };
    let node_port_addresses = match &flags.nodeport_addresses[..] {
        [one] if one == "primary" => NodePortAddresses::Primary,
        networks => NodePortAddresses::Networks(
            networks
                .iter()
                .map(|text| text.parse().map_err(|_| ConfigError::NodePortAddresses { value: text.clone() }))
                .collect::<Result<_, _>>()?,
        ),
    };
    Ok(Settings { locality, masquerade_all: flags.masquerade_all, node_port_addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, String> {
        let args = ["heddle-proxy"].iter().chain(args).copied();
        Config::from_flags(args, || "Host.Example ".to_owned()).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_of_the_first_path_are_read() {
        let read =
            config(&["--manifests", "dir", "--proxy-mode", "nftables", "--hostname-override", " Node-1 "]);
        let read = read.unwrap();
        assert_eq!(read.node, "node-1");
        assert_eq!(read.source, Source::Manifests("dir".into()));
        assert_eq!(read.mode, Mode::Nftables);
    }

    /// kp:J1
    #[test]
    fn the_node_is_named_after_the_flag_then_after_the_host_trimmed_and_lower_cased() {
        assert_eq!(config(&[]).unwrap().node, "host.example");
        assert_eq!(config(&["--hostname-override", " A "]).unwrap().node, "a");
        assert!(config(&["--hostname-override", "  "]).unwrap_err().contains("--hostname-override"));
    }

    #[test]
    fn the_api_server_is_the_source_without_manifests() {
        let read = config(&["--kubeconfig", "k", "--master", "https://192.0.2.1:6443"]).unwrap();
        let (kubeconfig, master) = (Some("k".into()), Some("https://192.0.2.1:6443".to_owned()));
        assert_eq!(read.source, Source::ApiServer { kubeconfig, master });
        assert_eq!(config(&[]).unwrap().source, Source::ApiServer { kubeconfig: None, master: None });
    }

    /// kp:D1
    #[test]
    fn pods_are_known_in_the_way_that_is_asked_for() {
        let locality = |args: &[&str]| config(args).unwrap().settings.locality;
        assert_eq!(locality(&[]), Locality::Unknown);
        let networks = ["10.244.0.0/16", "fd00::/48"].map(|n| n.parse().unwrap()).to_vec();
        assert_eq!(locality(&["--cluster-cidr", "10.244.0.0/16,fd00::/48"]), Locality::Networks(networks));
        assert_eq!(locality(&["--detect-local-mode", "NodeCIDR"]), Locality::NodeNetworks);
        let bridge = ["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0"];
        assert_eq!(locality(&bridge), Locality::Interface("cni0".to_owned()));
        let prefix = ["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "hdl"];
        assert_eq!(locality(&prefix), Locality::Interface("hdl*".to_owned()));
        assert!(config(&bridge[..2]).unwrap_err().contains("--pod-bridge-interface"));
    }

    #[test]
    fn node_port_addresses_are_networks_or_primary() {
        let addresses = |args: &[&str]| config(args).map(|c| c.settings.node_port_addresses);
        assert_eq!(addresses(&[]).unwrap(), NodePortAddresses::Primary);
        let networks = NodePortAddresses::Networks(vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(addresses(&["--nodeport-addresses", "10.0.0.0/8"]).unwrap(), networks);
        let error = addresses(&["--nodeport-addresses", "10.0.0.0/8,primary"]).unwrap_err();
        assert!(error.contains("\"primary\" is neither"), "{error}");
    }

    #[test]
    fn wrong_flags_are_named() {
        assert!(config(&["--frobnicate"]).unwrap_err().contains("--frobnicate"));
        assert!(config(&["--proxy-mode", "magic"]).unwrap_err().contains("[possible values: nftables]"));
        assert!(
            config(&["--manifests", "a", "--kubeconfig", "b"]).unwrap_err().contains("cannot be used with")
        );
        assert!(config(&["stray"]).unwrap_err().contains("stray"));
    }
}
