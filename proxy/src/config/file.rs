//! `KubeProxyConfiguration`, `kubeproxy.config.k8s.io/v1alpha1`: every field of kube-proxy's file, and our own under
//! `heddle`.
//!
//! Not what the fields mean here (see `meaning`) or which values make sense (see
//! `validate`). Defaults are those of kube-proxy 1.36.

#![expect(missing_docs, reason = "the fields are kube-proxy's; docs/configuration.md has the table of them")]

use super::duration::GoDuration;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The `apiVersion` that is read.
pub(super) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// The `kind` that is read.
pub(super) const KIND: &str = "KubeProxyConfiguration";

/// The whole file. `Default` is an empty one, before [`File::fill`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct File {
    pub api_version: String,
    pub kind: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    pub client_connection: ClientConnection,
    pub logging: Logging,
    pub hostname_override: String,
    pub bind_address: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub bind_address_hard_fail: bool,
    pub enable_profiling: bool,
    pub show_hidden_metrics_for_version: String,
    pub mode: String,
    pub iptables: Iptables,
    pub ipvs: Ipvs,
    pub nftables: Nftables,
    pub winkernel: Winkernel,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub node_port_addresses: Option<Vec<String>>,
    pub oom_score_adj: OomScoreAdj,
    pub conntrack: Conntrack,
    pub config_sync_period: GoDuration,
    pub port_range: String,
    #[serde(skip_serializing_if = "is_false")]
    pub windows_run_as_service: bool,
    #[serde(skip_serializing_if = "Heddle::is_default")]
    pub heddle: Heddle,
}

/// Our own settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Heddle {
    /// The folder of manifests that objects are read from, in place of an API server; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manifests: String,
    /// Whether connections are counted by frontend.
    #[serde(skip_serializing_if = "is_false")]
    pub connection_metrics: bool,
    /// Whether connections between pods of this node are kept out of connection tracking, where sockets are served; without it, where
    /// no rule of others sees them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untracked_pods: Option<bool>,
    /// Whether TCP connections to endpoints that are gone are closed, where sockets are served.
    #[serde(skip_serializing_if = "is_false")]
    pub close_stale_tcp: bool,
}

impl Heddle {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the API server is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub accept_content_types: String,
    pub content_type: String,
    pub qps: Qps,
    pub burst: i32,
}

/// Requests per second. A number of its own, so that 5 is printed as `5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Qps(pub f64);

impl Serialize for Qps {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_possible_truncation, reason = "only where nothing is lost")]
        if self.0.fract() == 0.0 && self.0.abs() < 1e9 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Logging {
    pub format: String,
    #[serde(deserialize_with = "duration_or_nanoseconds")]
    pub flush_frequency: GoDuration,
    pub verbosity: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vmodule: Vec<VmoduleItem>,
    pub options: LoggingOptions,
}

/// The verbosity of the source files of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VmoduleItem {
    pub file_pattern: String,
    pub verbosity: u32,
}

/// Settings of the log formats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoggingOptions {
    pub json: OutputOptions,
    pub text: OutputOptions,
}

/// Where a format is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OutputOptions {
    #[serde(skip_serializing_if = "is_false")]
    pub split_stream: bool,
    /// A quantity such as `16Mi`.
    pub info_buffer_size: Value,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self { split_stream: false, info_buffer_size: Value::from("0") }
    }
}

/// Settings of kube-proxy's iptables mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Iptables {
    pub masquerade_bit: i32,
    pub masquerade_all: bool,
    pub localhost_node_ports: bool,
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
}

impl Default for Iptables {
    fn default() -> Self {
        let (sync_period, min_sync_period) = Default::default();
        let (masquerade_bit, localhost_node_ports) = (14, true);
        Self { masquerade_bit, masquerade_all: false, localhost_node_ports, sync_period, min_sync_period }
    }
}

/// Settings of kube-proxy's ipvs mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ipvs {
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
    pub scheduler: String,
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Option<Vec<String>>,
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    pub tcp_timeout: GoDuration,
    pub tcp_fin_timeout: GoDuration,
    pub udp_timeout: GoDuration,
}

/// Settings of kube-proxy's nftables mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Nftables {
    pub masquerade_bit: i32,
    pub masquerade_all: bool,
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
}

impl Default for Nftables {
    fn default() -> Self {
        let (sync_period, min_sync_period) = Default::default();
        Self { masquerade_bit: 14, masquerade_all: false, sync_period, min_sync_period }
    }
}

/// Settings of kube-proxy on Windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Winkernel {
    pub network_name: String,
    pub source_vip: String,
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub root_hns_endpoint_name: String,
    pub forward_health_check_vip: bool,
}

/// Names of interfaces that pods' packets come in by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

/// The kernel's connection tracking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Conntrack {
    pub max_per_core: i32,
    pub min: i32,
    pub tcp_established_timeout: GoDuration,
    pub tcp_close_wait_timeout: GoDuration,
    pub tcp_be_liberal: bool,
    pub udp_timeout: GoDuration,
    pub udp_stream_timeout: GoDuration,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established_timeout: GoDuration::seconds(24 * 3600),
            tcp_close_wait_timeout: GoDuration::seconds(3600),
            tcp_be_liberal: false,
            udp_timeout: GoDuration::default(),
            udp_stream_timeout: GoDuration::default(),
        }
    }
}

/// How readily the kernel ends us when memory runs out. A number of its own for its default, -999: nearly never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomScoreAdj(pub i32);

impl Default for OomScoreAdj {
    fn default() -> Self {
        Self(-999)
    }
}

impl File {
    /// What kube-proxy takes when nothing is said.
    pub fn defaults() -> Self {
        Self::defaults_for("", "")
    }

    /// The same with a mode and a bind address, which other defaults follow.
    pub fn defaults_for(mode: &str, bind_address: &str) -> Self {
        let (mode, bind_address) = (mode.to_owned(), bind_address.to_owned());
        let (api_version, kind) = (API_VERSION.to_owned(), KIND.to_owned());
        let mut file = Self { api_version, kind, mode, bind_address, ..Self::default() };
        file.fill();
        file
    }

    /// Puts defaults where nothing is said: kube-proxy takes an empty text or a zero for that in most fields.
    pub fn fill(&mut self) {
        or_text(&mut self.bind_address, "0.0.0.0");
        let is_ipv4 = !self.bind_address.contains(':');
        let (any, loopback) = if is_ipv4 { ("0.0.0.0", "127.0.0.1") } else { ("::", "::1") };
        or_text(&mut self.healthz_bind_address, any);
        or_text(&mut self.metrics_bind_address, loopback);
        self.add_ports();
        or_text(&mut self.client_connection.content_type, "application/vnd.kubernetes.protobuf");
        or(&mut self.client_connection.qps, Qps(5.0));
        or(&mut self.client_connection.burst, 10);
        or_text(&mut self.logging.format, "text");
        or(&mut self.logging.flush_frequency, GoDuration::seconds(5));
        or(&mut self.config_sync_period, GoDuration::seconds(15 * 60));
        let (period, least) = match self.mode.as_str() {
            "ipvs" => (&mut self.ipvs.sync_period, None),
            "nftables" | "ebpf" => (&mut self.nftables.sync_period, Some(&mut self.nftables.min_sync_period)),
            _ => (&mut self.iptables.sync_period, Some(&mut self.iptables.min_sync_period)),
        };
        or(period, GoDuration::seconds(30));
        if let Some(least) = least {
            or(least, GoDuration::seconds(1));
        }
    }

    /// Gives addresses without a port the one of their server.
    fn add_ports(&mut self) {
        for (address, port) in
            [(&mut self.healthz_bind_address, 10256), (&mut self.metrics_bind_address, 10249)]
        {
            if let Ok(ip) = address.parse() {
                *address = std::net::SocketAddr::new(ip, port).to_string();
            }
        }
    }
}

fn or<T: Default + PartialEq>(field: &mut T, default: T) {
    if *field == T::default() {
        *field = default;
    }
}

fn or_text(field: &mut String, default: &str) {
    if field.is_empty() {
        default.clone_into(field);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(field: &bool) -> bool {
    !field
}

/// Kubernetes took a number of nanoseconds here before it took a duration.
fn duration_or_nanoseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GoDuration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Nanoseconds(i64),
        Duration(GoDuration),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Nanoseconds(nanoseconds) => GoDuration::nanoseconds(nanoseconds),
        Either::Duration(duration) => duration,
    })
}
