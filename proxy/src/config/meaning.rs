//! What a configuration means here: kube-proxy's fields into our settings, and what of it has no meaning.
//!
//! Pure, and only for a file in which [`validate`](super::validate::validate) finds no fault.

use super::file::File;
use super::values::{PRIMARY, cluster_cidrs, socket_address};
use super::{GoDuration, Source, gates};
use crate::convert::{parse_address, parse_prefix};
use crate::ebpf::between::Untracking;
use crate::health::servers::Probes;
use crate::nft::settings::{Locality, NodePortAddresses, Settings};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Fields that are read and checked, and change nothing, but for `syncPeriod` of the mode that is named.
const WITHOUT_EFFECT: [&str; 17] = [
    "clientConnection.acceptContentTypes",
    "clientConnection.burst",
    "clientConnection.contentType",
    "clientConnection.qps",
    "configSyncPeriod",
    "iptables.localhostNodePorts",
    "iptables.masqueradeBit",
    "iptables.minSyncPeriod",
    "iptables.syncPeriod",
    "ipvs",
    "logging.flushFrequency",
    "logging.options",
    "logging.vmodule",
    "nftables.masqueradeBit",
    "nftables.minSyncPeriod",
    "nftables.syncPeriod",
    "portRange",
];

/// The same, for those that mean something to kube-proxy elsewhere only.
const ELSEWHERE: [&str; 3] = ["showHiddenMetricsForVersion", "windowsRunAsService", "winkernel"];

/// The field of the modes that are taken as ours, and that of ours.
const MASQUERADE_ALL: [&str; 2] = ["iptables.masqueradeAll", "nftables.masqueradeAll"];

/// One of them changes something; `gates` has the reasons.
const GATES: &str = "featureGates";

/// What is decided about routing.
pub(super) fn settings(file: &File) -> Settings {
    Settings {
        locality: locality(file),
        masquerade_all: masquerade_all(file),
        node_port_addresses: node_port_addresses(file),
        counts_connections: file.heddle.connection_metrics,
        untracking: match file.heddle.untracked_pods {
            None => Untracking::Alone,
            Some(true) => Untracking::BesideOthers,
            Some(false) => Untracking::Never,
        },
    }
}

fn locality(file: &File) -> Locality {
    match file.detect_local_mode.as_str() {
        "NodeCIDR" => Locality::NodeNetworks,
        "BridgeInterface" => Locality::Interface(file.detect_local.bridge_interface.clone()),
        "InterfaceNamePrefix" => Locality::Interface(format!("{}*", file.detect_local.interface_name_prefix)),
        _ => match cluster_cidrs(&file.cluster_cidr).flatten().collect::<Vec<_>>() {
            none if none.is_empty() => Locality::Unknown,
            networks => Locality::Networks(networks),
        },
    }
}

/// Each mode has its own field. A file that names no mode may mean either.
fn masquerade_all(file: &File) -> bool {
    let fields = [
        (MASQUERADE_ALL[0], file.iptables.masquerade_all),
        (MASQUERADE_ALL[1], file.nftables.masquerade_all),
    ];
    fields.into_iter().any(|(field, is_set)| is_set && !is_of_another_mode(field, file))
}

/// Whether it is the field for masquerading of a mode that this file does not name.
fn is_of_another_mode(field: &str, file: &File) -> bool {
    let idle = match file.mode.as_str() {
        "nftables" | "ebpf" => MASQUERADE_ALL[0],
        "" => return false,
        _ => MASQUERADE_ALL[1],
    };
    field == idle
}

/// Where nothing is said, a file for another mode means what it meant there: all addresses.
fn node_port_addresses(file: &File) -> NodePortAddresses {
    match file.node_port_addresses.as_deref().unwrap_or_default() {
        [] if is_taken_as_nftables(&file.mode) => NodePortAddresses::Networks(Vec::new()),
        [] => NodePortAddresses::Primary,
        [one] if one == PRIMARY => NodePortAddresses::Primary,
        networks => {
            NodePortAddresses::Networks(networks.iter().filter_map(|text| parse_prefix(text)).collect())
        }
    }
}

fn is_taken_as_nftables(mode: &str) -> bool {
    matches!(mode, "iptables" | "ipvs")
}

/// The address that the node has, whatever its object says.
pub(super) fn node_address(file: &File) -> Option<IpAddr> {
    parse_address(&file.bind_address).filter(|address| !address.is_unspecified())
}

/// Where health is asked for. Only a flag can leave the address empty, and then nowhere.
pub(super) fn probes(file: &File) -> Option<Probes> {
    let address = socket_address(&file.healthz_bind_address).ok()?;
    Some(Probes { address, hard_fail: file.bind_address_hard_fail })
}

/// `syncPeriod` of the mode that is named.
pub(super) fn sync_period(file: &File) -> Duration {
    period(file).1.as_duration()
}

fn period(file: &File) -> (&'static str, GoDuration) {
    match file.mode.as_str() {
        "nftables" | "ebpf" => ("nftables.syncPeriod", file.nftables.sync_period),
        "ipvs" => ("ipvs.syncPeriod", file.ipvs.sync_period),
        _ => ("iptables.syncPeriod", file.iptables.sync_period),
    }
}

/// Where metrics are served; nowhere where `--metrics-port=0` says so.
pub(super) fn metrics_address(file: &File) -> Option<SocketAddr> {
    socket_address(&file.metrics_bind_address).ok()
}

/// Where objects come from.
pub(super) fn source(file: &File, master: Option<&str>) -> Source {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match some(&file.heddle.manifests) {
        Some(folder) => Source::Manifests(folder.into()),
        None => Source::ApiServer {
            kubeconfig: some(&file.client_connection.kubeconfig).map(Into::into),
            master: master.and_then(some),
        },
    }
}

/// What somebody who wrote this should know.
pub(super) fn remarks(file: &File) -> Vec<String> {
    let mut remarks = Vec::new();
    if is_taken_as_nftables(&file.mode) {
        remarks.push(format!(
            "mode {:?} is taken as nftables: node ports do not answer on 127.0.0.1, and no iptables or ipvs rule is written",
            file.mode
        ));
    }
    let defaults = File::defaults_for(&file.mode, &file.bind_address);
    let idle: Vec<String> = changed(&defaults, file)
        .into_iter()
        .filter(|field| !has_effect(field, file))
        .filter(|field| !field.starts_with(GATES))
        .collect();
    if !idle.is_empty() {
        remarks.push(format!("set, but without effect here: {}", idle.join(", ")));
    }
    let strange: Vec<&str> =
        file.feature_gates.keys().map(String::as_str).filter(|gate| !gates::is_known(gate)).collect();
    if !strange.is_empty() {
        remarks
            .push(format!("feature gates that are not known here, without effect: {}", strange.join(", ")));
    }
    remarks.extend(family_remark(file));
    remarks
}

/// Networks of the wrong family only are a mistake in nearly every case, but what they say can be done.
fn family_remark(file: &File) -> Option<String> {
    let address = node_address(file)?;
    let networks = match settings(file).locality {
        Locality::Networks(networks) => networks,
        _ => return None,
    };
    let is_missing = networks.iter().all(|network| network.ip().is_ipv4() != address.is_ipv4());
    is_missing.then(|| format!("clusterCIDR has no network of the family of bindAddress, {address}"))
}

/// Whether a field of this file, given by its path, changes what is done.
pub(super) fn has_effect(field: &str, file: &File) -> bool {
    let is_below = |path: &str| {
        field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let is_idle_gate = field.starts_with(GATES) && !field.ends_with(gates::EXTERNAL_IPS);
    let is_idle = WITHOUT_EFFECT.iter().chain(&ELSEWHERE).any(|path| is_below(path)) || is_idle_gate;
    !(is_idle || is_of_another_mode(field, file)) || field == period(file).0
}

/// The paths of the fields in which two configurations differ.
pub(super) fn changed(before: &File, after: &File) -> Vec<String> {
    let value = |file: &File| serde_json::to_value(file).unwrap_or_default();
    let mut paths = Vec::new();
    compare(&value(before), &value(after), "", &mut paths);
    paths
}

fn compare(before: &Value, after: &Value, path: &str, paths: &mut Vec<String>) {
    let nothing = serde_json::Map::new();
    let (left, right) = match (before, after) {
        (Value::Object(left), Value::Object(right)) => (left, right),
        (Value::Null, Value::Object(right)) => (&nothing, right),
        (Value::Object(left), Value::Null) => (left, &nothing),
        _ => {
            if before != after {
                paths.push(path.to_owned());
            }
            return;
        }
    };
    let names: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        compare(
            left.get(name).unwrap_or(&Value::Null),
            right.get(name).unwrap_or(&Value::Null),
            &path,
            paths,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(change: impl FnOnce(&mut File)) -> File {
        let mut file = File::defaults();
        change(&mut file);
        file
    }

    fn of_mode(mode: &str) -> File {
        File::defaults_for(mode, "")
    }

    /// kp:C4: what is not said means what it means in the mode that is named, and the node's own addresses in ours.
    #[test]
    fn node_ports_are_where_the_mode_has_them() {
        let all = NodePortAddresses::Networks(Vec::new());
        for (mode, addresses) in [
            ("", NodePortAddresses::Primary),
            ("nftables", NodePortAddresses::Primary),
            ("iptables", all.clone()),
            ("ipvs", all),
        ] {
            assert_eq!(settings(&of_mode(mode)).node_port_addresses, addresses, "{mode:?}");
        }
        let primary = file(|file| file.node_port_addresses = Some(vec![PRIMARY.into()]));
        assert_eq!(settings(&primary).node_port_addresses, NodePortAddresses::Primary);
        let networks = file(|file| file.node_port_addresses = Some(vec!["010.0.0.0/8".into()]));
        let wanted = NodePortAddresses::Networks(vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(settings(&networks).node_port_addresses, wanted);
    }

    /// kp:D3
    #[test]
    fn everything_is_masqueraded_where_the_mode_says_so() {
        let of = |mode: &str, iptables: bool, nftables: bool| {
            let mut file = of_mode(mode);
            (file.iptables.masquerade_all, file.nftables.masquerade_all) = (iptables, nftables);
            settings(&file).masquerade_all
        };
        assert!(of("nftables", false, true) && !of("nftables", true, false));
        assert!(of("iptables", true, false) && !of("iptables", false, true));
        assert!(of("ipvs", true, false) && !of("ipvs", false, true));
        assert!(of("", true, false) && of("", false, true) && !of("", false, false));
    }

    #[test]
    fn masquerading_of_a_mode_that_is_not_used_has_no_effect() {
        let counts = |mode: &str| MASQUERADE_ALL.map(|field| has_effect(field, &of_mode(mode)));
        assert_eq!(counts(""), [true, true]);
        assert_eq!(counts("nftables"), [false, true]);
        assert_eq!([counts("iptables"), counts("ipvs")], [[true, false]; 2]);
    }

    /// kp:J3
    #[test]
    fn the_bind_address_is_the_nodes_own_unless_it_is_none() {
        let of = |address: &str| node_address(&File::defaults_for("", address));
        assert_eq!(of("192.0.2.1"), "192.0.2.1".parse().ok());
        assert_eq!((of(""), of("::")), (None, None));
    }

    /// kp:G1
    #[test]
    fn health_is_served_where_the_file_says_and_nowhere_without_an_address() {
        let on = |address: &str, hard_fail| Some(Probes { address: address.parse().unwrap(), hard_fail });
        assert_eq!(probes(&File::defaults()), on("0.0.0.0:10256", false));
        assert_eq!(probes(&File::defaults_for("", "fd00::1")), on("[::]:10256", false));
        let strict = file(|file| {
            file.healthz_bind_address = "192.0.2.1:7".into();
            file.bind_address_hard_fail = true;
        });
        assert_eq!(probes(&strict), on("192.0.2.1:7", true));
        assert_eq!(probes(&file(|file| file.healthz_bind_address.clear())), None);
    }

    #[test]
    fn the_sync_period_is_that_of_the_mode() {
        for (mode, seconds) in [("", 1), ("iptables", 1), ("ipvs", 2), ("nftables", 3)] {
            let mut file = of_mode(mode);
            assert_eq!(sync_period(&file), Duration::from_secs(30), "{mode:?}");
            file.iptables.sync_period = GoDuration::seconds(1);
            file.ipvs.sync_period = GoDuration::seconds(2);
            file.nftables.sync_period = GoDuration::seconds(3);
            assert_eq!(sync_period(&file), Duration::from_secs(seconds), "{mode:?}");
        }
    }

    #[test]
    fn what_has_no_effect_is_named_once_and_only_when_it_is_set() {
        assert_eq!(remarks(&File::defaults()), [""; 0]);
        assert_eq!(remarks(&of_mode("nftables")), [""; 0]);
        assert_eq!(remarks(&File::defaults_for("", "fd00::1")), [""; 0]);
        let idle = file(|file| {
            file.ipvs.scheduler = "lc".into();
            file.iptables.localhost_node_ports = false;
            file.winkernel.enable_dsr = true;
            file.conntrack.min = 7;
            file.iptables.sync_period = GoDuration::seconds(7);
            file.nftables.sync_period = GoDuration::seconds(7);
            file.feature_gates.insert("NativeHistograms".into(), true);
            file.feature_gates.insert("Other".into(), true);
        });
        assert_eq!(
            remarks(&idle),
            [
                "set, but without effect here: iptables.localhostNodePorts, ipvs.scheduler, nftables.syncPeriod, winkernel.enableDSR",
                "feature gates that are not known here, without effect: Other",
            ]
        );
    }

    #[test]
    fn modes_that_are_not_ours_are_said_to_be_taken_as_nftables() {
        for mode in ["iptables", "ipvs"] {
            assert!(remarks(&of_mode(mode))[0].starts_with(&format!("mode {mode:?} is taken as nftables")));
        }
    }

    /// kp:I9: kube-proxy ends on some of these mismatches (docs/decisions/the-node-is-followed.md); here they are said.
    #[test]
    fn networks_of_the_other_family_only_are_remarked_on() {
        let of = |address: &str, networks: &str| {
            let mut file = File::defaults_for("", address);
            file.cluster_cidr = networks.into();
            remarks(&file).len()
        };
        assert_eq!(of("192.0.2.1", "fd00::/48"), 1);
        assert_eq!(
            of("192.0.2.1", "fd00::/48,10.0.0.0/8") + of("", "fd00::/48") + of("fd00::1", "fd00::/48"),
            0
        );
    }

    #[test]
    fn every_field_without_effect_is_one_of_the_file() {
        let fields = serde_json::to_value(file(|file| file.windows_run_as_service = true)).unwrap();
        for path in WITHOUT_EFFECT.iter().chain(&ELSEWHERE) {
            let pointer = format!("/{}", path.replace('.', "/"));
            // The only one that is printed only when it is set.
            assert!(fields.pointer(&pointer).is_some() || *path == "logging.vmodule", "{path}");
        }
    }
}
