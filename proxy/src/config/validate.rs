//! Which values make no sense, all of them at once, each with the path of its field in the file.
//!
//! The rules are those of kube-proxy 1.36; a mode that it does not know, `ebpf`, has those of nftables. Pure.

use super::duration::GoDuration;
use super::file::File;
use super::gates;
use super::values::{PRIMARY, cluster_cidrs, is_port_range, is_quantity, socket_address};
use crate::convert::{parse_address, parse_prefix};
use ipnetwork::IpNetwork;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// The values that `detectLocalMode` may have; empty stands for the first.
pub(super) const LOCAL_MODES: [&str; 4] =
    ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];

/// The only version whose hidden metrics can be asked for: that before kube-proxy 1.36.
const PREVIOUS_VERSION: &str = "1.35";

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its field, as a path in the file.
    pub field: String,
    /// The value.
    pub value: Value,
    /// What it must be.
    pub why: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: Invalid value: {}: {}", self.field, self.value, self.why)
    }
}

/// Everything that makes no sense, in the order of kube-proxy's own checks.
pub(super) fn validate(file: &File) -> Vec<Invalid> {
    let mut checks = Checks::default();
    for (gate, on) in &file.feature_gates {
        if let Some(held) = gates::locked(gate).filter(|held| held != on) {
            checks.fail(&format!("featureGates.{gate}"), on, &format!("is locked to {held}"));
        }
    }
    checks.modes(file);
    checks.conntrack(file);
    let score = file.oom_score_adj.0;
    checks.that(
        (-1000..=1000).contains(&score),
        "oomScoreAdj",
        &score,
        "must be within the range [-1000, 1000]",
    );
    let burst = file.client_connection.burst;
    checks.that(burst >= 0, "clientConnection.burst", &burst, "must be greater than or equal to 0");
    let qps = file.client_connection.qps;
    checks.that(
        qps.0.abs() <= f32::MAX.into(),
        "clientConnection.qps",
        &qps.0.to_string(),
        "must be a number of 32 bits",
    );
    checks.positive("configSyncPeriod", file.config_sync_period);
    checks.addresses(file);
    checks.port_range(&file.port_range);
    checks.node_port_addresses(file.node_port_addresses.as_deref().unwrap_or_default());
    checks.detect_local(file);
    let hidden = &file.show_hidden_metrics_for_version;
    checks.that(
        ["", PREVIOUS_VERSION].contains(&hidden.as_str()),
        "showHiddenMetricsForVersion",
        hidden,
        &format!("must be omitted or {PREVIOUS_VERSION}, the minor version before"),
    );
    checks.buffers(file);
    checks.that(
        matches!(file.logging.format.as_str(), "text" | "json"),
        "logging.format",
        &file.logging.format,
        "must be text or json",
    );
    checks.0
}

#[derive(Default)]
struct Checks(Vec<Invalid>);

impl Checks {
    fn fail(&mut self, field: &str, value: &impl Serialize, why: &str) {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.0.push(Invalid { field: field.to_owned(), value, why: why.to_owned() });
    }

    fn that(&mut self, is_fine: bool, field: &str, value: &impl Serialize, why: &str) {
        if !is_fine {
            self.fail(field, value, why);
        }
    }

    fn positive(&mut self, field: &str, value: GoDuration) {
        self.that(value > GoDuration::default(), field, &value, "must be greater than 0");
    }

    fn not_negative(&mut self, field: &str, value: GoDuration) {
        self.that(value >= GoDuration::default(), field, &value, "must be greater than or equal to 0");
    }

    fn bit(&mut self, field: &str, bit: i32) {
        self.that((0..=31).contains(&bit), field, &bit, "must be within the range [0, 31]");
    }

    fn modes(&mut self, file: &File) {
        self.bit("iptables.masqueradeBit", file.iptables.masquerade_bit);
        let (block, period, least) = match file.mode.as_str() {
            "" | "iptables" => ("iptables", file.iptables.sync_period, file.iptables.min_sync_period),
            "ipvs" => {
                self.ipvs(file);
                ("ipvs", file.ipvs.sync_period, file.ipvs.min_sync_period)
            }
            // They have one block: sockets are served beside the tables.
            "nftables" | "ebpf" => {
                self.bit("nftables.masqueradeBit", file.nftables.masquerade_bit);
                ("nftables", file.nftables.sync_period, file.nftables.min_sync_period)
            }
            other => {
                return self.fail(
                    "mode",
                    &other,
                    "must be ebpf, nftables, iptables, ipvs or blank (blank means nftables)",
                );
            }
        };
        self.positive(&format!("{block}.syncPeriod"), period);
        self.not_negative(&format!("{block}.minSyncPeriod"), least);
        let why = format!("must be greater than or equal to {block}.minSyncPeriod");
        self.that(least <= period, &format!("{block}.syncPeriod"), &period, &why);
    }

    fn ipvs(&mut self, file: &File) {
        self.not_negative("ipvs.tcpTimeout", file.ipvs.tcp_timeout);
        self.not_negative("ipvs.tcpFinTimeout", file.ipvs.tcp_fin_timeout);
        self.not_negative("ipvs.udpTimeout", file.ipvs.udp_timeout);
        for (index, cidr) in file.ipvs.exclude_cidrs.iter().flatten().enumerate() {
            let is_fine = parse_prefix(cidr).is_some();
            self.that(is_fine, &format!("ipvs.excludeCIDRs[{index}]"), cidr, "must be a valid CIDR");
        }
    }

    fn conntrack(&mut self, file: &File) {
        let conntrack = &file.conntrack;
        for (field, value) in
            [("conntrack.maxPerCore", conntrack.max_per_core), ("conntrack.min", conntrack.min)]
        {
            self.that(value >= 0, field, &value, "must be greater than or equal to 0");
        }
        self.not_negative("conntrack.tcpEstablishedTimeout", conntrack.tcp_established_timeout);
        self.not_negative("conntrack.tcpCloseWaitTimeout", conntrack.tcp_close_wait_timeout);
        self.not_negative("conntrack.udpTimeout", conntrack.udp_timeout);
        self.not_negative("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout);
    }

    fn buffers(&mut self, file: &File) {
        let formats = [("json", &file.logging.options.json), ("text", &file.logging.options.text)];
        for (format, options) in formats {
            let size = &options.info_buffer_size;
            let is_fine = size.is_number() || size.as_str().is_some_and(is_quantity);
            let field = format!("logging.options.{format}.infoBufferSize");
            self.that(is_fine, &field, size, "must be a quantity (e.g. 16Mi)");
        }
    }

    fn addresses(&mut self, file: &File) {
        let is_address = parse_address(&file.bind_address).is_some();
        let why = "not a valid textual representation of an IP address";
        self.that(is_address, "bindAddress", &file.bind_address, why);
        let servers = [
            ("healthzBindAddress", &file.healthz_bind_address),
            ("metricsBindAddress", &file.metrics_bind_address),
        ];
        for (field, address) in servers {
            // Only a flag can leave one empty; that server is off.
            if let Err(why) = socket_address(address)
                && !address.is_empty()
            {
                self.fail(field, address, why);
            }
        }
    }

    /// Nothing has used it for years, but a mistake in it has always been one.
    fn port_range(&mut self, range: &str) {
        let why = "must be a valid port range (e.g. 300-2000)";
        self.that(is_port_range(range.trim()), "portRange", &range, why);
    }

    fn node_port_addresses(&mut self, addresses: &[String]) {
        for (index, address) in addresses.iter().enumerate() {
            let field = format!("nodePortAddresses[{index}]");
            if address == PRIMARY {
                self.that(addresses.len() == 1, &field, address, "can't use both 'primary' and CIDRs");
            } else {
                self.that(parse_prefix(address).is_some(), &field, address, "must be a valid CIDR");
            }
        }
    }

    fn detect_local(&mut self, file: &File) {
        let interfaces = &file.detect_local;
        match file.detect_local_mode.as_str() {
            "" | "ClusterCIDR" => self.cluster_cidr(&file.cluster_cidr),
            "NodeCIDR" => {}
            "BridgeInterface" => {
                let name = &interfaces.bridge_interface;
                self.that(!name.is_empty(), "detectLocal.bridgeInterface", name, "must not be empty");
            }
            "InterfaceNamePrefix" => {
                let prefix = &interfaces.interface_name_prefix;
                self.that(!prefix.is_empty(), "detectLocal.interfaceNamePrefix", prefix, "must not be empty");
            }
            other => {
                self.fail("detectLocalMode", &other, &format!("must be one of {}", LOCAL_MODES.join(", ")));
            }
        }
    }

    fn cluster_cidr(&mut self, text: &str) {
        let networks: Vec<_> = cluster_cidrs(text).collect();
        if networks.contains(&None) {
            let why = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)";
            return self.fail("clusterCIDR", &text, why);
        }
        let is_v4 = |network: &Option<IpNetwork>| network.is_some_and(|network| network.is_ipv4());
        let is_fine = match &networks[..] {
            [] | [_] => true,
            [one, other] => is_v4(one) != is_v4(other),
            _ => false,
        };
        let why =
            "must be a single CIDR or a dual-stack pair of CIDRs (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)";
        self.that(is_fine, "clusterCIDR", &text, why);
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::super::file::{API_VERSION, KIND};
    use super::*;

    fn wrong(rest: &str) -> Vec<String> {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{rest}");
        validate(&decode(&text).unwrap().0).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(wrong(""), [""; 0]);
    }

    #[test]
    fn several_mistakes_are_told_at_once_with_their_fields() {
        let text = "oomScoreAdj: 1001\nbindAddress: here\nhealthzBindAddress: 1.2.3.4:0\nmetricsBindAddress: '[::1'\n\
            conntrack: {maxPerCore: -1, min: -2, udpTimeout: -1s}\nportRange: 7-3\n";
        assert_eq!(
            wrong(text),
            [
                "conntrack.maxPerCore: Invalid value: -1: must be greater than or equal to 0",
                "conntrack.min: Invalid value: -2: must be greater than or equal to 0",
                "conntrack.udpTimeout: Invalid value: \"-1s\": must be greater than or equal to 0",
                "oomScoreAdj: Invalid value: 1001: must be within the range [-1000, 1000]",
                "bindAddress: Invalid value: \"here\": not a valid textual representation of an IP address",
                "healthzBindAddress: Invalid value: \"1.2.3.4:0\": must be a valid port",
                "metricsBindAddress: Invalid value: \"[::1\": must be IP:port",
                "portRange: Invalid value: \"7-3\": must be a valid port range (e.g. 300-2000)",
            ]
        );
    }

    #[test]
    fn what_has_no_effect_is_looked_at_all_the_same() {
        for fine in ["0", "7", "-7", "1.5", ".5", "16Mi", "100m", "1e3", "1E", "2E-3"] {
            assert_eq!(
                wrong(&format!("logging: {{options: {{text: {{infoBufferSize: {fine}}}}}}}\n")),
                [""; 0]
            );
        }
        for bad in ["''", "'.'", "Mi", "1.2.3", "7 Mi", "7mi", "1e", "{}", "[7]", "true"] {
            let found = wrong(&format!("logging: {{options: {{json: {{infoBufferSize: {bad}}}}}}}\n"));
            assert_eq!(found.len(), 1, "{bad}");
            assert!(
                found[0].starts_with("logging.options.json.infoBufferSize: Invalid value: "),
                "{found:?}"
            );
        }
        assert_eq!(wrong("showHiddenMetricsForVersion: '1.35'\nclientConnection: {qps: -1}\n"), [""; 0]);
        assert_eq!(
            wrong("showHiddenMetricsForVersion: '1.34'\nclientConnection: {qps: 1e39}\n"),
            [
                "clientConnection.qps: Invalid value: \"1000000000000000000000000000000000000000\": must be a number of 32 bits",
                "showHiddenMetricsForVersion: Invalid value: \"1.34\": must be omitted or 1.35, the minor version before",
            ]
        );
        let mut file = File::defaults();
        file.client_connection.qps.0 = f64::NAN;
        assert_eq!(validate(&file).len(), 1);
    }

    #[test]
    fn the_periods_of_the_active_mode_are_looked_at() {
        for mode in ["", "iptables", "ipvs", "nftables"] {
            let block = if mode.is_empty() { "iptables" } else { mode };
            let periods = |period: &str, least: &str| {
                wrong(&format!("mode: '{mode}'\n{block}: {{syncPeriod: {period}, minSyncPeriod: {least}}}\n"))
            };
            assert_eq!(periods("1s", "1s"), [""; 0]);
            let field = format!(
                "{block}.syncPeriod: Invalid value: \"1s\": must be greater than or equal to {block}.min"
            );
            assert!(periods("1s", "2s")[0].starts_with(&field));
            assert!(periods("-1s", "-2s")[0].ends_with("must be greater than 0"));
            assert!(periods("30s", "-2s")[0].ends_with("must be greater than or equal to 0"));
        }
        assert_eq!(wrong("mode: nftables\nipvs: {syncPeriod: -1s, tcpTimeout: -1s}\n"), [""; 0]);
    }

    #[test]
    fn bits_and_what_ipvs_would_use_are_looked_at() {
        assert!(
            wrong("iptables: {masqueradeBit: 32}\nmode: nftables\nnftables: {masqueradeBit: -1}\n").len()
                == 2
        );
        let ipvs = wrong("mode: ipvs\nipvs: {udpTimeout: -1s, excludeCIDRs: [10.0.0.0/8, x]}\n");
        assert!(
            ipvs[0].starts_with("ipvs.udpTimeout: ") && ipvs[1].starts_with("ipvs.excludeCIDRs[1]: "),
            "{ipvs:?}"
        );
    }

    #[test]
    fn unknown_modes_are_refused_and_sockets_have_the_fields_of_nftables() {
        assert!(wrong("mode: userspace\n")[0].contains("must be ebpf, nftables, iptables, ipvs or blank"));
        assert_eq!(wrong("mode: ebpf\n"), [""; 0]);
        assert_eq!(wrong("mode: ebpf\nnftables: {masqueradeBit: 32}\n").len(), 1);
    }

    /// kp:D1
    #[test]
    fn local_detection_needs_what_its_mode_looks_at() {
        assert!(wrong("detectLocalMode: Magic\n")[0].contains("must be one of ClusterCIDR, NodeCIDR, "));
        assert!(wrong("detectLocalMode: BridgeInterface\n")[0].starts_with("detectLocal.bridgeInterface: "));
        assert!(
            wrong("detectLocalMode: InterfaceNamePrefix\n")[0]
                .starts_with("detectLocal.interfaceNamePrefix: ")
        );
        assert_eq!(wrong("detectLocalMode: NodeCIDR\nclusterCIDR: nonsense\n"), [""; 0]);
        for fine in ["", "10.0.0.0/8", "010.0.0.0/8", "10.0.0.0/8,fd00::/48", "fd00::/48, 10.0.0.0/8"] {
            assert_eq!(wrong(&format!("clusterCIDR: '{fine}'\n")), [""; 0]);
        }
        for bad in ["10.0.0.0", "10.0.0.0/8,", "10.0.0.0/8,11.0.0.0/8", "10.0.0.0/8,fd00::/48,fd01::/48"] {
            assert_eq!(wrong(&format!("clusterCIDR: '{bad}'\n")).len(), 1, "{bad}");
        }
    }

    /// kp:C4
    #[test]
    fn node_port_addresses_are_networks_or_the_one_word() {
        assert_eq!(wrong("nodePortAddresses: [primary]\n"), [""; 0]);
        assert_eq!(wrong("nodePortAddresses: [10.0.0.0/8, '::/0']\n"), [""; 0]);
        let wrong = wrong("nodePortAddresses: [10.0.0.0/8, primary, 10.0.0.1]\n");
        assert!(
            wrong[0].starts_with("nodePortAddresses[1]: ") && wrong[0].contains("can't use both"),
            "{wrong:?}"
        );
        assert!(
            wrong[1].starts_with("nodePortAddresses[2]: Invalid value: \"10.0.0.1\": must be a valid CIDR")
        );
    }

    #[test]
    fn locked_feature_gates_stay() {
        assert_eq!(
            wrong("featureGates: {AllowServiceExternalIPs: false, NFTablesProxyMode: true}\n"),
            [""; 0]
        );
        assert_eq!(
            wrong(
                "featureGates: {NFTablesProxyMode: false, NativeHistograms: true, SomethingOfKubelet: true}\n"
            ),
            ["featureGates.NFTablesProxyMode: Invalid value: false: is locked to true"]
        );
    }
}
