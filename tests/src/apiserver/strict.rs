//! Strict decoding: fields that the API's own types do not have, as `fieldValidation=Strict` finds them.
//!
//! An object is decoded as its type and encoded again: what is lost on the way is no field of Kubernetes. Not a check of values.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewerEvent;
use k8s_openapi::api::networking::v1::{NetworkPolicy, ServiceCIDR};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::Value;

use super::paths::text;
use super::refusal::Refusal;

/// Refuses an object with fields that its kind does not have, or with a field of another type.
pub(crate) fn check(object: &Value) -> Result<(), Refusal> {
    let unknown = unknown_fields(object).map_err(Refusal::bad_request)?;
    if unknown.is_empty() {
        return Ok(());
    }
    let said: Vec<_> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    Err(Refusal::bad_request(format!("strict decoding error: {}", said.join(", "))))
}

/// The paths of what the API's types do not have.
///
/// # Errors
/// For an object that is none of its kind, and for a kind that no test has needed so far.
pub fn unknown_fields(object: &Value) -> Result<Vec<String>, String> {
    let known = match (text(object, "apiVersion"), text(object, "kind")) {
        ("v1", "ConfigMap") => known::<ConfigMap>(object),
        ("v1", "Event") => known::<Event>(object),
        ("v1", "Namespace") => known::<Namespace>(object),
        ("v1", "Node") => known::<Node>(object),
        ("v1", "Pod") => known::<Pod>(object),
        ("v1", "Service") => known::<Service>(object),
        ("v1", "ServiceAccount") => known::<ServiceAccount>(object),
        ("apps/v1", "DaemonSet") => known::<DaemonSet>(object),
        ("discovery.k8s.io/v1", "EndpointSlice") => known::<EndpointSlice>(object),
        ("events.k8s.io/v1", "Event") => known::<NewerEvent>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => known::<NetworkPolicy>(object),
        ("networking.k8s.io/v1", "ServiceCIDR") => known::<ServiceCIDR>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => known::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => known::<ClusterRoleBinding>(object),
        (version, kind) => return Err(format!("no type is known for kind {kind:?} in version {version:?}")),
    };
    let mut unknown = Vec::new();
    compare("", object, &known?, &mut unknown);
    Ok(unknown)
}

fn known<T: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, String> {
    let decoded: T = serde_json::from_value(object.clone()).map_err(|error| {
        let (version, kind) = (text(object, "apiVersion"), text(object, "kind"));
        format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}")
    })?;
    serde_json::to_value(decoded).map_err(|error| error.to_string())
}

fn compare(path: &str, sent: &Value, known: &Value, unknown: &mut Vec<String>) {
    match (sent, known) {
        (Value::Object(sent), Value::Object(known)) => {
            for (field, value) in sent {
                let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                match known.get(field) {
                    Some(known) => compare(&path, value, known, unknown),
                    // Null is as good as absent, whatever the field.
                    None if value.is_null() => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(sent), Value::Array(known)) => {
            for (index, (sent, known)) in sent.iter().zip(known).enumerate() {
                compare(&format!("{path}[{index}]"), sent, known, unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_types_do_not_have_is_named_by_its_path() {
        let mut set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a"}, "spec": {
            "selector": {}, "updateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}}, "template": {"spec": {
                "containers": [{"name": "a", "image": "b", "env": [], "resources": {"requests": {"cpu": "20m"}}}],
            }},
        }});
        assert_eq!(unknown_fields(&set).unwrap(), [""; 0]);
        set["spec"]["template"]["spec"]["hostNetwrk"] = json!(true);
        set["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = json!({});
        let expected = ["spec.template.spec.containers[0].readinesProbe", "spec.template.spec.hostNetwrk"];
        assert_eq!(unknown_fields(&set).unwrap(), expected);
        let refusal = check(&set).unwrap_err().to_string();
        assert!(refusal.starts_with("strict decoding error: unknown field \"spec.template."), "{refusal}");
        set["spec"]["template"]["spec"]["containers"] = json!("none");
        assert!(check(&set).unwrap_err().to_string().contains("cannot be handled as a DaemonSet"));
        assert!(check(&json!({"apiVersion": "v1", "kind": "Secret"})).is_err());
    }
}
