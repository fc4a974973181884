//! The text of a configuration file into a [`File`].
//!
//! Strict first, as kube-proxy: fields that are unknown or there twice are named in a warning, and do not end the start.
//! Pure.

use super::file::{API_VERSION, File, KIND};
use super::tree;
use serde_json::{Map, Value};

/// Why a text is no configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is no YAML, nor JSON.
    #[error("not YAML: {0}")]
    Syntax(String),
    /// It is the configuration of something else.
    #[error("{field}: {value} is not {wanted:?}")]
    Kind {
        /// `apiVersion` or `kind`.
        field: &'static str,
        /// What it has.
        value: Value,
        /// What it must have.
        wanted: &'static str,
    },
    /// A field is not of its type.
    #[error("{field}: {why}")]
    Shape {
        /// The field.
        field: String,
        /// What the reader says.
        why: String,
    },
}

/// Reads a file, defaults filled in. Beside it is what strict reading would have refused.
///
/// # Errors
/// When it is no `KubeProxyConfiguration` of the version that we know, or a field is not of its type.
pub(super) fn decode(text: &str) -> Result<(File, Vec<String>), DecodeError> {
    let syntax = |error: serde_saphyr::Error| DecodeError::Syntax(error.without_snippet().to_string());
    let (mut document, repeated) = tree::read(text).map_err(syntax)?;
    let mut remarks: Vec<String> =
        repeated.into_iter().map(|field| format!("field {field:?} is there more than once")).collect();
    strip_nulls(&mut document);
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let value = document.get(field).cloned().unwrap_or_default();
        if value != wanted {
            return Err(DecodeError::Kind { field, value, wanted });
        }
    }
    let mut file: File = serde_path_to_error::deserialize(&document).map_err(|error| DecodeError::Shape {
        field: error.path().to_string(),
        why: error.into_inner().to_string(),
    })?;
    remarks.extend(unknown(&document, &file).into_iter().map(|field| format!("unknown field {field:?}")));
    file.fill();
    Ok((file, remarks))
}

/// A field that is null is one of which nothing is said.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

/// The fields of a document that reading it has lost. What a file leaves out when it is printed is printed nowhere else,
/// so the file that is printed for this has every such field set.
fn unknown(document: &Value, file: &File) -> Vec<String> {
    let mut every = file.clone();
    every.windows_run_as_service = true;
    every.feature_gates.insert("any".into(), true);
    for output in [&mut every.logging.options.json, &mut every.logging.options.text] {
        output.split_stream = true;
    }
    every.logging.vmodule.push(super::file::VmoduleItem::default());
    every.heddle.manifests.push('.');
    let mut lost = Vec::new();
    compare(document, &serde_json::to_value(&every).unwrap_or_default(), "", &mut lost);
    lost
}

fn compare(document: &Value, known: &Value, path: &str, lost: &mut Vec<String>) {
    let none = Map::new();
    let fields = document.as_object().unwrap_or(&none);
    for (name, value) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match known.get(name) {
            Some(known) => compare(value, known, &path, lost),
            None => lost.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

    fn decoded(rest: &str) -> (File, Vec<String>) {
        decode(&format!("{HEAD}{rest}")).unwrap()
    }

    fn refused(rest: &str) -> String {
        decode(&format!("{HEAD}{rest}")).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_says_nothing_has_the_defaults() {
        assert_eq!(decoded(""), (File::defaults(), Vec::new()));
        let nothing = "clientConnection: null\nconntrack: {min: null}\noomScoreAdj:\nbindAddress: ''\n\
            clientConnection: {burst: 0, qps: 0}\nlogging: {flushFrequency: 0}\nnodePortAddresses: null\n";
        let nothing = nothing.replacen("clientConnection: null\n", "", 1);
        assert_eq!(decoded(&nothing), (File::defaults(), Vec::new()));
    }

    /// kp:I6
    #[test]
    fn unknown_and_repeated_fields_are_named_and_the_rest_counts() {
        let (file, remarks) = decoded(
            "mode: nftables\nmoed: x\nconntrack: {min: 6, minn: 8, min: 7}\nmode: ipvs\nmode: iptables\n",
        );
        assert_eq!((file.mode.as_str(), file.conntrack.min), ("iptables", 7));
        assert_eq!(
            remarks,
            [
                "field \"conntrack.min\" is there more than once",
                "field \"mode\" is there more than once",
                "unknown field \"conntrack.minn\"",
                "unknown field \"moed\"",
            ]
        );
    }

    #[test]
    fn no_field_that_is_known_counts_as_unknown() {
        let every = "windowsRunAsService: true\nfeatureGates: {A: false}\nheddle: {manifests: m}\n\
            logging: {options: {json: {splitStream: false, infoBufferSize: 1Mi}}, vmodule: [{filePattern: a, verbosity: 3}]}\n";
        assert_eq!(decoded(every).1, [""; 0]);
        let printed = serde_json::to_string(&File::defaults()).unwrap();
        assert_eq!(decode(&printed).unwrap(), (File::defaults(), Vec::new()));
    }

    #[test]
    fn what_is_no_configuration_is_refused_with_the_field() {
        assert!(decode("a: [").unwrap_err().to_string().starts_with("not YAML: "));
        assert!(decode("").unwrap_err().to_string().starts_with("apiVersion: null is not "));
        let other = HEAD.replace("v1alpha1", "v1");
        assert!(decode(&other).unwrap_err().to_string().contains("\"kubeproxy.config.k8s.io/v1\" is not"));
        assert!(refused("conntrack: {maxPerCore: many}").starts_with("conntrack.maxPerCore: invalid type"));
        assert!(refused("ipvs: {syncPeriod: 30}").starts_with("ipvs.syncPeriod: "));
        assert!(refused("ipvs: {syncPeriod: 30x}").contains("\"30x\" is no duration"));
    }

    /// kp:J3: the default addresses are of the family of bindAddress.
    #[test]
    fn servers_have_the_family_of_the_bind_address_and_their_port() {
        let addresses = |rest: &str| {
            let file = decoded(rest).0;
            (file.healthz_bind_address, file.metrics_bind_address)
        };
        let owned = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(addresses(""), owned("0.0.0.0:10256", "127.0.0.1:10249"));
        assert_eq!(addresses("bindAddress: 'fd00::1'"), owned("[::]:10256", "[::1]:10249"));
        let bare = "healthzBindAddress: 192.0.2.1\nmetricsBindAddress: '::'\n";
        assert_eq!(addresses(bare), owned("192.0.2.1:10256", "[::]:10249"));
    }
}
