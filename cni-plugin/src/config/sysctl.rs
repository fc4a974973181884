//! The object `sysctl`: kernel settings of the pod, by their names.
//!
//! Only settings of a network namespace: the kernel shows in `/proc/sys/net` those of the namespace that asks, and lets
//! nothing else be written there, so that no setting of the node can be reached.

use crate::plan::Setting;
use crate::spec::Error;
use serde_json::{Map, Value};

/// What stands for the interface's name in a key, as in the reference plugin.
const IFNAME: &str = "IFNAME";

/// Reads the settings, for an interface of this name.
///
/// # Errors
/// The first key that is not one of a network namespace.
pub(super) fn read(map: &Map<String, Value>, ifname: &str) -> Result<Vec<Setting>, Error> {
    map.iter().map(|(key, value)| setting(key, value, ifname)).collect()
}

fn setting(key: &str, value: &Value, ifname: &str) -> Result<Setting, Error> {
    let invalid = |problem: String| Error::Invalid { key: "sysctl", problem };
    let value = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        other => return Err(invalid(format!("{key}: {other} is neither a text nor a number"))),
    };
    let path = path(key).replace(IFNAME, ifname);
    let parts: Vec<_> = path.split('/').collect();
    let good =
        parts.len() > 2 && parts[0] == "net" && parts.iter().all(|part| !["", ".", ".."].contains(part));
    if good {
        Ok(Setting { key: path, value, required: true })
    } else {
        Err(invalid(format!("{key:?} is no setting of a network namespace, as net.ipv4.tcp_ecn is")))
    }
}

/// Dots or slashes may part it, and the first of either says which; the other kind is then part of a name and the
/// two are exchanged, as in sysctl(8): `net.ipv4.conf.eth0/7.mtu` is about the interface `eth0.7`.
fn path(key: &str) -> String {
    let dots = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'.');
    let exchange = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    if dots { key.chars().map(exchange).collect() } else { key.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(map: &Value) -> Result<Vec<String>, String> {
        let settings = read(map.as_object().unwrap(), "eth0.7").map_err(|e| e.to_string())?;
        Ok(settings.into_iter().map(|setting| format!("{}={}", setting.key, setting.value)).collect())
    }

    #[test]
    fn keys_are_written_with_dots_or_slashes() {
        assert_eq!(keys(&json!({"net.core.somaxconn": 500})).unwrap(), ["net/core/somaxconn=500"]);
        assert_eq!(
            keys(&json!({"net/ipv4/conf/IFNAME/arp_notify": "1"})).unwrap(),
            ["net/ipv4/conf/eth0.7/arp_notify=1"]
        );
        assert_eq!(
            keys(&json!({"net.ipv4.conf.eth1/8.arp_notify": "1"})).unwrap(),
            ["net/ipv4/conf/eth1.8/arp_notify=1"]
        );
    }

    #[test]
    fn nothing_but_a_network_namespaces_settings_is_taken() {
        for key in [
            "kernel.panic",
            "net",
            "net.x",
            "net/../kernel/panic",
            "/net/ipv4/x",
            "net//ipv4/x",
            "net/ipv4/./x",
            "",
        ] {
            let error = keys(&json!({key: "1"})).unwrap_err();
            assert!(
                error.starts_with("sysctl: ") && error.contains("no setting of a network namespace"),
                "{error}"
            );
        }
        assert!(keys(&json!({"net.core.somaxconn": true})).unwrap_err().contains("true is neither"));
    }
}
