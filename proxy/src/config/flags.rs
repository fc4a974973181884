//! The command line: kube-proxy's flags on Linux, and `--manifests`.
//!
//! Not what they mean: a flag only says what a field of [`File`] is, as if the file said so. Beside `--config` the file
//! counts alone, but for the few flags that concern this one process and for logging.

mod logging;
mod old;

use self::logging::LoggingFlags;
use self::old::OldFlags;
use super::EBPF;
use super::duration::GoDuration;
use super::file::{File, OomScoreAdj, Qps};
use crate::look::socket;
use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// What clap says of the subcommands, which have flags of their own.
const LOOK: &str = "Looking inside a running heddle-proxy (each has its --help):
  heddle-proxy status                      how it does
  heddle-proxy trace SRC DST:PORT[/PROTO]  what would become of a connection, and why
  heddle-proxy dump                        what it believes, and what the kernel has";

/// Services and EndpointSlices into nftables: a kube-proxy replacement.
///
/// Objects come from the API server (--kubeconfig, or the in-cluster credentials without it) or from a folder of
/// Kubernetes manifests (--manifests), which needs no cluster. The rules stay when heddle-proxy stops; the next start
/// takes them over. Flags, their meaning and the configuration file are kube-proxy's.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "heddle-proxy",
    version,
    max_term_width = 100,
    args_override_self = true,
    next_help_heading = "Process",
    after_help = LOOK
)]
pub(super) struct Flags {
    /// A KubeProxyConfiguration file. Beside it, only the flags under Process and Logging count.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Write the configuration that these flags make to a file, and exit.
    #[arg(long, value_name = "FILE")]
    pub(super) write_config_to: Option<PathBuf>,
    /// Do what needs full privileges, and exit; CAP_NET_ADMIN is enough afterwards.
    #[arg(long)]
    pub(super) init_only: Option<bool>,
    /// Remove the rules and programs of heddle-proxy, and exit. Nothing else removes the rules.
    #[arg(long)]
    pub(super) cleanup: Option<bool>,
    /// Remove what kube-proxy left in its iptables, ipvs or nftables mode: with --cleanup before the exit, without it as
    /// soon as our own rules stand.
    #[arg(long)]
    pub(super) cleanup_kube_proxy: Option<bool>,
    /// Name of this node; without it, the host's name.
    #[arg(long, value_name = "NAME")]
    pub(super) hostname_override: Option<String>,
    /// Addresses of API servers, separated by commas, in place of the one that kubeconfig or pod have: that one may be a
    /// Service which heddle-proxy itself is to set up. The first is used until it fails, then the next.
    #[arg(long, value_name = "URLS")]
    pub(super) master: Option<String>,
    /// Read Services, EndpointSlices and Nodes from the YAML and JSON files of this folder, and follow its changes.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    manifests: Option<String>,
    /// The socket on which `heddle-proxy status`, `trace` and `dump` are answered; empty for none. Only root may open it.
    #[arg(long, value_name = "PATH", default_value = socket::DEFAULT)]
    pub(super) status_socket: String,
    /// Where the kernel's settings are written: in a container, whose /proc/sys is read-only, the node's, mounted elsewhere.
    #[arg(long, value_name = "DIR")]
    pub(super) sysctl_dir: Option<PathBuf>,
    /// With --proxy-mode=ebpf, the cgroup whose sockets are served, with all below it; without it, the root of the node's
    /// cgroup v2 hierarchy.
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup_root: Option<PathBuf>,
    /// Where the node's BPF file system is mounted, in which programs stay when heddle-proxy stops [default: /sys/fs/bpf].
    #[arg(long, value_name = "PATH")]
    pub(super) bpf_root: Option<PathBuf>,
    /// The folder with the network namespaces of pods: connected UDP sockets in them are closed when their endpoint goes
    /// [default: /run/netns].
    #[arg(long, value_name = "DIR")]
    pub(super) netns_dir: Option<PathBuf>,
    #[command(flatten)]
    logging: LoggingFlags,
    #[command(flatten)]
    routing: RoutingFlags,
    #[command(flatten)]
    local: LocalFlags,
    #[command(flatten)]
    api: ApiFlags,
    #[command(flatten)]
    serving: ServingFlags,
    #[command(flatten)]
    kernel: KernelFlags,
    #[command(flatten)]
    old: OldFlags,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Routing")]
struct RoutingFlags {
    /// How Services are served: nftables, or ebpf: at the socket where a client of this node connects, with nftables for
    /// everybody else. Taken as nftables, with a warning, are iptables and ipvs. Beside --config only ebpf counts.
    #[arg(long, value_name = "MODE")]
    proxy_mode: Option<String>,
    /// With --proxy-mode=ebpf, keep connections between pods of this node out of connection tracking, a sixth less work for each
    /// new one: true beside others' rules too, unless they translate (not beside network policies that ask for states), false
    /// nowhere; without it, where no rule of others sees pods' packets.
    #[arg(long)]
    untracked_pods: Option<bool>,
    /// With --proxy-mode=ebpf, close TCP connections to an endpoint that is gone, as connected UDP sockets are, so that a client
    /// connects again at once. Without it TCP finds out by itself, which may take minutes.
    #[arg(long)]
    close_stale_tcp: Option<bool>,
    /// Masquerade everything that goes to a cluster IP.
    #[arg(long)]
    masquerade_all: Option<bool>,
    /// Where node ports are served: networks separated by commas, or `primary` for the node's own addresses. Without it
    /// primary, or all addresses where --proxy-mode is iptables or ipvs.
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    nodeport_addresses: Option<Vec<String>>,
    /// The node's own address, where it is not the one of the Node object. Nothing binds to it.
    #[arg(long, value_name = "IP")]
    bind_address: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Local pods")]
struct LocalFlags {
    /// How packets of this node's pods are known: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.
    #[arg(long, value_name = "MODE")]
    detect_local_mode: Option<String>,
    /// Networks that pods get their addresses from, one of each family, separated by a comma. What comes to a cluster IP
    /// from elsewhere is masqueraded.
    #[arg(long, value_name = "CIDRS")]
    cluster_cidr: Option<String>,
    /// The interface that pods' packets come in by, with --detect-local-mode=BridgeInterface.
    #[arg(long, value_name = "NAME")]
    pod_bridge_interface: Option<String>,
    /// How the names of those interfaces begin, with --detect-local-mode=InterfaceNamePrefix.
    #[arg(long, value_name = "PREFIX")]
    pod_interface_name_prefix: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "API server")]
struct ApiFlags {
    /// Kubeconfig of the API server; without it, the credentials that a pod has.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Accepted, without effect: what is sent is JSON.
    #[arg(long, value_name = "TYPE")]
    kube_api_content_type: Option<String>,
    /// Accepted, without effect.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    kube_api_burst: Option<i32>,
    /// Accepted, without effect.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    kube_api_qps: Option<f64>,
    /// Accepted, without effect: a watch sees every change.
    #[arg(long, value_name = "DURATION")]
    config_sync_period: Option<GoDuration>,
    /// Feature gates of kube-proxy, as name=true or name=false, separated by commas. None changes anything here.
    #[arg(long, value_name = "GATES", value_delimiter = ',', value_parser = gate)]
    feature_gates: Option<Vec<(String, bool)>>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Health and metrics")]
struct ServingFlags {
    /// Where /healthz, /livez and /readyz are served: an address, with or without a port [default: 0.0.0.0:10256].
    #[arg(long, value_name = "IP:PORT")]
    healthz_bind_address: Option<String>,
    /// Where metrics are served.
    #[arg(long, value_name = "IP:PORT")]
    metrics_bind_address: Option<String>,
    /// End when an address cannot be listened on, in place of trying again every 5 s.
    #[arg(long)]
    bind_address_hard_fail: Option<bool>,
    /// Let `PUT /debug/flags/v` on the metrics port set how much is logged.
    #[arg(long)]
    profiling: Option<bool>,
    /// Accepted, without effect.
    #[arg(long, value_name = "VERSION")]
    show_hidden_metrics_for_version: Option<String>,
    /// Deprecated: the port of --healthz-bind-address, 0 for none.
    #[arg(long, value_name = "PORT")]
    healthz_port: Option<u16>,
    /// Deprecated: the port of --metrics-bind-address, 0 for none.
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Kernel")]
struct KernelFlags {
    /// Connections that are tracked at most, per processor core; 0 leaves the limit alone [default: 32768].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    conntrack_max_per_core: Option<i32>,
    /// The least limit, whatever the number of cores [default: 131072].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    conntrack_min: Option<i32>,
    /// How long an established TCP connection may be idle; 0 leaves it alone [default: 24h].
    #[arg(long, value_name = "DURATION")]
    conntrack_tcp_timeout_established: Option<GoDuration>,
    /// How long one that the server has closed may be; 0 leaves it alone [default: 1h].
    #[arg(long, value_name = "DURATION")]
    conntrack_tcp_timeout_close_wait: Option<GoDuration>,
    /// Let packets outside the TCP window belong to their connection.
    #[arg(long)]
    conntrack_tcp_be_liberal: Option<bool>,
    /// How long a UDP flow without a reply may be idle; 0 leaves it alone.
    #[arg(long, value_name = "DURATION")]
    conntrack_udp_timeout: Option<GoDuration>,
    /// How long a UDP flow with replies may be idle; 0 leaves it alone.
    #[arg(long, value_name = "DURATION")]
    conntrack_udp_timeout_stream: Option<GoDuration>,
    /// How readily the kernel ends this process when memory runs out, -1000 to 1000 [default: -999].
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
}

/// The headings under which flags count beside `--config`.
const BESIDE_A_FILE: [&str; 2] = ["Process", "Logging"];

impl Flags {
    /// Reads a command line. Beside the flags are the names of those that a file makes ignored.
    pub(super) fn read<T: Into<OsString> + Clone>(
        args: impl IntoIterator<Item = T>,
    ) -> Result<(Self, Vec<String>), clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(args)?;
        let flags = Self::from_arg_matches(&matches)?;
        let mut ignored =
            if flags.config.is_some() { only_of_the_file(&command, &matches) } else { Vec::new() };
        // A mode that no file of kube-proxy's can have.
        ignored.retain(|name| name != "--proxy-mode" || !flags.asks_for_sockets());
        Ok((flags, ignored))
    }

    /// The configuration that the flags make without a file.
    pub(super) fn file(&self) -> File {
        let mut file = File::defaults_for(
            self.routing.proxy_mode.as_deref().unwrap_or_default(),
            self.routing.bind_address.as_deref().unwrap_or_default(),
        );
        self.routing.apply(&mut file);
        self.local.apply(&mut file);
        self.api.apply(&mut file);
        self.kernel.apply(&mut file);
        self.old.apply(&mut file);
        self.serving.apply(&mut file);
        self.override_in(&mut file);
        file
    }

    /// Whether sockets are to be served, whatever mode a file has.
    pub(super) fn asks_for_sockets(&self) -> bool {
        self.routing.proxy_mode.as_deref() == Some(EBPF)
    }

    /// Applies the flags that count beside a file too.
    pub(super) fn override_in(&self, file: &mut File) {
        put(&mut file.hostname_override, self.hostname_override.clone());
        put(&mut file.heddle.manifests, self.manifests.clone());
        self.logging.apply(file);
    }
}

/// A flag that is `--name` or `--name=true`: of these clap makes by itself only the first, or asks for a value.
fn command() -> clap::Command {
    let truth = ValueParser::bool().type_id();
    Flags::command().mut_args(|arg| {
        if arg.get_value_parser().type_id() != truth {
            return arg;
        }
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .value_parser(clap::builder::BoolishValueParser::new())
    })
}

fn only_of_the_file(command: &clap::Command, matches: &ArgMatches) -> Vec<String> {
    let is_given =
        |arg: &&clap::Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let given = command.get_arguments().filter(is_given);
    let ignored = given.filter(|arg| !arg.get_help_heading().is_some_and(|of| BESIDE_A_FILE.contains(&of)));
    ignored.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect()
}

impl RoutingFlags {
    fn apply(&self, file: &mut File) {
        // The flag is common to all modes, the fields are not.
        let masquerade_all = if matches!(file.mode.as_str(), "nftables" | "ebpf") {
            &mut file.nftables.masquerade_all
        } else {
            &mut file.iptables.masquerade_all
        };
        put(masquerade_all, self.masquerade_all);
        if self.untracked_pods.is_some() {
            file.heddle.untracked_pods = self.untracked_pods;
        }
        put(&mut file.heddle.close_stale_tcp, self.close_stale_tcp);
        if self.nodeport_addresses.is_some() {
            file.node_port_addresses.clone_from(&self.nodeport_addresses);
        }
    }
}

impl LocalFlags {
    fn apply(&self, file: &mut File) {
        put(&mut file.detect_local_mode, self.detect_local_mode.clone());
        put(&mut file.cluster_cidr, self.cluster_cidr.clone());
        put(&mut file.detect_local.bridge_interface, self.pod_bridge_interface.clone());
        put(&mut file.detect_local.interface_name_prefix, self.pod_interface_name_prefix.clone());
    }
}

impl ApiFlags {
    fn apply(&self, file: &mut File) {
        put(&mut file.client_connection.kubeconfig, self.kubeconfig.clone());
        put(&mut file.client_connection.content_type, self.kube_api_content_type.clone());
        put(&mut file.client_connection.burst, self.kube_api_burst);
        put(&mut file.client_connection.qps, self.kube_api_qps.map(Qps));
        put(&mut file.config_sync_period, self.config_sync_period);
        file.feature_gates.extend(self.feature_gates.iter().flatten().cloned());
    }
}

impl ServingFlags {
    fn apply(&self, file: &mut File) {
        put(&mut file.healthz_bind_address, self.healthz_bind_address.clone());
        put(&mut file.metrics_bind_address, self.metrics_bind_address.clone());
        put(&mut file.bind_address_hard_fail, self.bind_address_hard_fail);
        put(&mut file.enable_profiling, self.profiling);
        put(&mut file.show_hidden_metrics_for_version, self.show_hidden_metrics_for_version.clone());
        let ports = [
            (&mut file.healthz_bind_address, self.healthz_port, 10256),
            (&mut file.metrics_bind_address, self.metrics_port, 10249),
        ];
        for (address, port, usual) in ports {
            match (port, address.parse()) {
                (Some(0), _) => address.clear(),
                // An address with a port keeps it, as in kube-proxy.
                (port, Ok(ip)) => *address = std::net::SocketAddr::new(ip, port.unwrap_or(usual)).to_string(),
                _ => {}
            }
        }
    }
}

impl KernelFlags {
    fn apply(&self, file: &mut File) {
        let conntrack = &mut file.conntrack;
        put(&mut conntrack.max_per_core, self.conntrack_max_per_core);
        put(&mut conntrack.min, self.conntrack_min);
        put(&mut conntrack.tcp_established_timeout, self.conntrack_tcp_timeout_established);
        put(&mut conntrack.tcp_close_wait_timeout, self.conntrack_tcp_timeout_close_wait);
        put(&mut conntrack.tcp_be_liberal, self.conntrack_tcp_be_liberal);
        put(&mut conntrack.udp_timeout, self.conntrack_udp_timeout);
        put(&mut conntrack.udp_stream_timeout, self.conntrack_udp_timeout_stream);
        put(&mut file.oom_score_adj, self.oom_score_adj.map(OomScoreAdj));
    }
}

fn put<T>(field: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *field = value;
    }
}

fn gate(text: &str) -> Result<(String, bool), String> {
    let (name, on) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not name=true or name=false"))?;
    let on = on.trim().parse().map_err(|_| format!("{on:?} is neither true nor false"))?;
    Ok((name.trim().to_owned(), on))
}
