//! Create, replace, patch and delete: from what a client sends to one commit of the store.
//!
//! No HTTP here. Each verb either commits once or refuses and leaves the store as it was.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::ages::now_text;
use super::checks::{check_labels, check_shape, check_versions, name_it};
use super::kinds::namespace;
use super::patch::{self, PatchType};
use super::paths::{find, is_unset, items, remove, set, set_default, text};
use super::refusal::Refusal;
use super::resource::{self, Admission, Resource};
use super::store::{Key, Store};

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Main,
    /// The status alone.
    Status,
    /// Everything: only callers in the same process may.
    Whole,
}

/// Where and how to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) part: Part,
    /// Answer as if, but store nothing.
    pub(crate) dry_run: bool,
}

impl Place<'_> {
    fn key(&self) -> Key {
        Key::new(self.resource, self.namespace, self.name)
    }
}

/// Stores a new object. `place.name` is ignored.
pub(crate) fn create(store: &mut Store, place: Place<'_>, mut object: Value) -> Result<Arc<Value>, Refusal> {
    check_shape(place, &mut object)?;
    name_it(store, place, &mut object)?;
    let name = text(&object, "metadata.name").to_owned();
    let place = Place { name: &name, ..place };
    if store.get(&place.key()).is_some() {
        return Err(Refusal::already_exists(place.resource, &name));
    }
    if !is_unset(find(&object, "metadata.resourceVersion")) {
        return Err(Refusal::bad_request("resourceVersion should not be set on objects to be created"));
    }
    // Nodes register with their status; everything else starts without one.
    if place.part == Part::Main && place.resource.status && place.resource.kind != "Node" {
        remove(&mut object, "status");
    }
    set(&mut object, "metadata.uid", uuid::Uuid::new_v4().to_string());
    set(&mut object, "metadata.creationTimestamp", now_text());
    if is_generational(place.resource) {
        set(&mut object, "metadata.generation", 1);
    }
    admit(store, place, &mut object, None)?;
    Ok(commit(store, place, object))
}

/// Replaces an object.
pub(crate) fn update(store: &mut Store, place: Place<'_>, mut object: Value) -> Result<Arc<Value>, Refusal> {
    check_shape(place, &mut object)?;
    let sent = text(&object, "metadata.name").to_owned();
    if sent != place.name {
        let message =
            format!("the name of the object ({sent}) does not match the name on the URL ({})", place.name);
        return Err(Refusal::bad_request(message));
    }
    let old =
        store.get(&place.key()).cloned().ok_or_else(|| Refusal::not_found(place.resource, place.name))?;
    check_versions(place, &object, &old)?;
    let mut object = match place.part {
        Part::Whole => object,
        Part::Main => with_status_of(place.resource, object, &old),
        Part::Status => with_only_status_of(&old, &object),
    };
    keep_identity(&mut object, &old);
    admit(store, place, &mut object, Some(&old))?;
    if is_generational(place.resource) && desired(&object) != desired(&old) {
        let generation = find(&old, "metadata.generation").as_u64().unwrap_or(0) + 1;
        set(&mut object, "metadata.generation", generation);
    }
    if is_done_deleting(&object) {
        return Ok(erase(store, place));
    }
    // A write that changes nothing is no event, as in etcd3's GuaranteedUpdate.
    if object == *old {
        return Ok(old);
    }
    Ok(commit(store, place, object))
}

/// Patches an object. Server-side apply creates it if it is not there.
pub(crate) fn patch(
    store: &mut Store,
    place: Place<'_>,
    kind: PatchType,
    patch: &Value,
) -> Result<(Arc<Value>, bool), Refusal> {
    let Some(old) = store.get(&place.key()).cloned() else {
        if kind != PatchType::Apply || place.part == Part::Status {
            return Err(Refusal::not_found(place.resource, place.name));
        }
        let mut object = patch.clone();
        set_default(&mut object, "metadata.name", place.name);
        return create(store, place, object).map(|created| (created, true));
    };
    let patched = patch::apply(kind, place.resource, &old, patch)?;
    update(store, place, patched).map(|updated| (updated, false))
}

/// Deletes an object, or marks it while it has finalizers. `options` is a `DeleteOptions` or null.
pub(crate) fn delete(store: &mut Store, place: Place<'_>, options: &Value) -> Result<Arc<Value>, Refusal> {
    let old =
        store.get(&place.key()).cloned().ok_or_else(|| Refusal::not_found(place.resource, place.name))?;
    for field in ["uid", "resourceVersion"] {
        let (wanted, is) = (text(options, &format!("preconditions.{field}")), text(&old["metadata"], field));
        if !wanted.is_empty() && wanted != is {
            let why = format!(
                "Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {is}"
            );
            return Err(Refusal::conflict(place.resource, place.name, &why));
        }
    }
    if items(&old, "metadata.finalizers").is_empty() {
        return Ok(erase(store, place));
    }
    if !is_unset(find(&old, "metadata.deletionTimestamp")) {
        return Ok(old);
    }
    let mut marked = Value::clone(&old);
    set(&mut marked, "metadata.deletionTimestamp", now_text());
    set(&mut marked, "metadata.deletionGracePeriodSeconds", 0);
    Ok(commit(store, place, marked))
}

fn commit(store: &mut Store, place: Place<'_>, object: Value) -> Arc<Value> {
    if place.dry_run { Arc::new(object) } else { store.commit(&place.key(), Some(object), place.resource) }
}

fn erase(store: &mut Store, place: Place<'_>) -> Arc<Value> {
    if place.dry_run {
        return store.get(&place.key()).cloned().unwrap_or_default();
    }
    if place.resource.plural == namespace::RESOURCE.plural {
        for key in store.keys_in_namespace(place.name) {
            if let Some(resource) = resource::find_by_plural(key.plural) {
                store.commit(&key, None, resource);
            }
        }
    }
    store.commit(&place.key(), None, place.resource)
}

fn admit(store: &Store, place: Place<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Refusal> {
    let mut admission = Admission { object, old, claims: &store.claims };
    let mut causes = (place.resource.admit)(&mut admission);
    causes.extend(check_labels(&object["metadata"]["labels"]));
    if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(place.resource, place.name, &causes)) }
}

fn with_status_of(resource: &Resource, mut object: Value, old: &Value) -> Value {
    if resource.status {
        match old.get("status") {
            Some(status) => set(&mut object, "status", status.clone()),
            None => drop(remove(&mut object, "status")),
        }
    }
    object
}

fn with_only_status_of(old: &Value, sent: &Value) -> Value {
    let mut object = old.clone();
    set(&mut object, "status", sent.get("status").cloned().unwrap_or_else(|| Value::Object(Map::new())));
    object
}

/// What no client can change.
fn keep_identity(object: &mut Value, old: &Value) {
    let fields = [
        "uid",
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    for field in fields {
        let path = format!("metadata.{field}");
        match find(old, &path) {
            Value::Null => drop(remove(object, &path)),
            kept => set(object, &path, kept.clone()),
        }
    }
}

/// What `generation` counts the changes of.
fn desired(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(field, _)| !["metadata", "status"].contains(&field.as_str())).collect()
}

fn is_done_deleting(object: &Value) -> bool {
    !is_unset(find(object, "metadata.deletionTimestamp")) && items(object, "metadata.finalizers").is_empty()
}

/// Whether the kind counts the changes of what is wanted. Services, nodes and namespaces do not.
fn is_generational(resource: &Resource) -> bool {
    ["EndpointSlice", "NetworkPolicy", "Pod"].contains(&resource.kind)
}
