//! A configuration as YAML, in the form that kube-proxy writes: fields by name, text without quotes where it stays text.

use super::file::File;
use serde_json::Value;
use std::fmt::Write;

/// The file's text.
pub(super) fn print(file: &File) -> String {
    let mut text = String::new();
    if let Ok(Value::Object(fields)) = serde_json::to_value(file) {
        for (name, value) in &fields {
            field(&mut text, 0, name, value);
        }
    }
    text
}

/// One field of a map, with all below it. Writing to a text cannot fail.
fn field(text: &mut String, depth: usize, name: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let _ = writeln!(text, "{indent}{name}:");
            for (name, value) in fields {
                field(text, depth + 1, name, value);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let _ = writeln!(text, "{indent}{name}:");
            for item in items {
                let _ = writeln!(text, "{indent}- {}", scalar(item));
            }
        }
        scalar_or_empty => {
            let _ = writeln!(text, "{indent}{name}: {}", scalar(scalar_or_empty));
        }
    }
}

/// JSON is YAML too, so whatever is not plain text is printed as JSON.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(plain) if is_plain(plain) => plain.clone(),
        other => other.to_string(),
    }
}

/// Whether a reader of YAML takes it for text without quotes.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "./:_".contains(c))
        && !text.ends_with(':')
        && serde_saphyr::from_str::<Value>(text).is_ok_and(|read| read == text)
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode;
    use super::*;

    /// What kube-proxy 1.36 writes when nothing is set, from its field table.
    const DEFAULTS: &str = include_str!("defaults.yaml");

    /// kp:I4: the defaults, and their text, are kube-proxy's.
    #[test]
    fn the_defaults_are_printed_as_kube_proxy_prints_them() {
        assert_eq!(print(&File::defaults()), DEFAULTS);
        assert_eq!(decode(DEFAULTS).unwrap(), (File::defaults(), Vec::new()));
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let mut file = File::defaults();
        file.mode = "nftables".into();
        file.fill();
        file.node_port_addresses = Some(vec!["10.0.0.0/8".into(), "fd00::/64".into(), "::1/128".into()]);
        file.hostname_override = "null".into();
        file.show_hidden_metrics_for_version = "1.30".into();
        file.cluster_cidr = "a: \"b\" #c".into();
        file.client_connection.qps.0 = 2.5;
        file.heddle.manifests = "/etc/m".into();
        file.logging.vmodule =
            vec![super::super::file::VmoduleItem { file_pattern: "a*".into(), verbosity: 3 }];
        assert_eq!(decode(&print(&file)).unwrap(), (file, Vec::new()));
    }
}
