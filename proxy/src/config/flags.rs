//! The command line, as clap reads it.
//!
//! Not what the flags mean together: that is [`Config`](super::Config).

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
pub(super) struct Flags {
    /// Read Services, EndpointSlices and Nodes from the YAML and JSON files of this folder, and follow its changes.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    pub(super) manifests: Option<PathBuf>,

    /// Kubeconfig of the API server; without it, the credentials that a pod has.
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,

    /// Address of the API server, in place of the one that kubeconfig or pod have: that one may be a Service which
    /// heddle-proxy itself is to set up.
    #[arg(long, value_name = "URL")]
    pub(super) master: Option<String>,

    /// How packets are routed.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Mode::Nftables)]
    pub(super) proxy_mode: Mode,

    /// Networks that pods get their addresses from, one of each family, separated by a comma. What comes to a cluster IP
    /// from elsewhere is masqueraded.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub(super) cluster_cidr: Vec<IpNetwork>,

    /// How packets of this node's pods are known.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = LocalMode::ClusterCidr)]
    pub(super) detect_local_mode: LocalMode,

    /// The interface that pods' packets come in by, with --detect-local-mode=BridgeInterface.
    #[arg(long, value_name = "NAME", required_if_eq("detect_local_mode", "BridgeInterface"))]
    pub(super) pod_bridge_interface: Option<String>,

    /// How the names of those interfaces begin, with --detect-local-mode=InterfaceNamePrefix.
    #[arg(long, value_name = "PREFIX", required_if_eq("detect_local_mode", "InterfaceNamePrefix"))]
    pub(super) pod_interface_name_prefix: Option<String>,

    /// Masquerade everything that goes to a cluster IP.
    #[arg(long)]
    pub(super) masquerade_all: bool,

    /// Where node ports are served: networks separated by commas, or `primary` for the node's own address.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',', default_value = "primary")]
    pub(super) nodeport_addresses: Vec<String>,

    /// Name of this node; without it, the host's name.
    #[arg(long, value_name = "NAME")]
    pub(super) hostname_override: Option<String>,

    /// How much is logged: 0 says what happens, 4 each sync, 6 everything.
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    pub(super) verbosity: u8,

    /// How it is logged.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(super) logging_format: LogFormat,
}

/// A dataplane, by the name that `--proxy-mode` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// nf_tables.
    Nftables,
}

/// How packets of this node's pods are known, by the name that `--detect-local-mode` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LocalMode {
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
