//! The plugin's configuration as text: a template, and what only this node knows.
//!
//! Pure. It is not where the text goes. Invariant: what the template says stays, and what comes out is a configuration that the
//! plugin takes.

use heddle_cni::install::configurations::check_configuration;
use heddle_cni::install::programs::PROGRAM;
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The template when the operator gives none: `conf/10-heddle.conflist` without its example of ranges.
pub const TEMPLATE: &str = r#"{
    "cniVersion": "1.0.0",
    "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
    "name": "heddle",
    "plugins": [{
        "type": "heddle-cni",
        "capabilities": { "ips": true, "mac": true, "ipRanges": true, "portMappings": true, "bandwidth": true },
        "bridge": "cni0",
        "isDefaultGateway": true,
        "hairpinMode": true,
        "ipam": { "type": "heddle" }
    }]
}"#;

/// What only this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The ranges of its pods.
    pub ranges: Vec<IpNetwork>,
    /// The largest packet of its pods, in bytes.
    pub mtu: Option<u32>,
    /// The agent's sign of life, and for how long it counts.
    pub heartbeat: Option<(PathBuf, Duration)>,
}

/// Why a template makes no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no JSON.
    #[error("it is no JSON")]
    Json(#[from] serde_json::Error),
    /// It is no list of plugins.
    #[error("it is no list of plugins with a name: it needs the keys \"name\" and \"plugins\"")]
    NoList,
    /// The plugin would refuse it.
    #[error("{0}")]
    Refused(String),
}

/// Fills in what the template does not say.
///
/// # Errors
/// When the result would be no configuration for our plugin.
pub fn render(template: &str, facts: &Facts) -> Result<String, Unusable> {
    let mut list: Value = serde_json::from_str(template)?;
    let is_named = list["name"].as_str().is_some_and(|name| !name.is_empty());
    let plugins = list.get_mut("plugins").and_then(Value::as_array_mut).filter(|_| is_named);
    for plugin in plugins.ok_or(Unusable::NoList)?.iter_mut().filter_map(Value::as_object_mut) {
        if plugin.get("type").is_some_and(|kind| kind == PROGRAM) {
            fill(plugin, facts);
        }
    }
    // The alternate form is indented: people look at it.
    let text = format!("{list:#}\n");
    check_configuration(text.as_bytes()).map_err(|failure| Unusable::Refused(failure.to_line()))?;
    Ok(text)
}

fn fill(plugin: &mut Map<String, Value>, facts: &Facts) {
    if let Some(mtu) = facts.mtu {
        plugin.entry("mtu").or_insert_with(|| json!(mtu));
    }
    // Its age means nothing for a file of somebody else's.
    if let Some((file, age)) = facts.heartbeat.as_ref().filter(|_| !plugin.contains_key("statusFile")) {
        plugin.insert("statusFile".to_owned(), json!(file));
        plugin.entry("statusMaxAge").or_insert_with(|| json!(age.as_secs()));
    }
    let ipam = plugin.entry("ipam").or_insert_with(|| json!({ "type": "heddle" }));
    // Another plugin that gives out addresses has its own keys.
    let own = ipam.as_object_mut().filter(|ipam| ipam.get("type").is_some_and(|kind| kind == "heddle"));
    if let Some(ipam) = own.filter(|ipam| !ipam.contains_key("subnet")) {
        let set = |range: &IpNetwork| json!([{ "subnet": range.to_string() }]);
        ipam.entry("ranges").or_insert_with(|| facts.ranges.iter().map(set).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let ranges = ["10.244.1.0/24", "fd00:10:244:1::/64"].map(|range| range.parse().unwrap());
        let heartbeat = Some(("/run/heddle/node-alive".into(), Duration::from_secs(300)));
        Facts { ranges: ranges.to_vec(), mtu: Some(8950), heartbeat }
    }

    #[test]
    fn the_text_has_what_the_node_knows() {
        let wanted = r#"{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "0.4.0",
    "1.0.0",
    "1.1.0"
  ],
  "name": "heddle",
  "plugins": [
    {
      "bridge": "cni0",
      "capabilities": {
        "bandwidth": true,
        "ipRanges": true,
        "ips": true,
        "mac": true,
        "portMappings": true
      },
      "hairpinMode": true,
      "ipam": {
        "ranges": [
          [
            {
              "subnet": "10.244.1.0/24"
            }
          ],
          [
            {
              "subnet": "fd00:10:244:1::/64"
            }
          ]
        ],
        "type": "heddle"
      },
      "isDefaultGateway": true,
      "mtu": 8950,
      "statusFile": "/run/heddle/node-alive",
      "statusMaxAge": 300,
      "type": "heddle-cni"
    }
  ]
}
"#;
        assert_eq!(render(TEMPLATE, &facts()).unwrap(), wanted);
    }

    #[test]
    fn our_template_says_what_the_shipped_configuration_does() {
        let shipped: Value = serde_json::from_str(include_str!("../../../conf/10-heddle.conflist")).unwrap();
        let ranges = ["10.244.0.0/24", "fd00:10:244::/64"].map(|range| range.parse().unwrap());
        let text = render(TEMPLATE, &Facts { ranges: ranges.to_vec(), ..Facts::default() }).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), shipped);
    }

    #[test]
    fn what_a_template_says_stays() {
        let template = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": "heddle-cni", "mtu": 1300, "statusFile": "/y", "ipam": {"type": "heddle", "dataDir": "/x", "ranges": [[{"subnet": "10.9.0.0/24"}]]}},
            {"type": "tuning"},
        ]});
        let text = render(&template.to_string(), &facts()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), template);
        let single = r#"{"name": "pods", "plugins": [{"type": "heddle-cni", "ipam": {"type": "heddle", "subnet": "10.9.0.0/24"}}]}"#;
        assert!(!render(single, &facts()).unwrap().contains("ranges"));
        let delegated = r#"{"name": "pods", "plugins": [{"type": "heddle-cni", "ipam": {"type": "dhcp"}}]}"#;
        assert!(!render(delegated, &facts()).unwrap().contains("ranges"));
    }

    #[test]
    fn a_template_that_makes_no_configuration_is_refused_with_the_reason() {
        let none = Facts::default();
        for (template, facts, says) in [
            ("{", &facts(), "it is no JSON"),
            ("{}", &facts(), "it needs the keys"),
            (r#"{"name": "", "plugins": []}"#, &facts(), "it needs the keys"),
            (r#"{"name": "x", "plugins": []}"#, &facts(), "no plugin in it has the type heddle-cni"),
            (r#"{"name": "x", "plugins": [{"type": "heddle-cni", "mtu": 5}]}"#, &facts(), "mtu"),
            (TEMPLATE, &none, "no range of addresses is given"),
        ] {
            let error = render(template, facts).unwrap_err().to_string();
            assert!(error.contains(says), "{template}: {error}");
        }
    }
}
