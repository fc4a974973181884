//! What every object must be, whatever its kind: the right kind, namespace and name, and the version that was meant.

use serde_json::{Value, json};

use super::paths::{map, remove, set, set_default, text};
use super::refusal::{Cause, Refusal};
use super::store::{Key, Store};
use super::verbs::Place;

/// Names the kind, the namespace and refuses another's; afterwards metadata, spec and status can be indexed.
pub(crate) fn check_shape(place: Place<'_>, object: &mut Value) -> Result<(), Refusal> {
    let resource = place.resource;
    if !object.is_object() {
        return Err(Refusal::bad_request(format!("the body is not an object of kind {}", resource.kind)));
    }
    set_default(object, "apiVersion", resource.api_version());
    set_default(object, "kind", resource.kind);
    let (version, kind) = (text(object, "apiVersion"), text(object, "kind"));
    if version != resource.api_version() || kind != resource.kind {
        let expected = format!("{}, {}", resource.api_version(), resource.kind);
        let message = format!("the object provided is {version}, {kind}, and this path takes {expected}");
        return Err(Refusal::bad_request(message));
    }
    for part in ["metadata", "spec", "status"] {
        let value = &object[part];
        if !value.is_null() && !value.is_object() {
            return Err(Refusal::bad_request(format!(
                "{kind} in version {version:?} cannot be handled: {part} is not an object"
            )));
        }
    }
    map(map(object).entry("metadata").or_insert(Value::Null));
    check_namespace(place, object)
}

fn check_namespace(place: Place<'_>, object: &mut Value) -> Result<(), Refusal> {
    if !place.resource.namespaced {
        remove(object, "metadata.namespace");
        return Ok(());
    }
    set_default(object, "metadata.namespace", place.namespace);
    if text(object, "metadata.namespace") == place.namespace {
        return Ok(());
    }
    Err(Refusal::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

/// Makes a name of `generateName`, and refuses what is no name.
pub(crate) fn name_it(store: &Store, place: Place<'_>, object: &mut Value) -> Result<(), Refusal> {
    let prefix = text(object, "metadata.generateName").to_owned();
    if text(object, "metadata.name").is_empty() && !prefix.is_empty() {
        let free = |name: &String| store.get(&Key::new(place.resource, place.namespace, name)).is_none();
        let name = std::iter::repeat_with(|| format!("{prefix}{}", random_suffix())).find(free);
        set(object, "metadata.name", name.unwrap_or_default());
    }
    let name = text(object, "metadata.name");
    let cause = if name.is_empty() {
        Cause::required("metadata.name", "name or generateName is required")
    } else if !is_object_name(name) {
        let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                   and must start and end with an alphanumeric character";
        Cause::invalid("metadata.name", &json!(name), why)
    } else {
        return Ok(());
    };
    Err(Refusal::invalid(place.resource, name, &[cause]))
}

/// Five letters that make no word, as apimachinery's `names.SimpleNameGenerator`.
fn random_suffix() -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes = uuid::Uuid::new_v4().into_bytes();
    bytes.iter().take(5).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

fn is_object_name(name: &str) -> bool {
    let plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= 253
        && bytes.first().is_some_and(|it| plain(*it))
        && bytes.last().is_some_and(|it| plain(*it))
        && bytes.iter().all(|it| plain(*it) || b"-.".contains(it))
}

pub(crate) fn check_labels(labels: &Value) -> Option<Cause> {
    let wrong = labels.as_object()?.values().find(|value| !value.is_string())?;
    Some(Cause::invalid("metadata.labels", wrong, "must be a string"))
}

pub(crate) fn check_versions(place: Place<'_>, object: &Value, old: &Value) -> Result<(), Refusal> {
    let sent = text(object, "metadata.resourceVersion");
    if !sent.is_empty() && sent != text(old, "metadata.resourceVersion") {
        return Err(Refusal::changed_since(place.resource, place.name));
    }
    let uid = text(object, "metadata.uid");
    if !uid.is_empty() && uid != text(old, "metadata.uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(old, "metadata.uid")
        );
        return Err(Refusal::conflict(place.resource, place.name, &why));
    }
    Ok(())
}
