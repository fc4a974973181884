//! What the metrics port answers besides the metrics: kube-proxy's pages for people and for tests.
//!
//! Pure.

use crate::config::Config;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write;

/// kube-proxy's name for its configuration.
const GROUP: &str = "kubeproxy.config.k8s.io";
/// For what is made for eyes.
const FOR_PEOPLE: &str = "Warning: this page is for people; its text may be another one in any version.";

/// `/configz`: the configuration, defaults filled in, as JSON.
pub(super) fn configz(config: &Config) -> String {
    json!({GROUP: config.file}).to_string()
}

/// `/flagz`: the same, a field a line, since all that a flag does is to say what a field is.
pub(super) fn flagz(config: &Config) -> String {
    let mut text = format!("\nheddle-proxy flagz\n{FOR_PEOPLE}\n\n");
    let fields = serde_json::to_value(&config.file).unwrap_or_default();
    flatten(&mut text, "", &fields);
    text
}

fn flatten(text: &mut String, path: &str, value: &Value) {
    let Value::Object(fields) = value else {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{path}={shown}");
        return;
    };
    for (name, value) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        flatten(text, &path, value);
    }
}

/// `/statusz`: which program this is, and for how long it has run.
pub(super) fn statusz(started: Timestamp, now: Timestamp, paths: &[&str]) -> String {
    let up = now.as_second().saturating_sub(started.as_second()).max(0);
    format!(
        "\nheddle-proxy statusz\n{FOR_PEOPLE}\n\nStarted: {started:.0}\nUp: {} hr {:02} min {:02} sec\n\
         Binary version: {}\nPaths: {}\n",
        up / 3600,
        up / 60 % 60,
        up % 60,
        env!("CARGO_PKG_VERSION"),
        paths.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CommandLine;

    fn config(args: &[&str]) -> Config {
        CommandLine::read([&["heddle-proxy"], args].concat(), "node-1").unwrap().config().unwrap()
    }

    #[test]
    fn the_configuration_is_under_its_group_with_all_its_defaults() {
        let page: Value = serde_json::from_str(&configz(&config(&["--cluster-cidr=10.0.0.0/8"]))).unwrap();
        let file = &page["kubeproxy.config.k8s.io"];
        assert_eq!(file["kind"], "KubeProxyConfiguration");
        assert_eq!(file["clusterCIDR"], "10.0.0.0/8");
        assert_eq!(file["conntrack"]["tcpCloseWaitTimeout"], "1h0m0s");
    }

    #[test]
    fn flags_are_the_fields_that_they_set_one_a_line() {
        let page = flagz(&config(&["--cluster-cidr=10.0.0.0/8"]));
        for line in ["clusterCIDR=10.0.0.0/8", "conntrack.min=131072", "enableProfiling=false"] {
            assert!(page.lines().any(|other| other == line), "{line} in {page}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_is_no_time_at_all() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(statusz(at(0), at(7384), &["/a", "/b"]).contains("Up: 2 hr 03 min 04 sec\n"));
        assert!(statusz(at(100), at(50), &[]).contains("Up: 0 hr 00 min 00 sec\n"));
    }
}
