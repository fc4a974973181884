//! JSON as programs in Go write and read it: keys in any case, and null for what is absent.
//!
//! containerd hands over structures without names for JSON, so that `hostPort` arrives as `HostPort`; Go's decoder does
//! not care, and a plugin that does loses them silently. Invariant: after [`tidy`], a key that we read is spelled as the
//! specification does, and no value is null.

use serde_json::{Map, Value};

/// Every key that we read, in the specification's and the reference plugins' spelling, but for those whose case nobody
/// gets wrong because they are one lower-case word in Go too.
const KEYS: &[&str] = &[
    "address",
    "advmss",
    "aliases",
    "allmulti",
    "args",
    "bandwidth",
    "bridge",
    "cgroupPath",
    "cni",
    "cniVersion",
    "containerID",
    "containerPort",
    "dataDir",
    "dns",
    "domain",
    "dst",
    "egressBurst",
    "egressRate",
    "forceAddress",
    "gateway",
    "gw",
    "hairpinMode",
    "hostIP",
    "hostPort",
    "id",
    "ifname",
    "ingressBurst",
    "ingressRate",
    "interface",
    "interfaces",
    "ip",
    "ip4",
    "ip6",
    "ipRanges",
    "ipam",
    "ips",
    "isDefaultGateway",
    "isGateway",
    "logFile",
    "mac",
    "maxID",
    "minID",
    "mode",
    "mtu",
    "name",
    "nameservers",
    "options",
    "pciID",
    "portIsolation",
    "portMappings",
    "preserveDefaultVlan",
    "prevResult",
    "priority",
    "promisc",
    "promiscMode",
    "protocol",
    "rangeEnd",
    "rangeStart",
    "ranges",
    "resolvConf",
    "routes",
    "runtimeConfig",
    "sandbox",
    "scope",
    "search",
    "searches",
    "servers",
    "socketPath",
    "statusFile",
    "statusMaxAge",
    "subnet",
    "sysctl",
    "table",
    "txQLen",
    "type",
    "vlan",
    "vlanTrunk",
];

/// Spells keys as we read them and drops nulls, at every depth.
///
/// A key in its right spelling counts before the same key in another one.
pub fn tidy(map: &mut Map<String, Value>) {
    map.retain(|_, value| !value.is_null());
    let strange = |key: &&String| spelled(key).is_some_and(|right| right != key.as_str());
    let renamed: Vec<String> = map.keys().filter(strange).cloned().collect();
    for key in renamed {
        let value = map.remove(&key).expect("the key was just listed");
        let right = spelled(&key).expect("only keys with a right spelling are listed");
        map.entry(right).or_insert(value);
    }
    map.values_mut().for_each(tidy_value);
}

fn tidy_value(value: &mut Value) {
    match value {
        Value::Object(map) => tidy(map),
        Value::Array(list) => list.iter_mut().for_each(tidy_value),
        _ => {}
    }
}

fn spelled(key: &str) -> Option<&'static str> {
    KEYS.iter().copied().find(|right| right.eq_ignore_ascii_case(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// cni:1.6: what containerd writes, with the capital letters of Go's fields.
    #[test]
    fn keys_are_read_in_any_case_and_nulls_are_absent() {
        let Value::Object(mut map) = json!({"CNIVersion": "0.2.0", "x": null, "Unknown": 1, "runtimeConfig":
            {"portMappings": [{"HostPort": 80, "hostPort": 81, "HostIP": ""}], "bandwidth": null}})
        else {
            unreachable!("the literal is an object")
        };
        tidy(&mut map);
        let tidied = json!({"cniVersion": "0.2.0", "Unknown": 1, "runtimeConfig":
            {"portMappings": [{"hostPort": 81, "hostIP": ""}]}});
        assert_eq!(Value::Object(map), tidied);
    }
}
