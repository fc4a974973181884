//! Strategic merge: as RFC 7386, but lists whose entries have a key are merged by it, and `$`-directives.
//!
//! The keys are the `patchMergeKey` tags of the API types, for the fields that our kinds have. Every other list is
//! replaced as a whole.

use serde_json::{Map, Value};

use super::paths::{map, text};
use super::refusal::Refusal;
use super::resource::Resource;

/// What becomes of a list in a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Replace,
    /// Entries with the same value of this field are the same.
    MergeBy(&'static str),
    /// Strings: a set.
    Union,
}

const PORT: List = List::MergeBy("port");
const NAME: List = List::MergeBy("name");
const TYPE: List = List::MergeBy("type");
const ADDRESS: List = List::MergeBy("ip");

/// (kind or `*`, path without list indices, what becomes of it)
const LISTS: &[(&str, &str, List)] = &[
    ("*", "metadata.finalizers", List::Union),
    ("*", "metadata.ownerReferences", List::MergeBy("uid")),
    ("*", "status.conditions", TYPE),
    ("Service", "spec.ports", PORT),
    ("Node", "spec.podCIDRs", List::Union),
    ("Node", "status.addresses", TYPE),
    ("Pod", "spec.containers", NAME),
    ("Pod", "spec.containers.env", NAME),
    ("Pod", "spec.containers.ports", List::MergeBy("containerPort")),
    ("Pod", "spec.containers.volumeMounts", List::MergeBy("mountPath")),
    ("Pod", "spec.ephemeralContainers", NAME),
    ("Pod", "spec.hostAliases", ADDRESS),
    ("Pod", "spec.imagePullSecrets", NAME),
    ("Pod", "spec.initContainers", NAME),
    ("Pod", "spec.topologySpreadConstraints", List::MergeBy("topologyKey")),
    ("Pod", "spec.volumes", NAME),
    ("Pod", "status.hostIPs", ADDRESS),
    ("Pod", "status.podIPs", ADDRESS),
];

/// Merges `patch` into `target`.
pub(crate) fn merge(resource: &Resource, target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let Value::Object(patch) = patch else {
        return Err(Refusal::bad_request("a strategic merge patch is an object"));
    };
    merge_maps(resource.kind, "", target, patch)
}

fn list_at(kind: &str, path: &str) -> List {
    let found = LISTS.iter().find(|(of, at, _)| (*of == "*" || *of == kind) && *at == path);
    found.map_or(List::Replace, |(_, _, list)| *list)
}

fn merge_maps(kind: &str, path: &str, target: &mut Value, patch: &Map<String, Value>) -> Result<(), Refusal> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => {
            return Err(Refusal::bad_request(format!("unknown $patch directive {other:?} at {path:?}")));
        }
    }
    let target = map(target);
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        target.retain(|field, _| kept.iter().any(|it| it == field));
    }
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
            delete_from_list(target.get_mut(list), value);
        }
    }
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        if value.is_null() {
            target.remove(field);
        } else {
            merge_field(kind, &path, target.entry(field).or_insert(Value::Null), value)?;
        }
    }
    for (field, order) in patch {
        if let Some(list) = field.strip_prefix("$setElementOrder/") {
            let at = if path.is_empty() { list.to_owned() } else { format!("{path}.{list}") };
            set_order(list_at(kind, &at), target.get_mut(list), order);
        }
    }
    Ok(())
}

fn merge_field(kind: &str, path: &str, target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    match (patch, list_at(kind, path)) {
        (Value::Object(patch), _) => merge_maps(kind, path, target, patch),
        (Value::Array(patch), List::MergeBy(key)) => merge_list(kind, path, key, target, patch),
        (Value::Array(patch), List::Union) => {
            let mut items = target.as_array().cloned().unwrap_or_default();
            items.extend(patch.iter().filter(|it| !items.contains(it)).cloned().collect::<Vec<_>>());
            *target = Value::Array(items);
            Ok(())
        }
        _ => {
            *target = patch.clone();
            Ok(())
        }
    }
}

fn merge_list(kind: &str, path: &str, key: &str, target: &mut Value, patch: &[Value]) -> Result<(), Refusal> {
    let mut items = target.as_array().cloned().unwrap_or_default();
    if patch.iter().any(|entry| text(entry, "$patch") == "replace") {
        items.clear();
    }
    for entry in patch {
        let Value::Object(fields) = entry else {
            return Err(Refusal::bad_request(format!("an entry of {path:?} is not an object")));
        };
        let id = &entry[key];
        match text(entry, "$patch") {
            "replace" => continue,
            "delete" => {
                items.retain(|item| item[key] != *id);
                continue;
            }
            _ if id.is_null() => {
                return Err(Refusal::bad_request(format!(
                    "an entry of {path:?} does not have the merge key {key:?}"
                )));
            }
            _ => {}
        }
        match items.iter_mut().find(|item| item[key] == *id) {
            Some(item) => merge_maps(kind, path, item, fields)?,
            None => items.push(without_directives(fields)),
        }
    }
    *target = Value::Array(items);
    Ok(())
}

fn delete_from_list(list: Option<&mut Value>, gone: &Value) {
    if let (Some(Value::Array(items)), Value::Array(gone)) = (list, gone) {
        items.retain(|item| !gone.contains(item));
    }
}

/// Entries that the order names stand in that order; those that it does not name, which others added, come after.
fn set_order(list: List, items: Option<&mut Value>, order: &Value) {
    let (Some(Value::Array(items)), Value::Array(order)) = (items, order) else { return };
    let position = |item: &Value| {
        let same = |it: &Value| match list {
            List::MergeBy(key) => it[key] == item[key],
            List::Replace | List::Union => it == item,
        };
        order.iter().position(same).unwrap_or(order.len())
    };
    items.sort_by_key(position);
}

fn without_directives(fields: &Map<String, Value>) -> Value {
    let plain = fields.iter().filter(|(field, value)| !field.starts_with('$') && !value.is_null());
    plain.map(|(field, value)| (field.clone(), value.clone())).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds;
    use super::*;

    fn merged(before: Value, patch: &Value) -> Value {
        let mut target = before;
        merge(&kinds::service::RESOURCE, &mut target, patch).unwrap();
        target
    }

    #[test]
    fn ports_merge_by_number_and_keep_what_the_patch_does_not_say() {
        let before =
            json!({"spec": {"ports": [{"port": 80, "name": "http", "nodePort": 30080}, {"port": 443}]}});
        let patch = json!({"spec": {
            "ports": [{"port": 80, "name": "web"}, {"port": 53}, {"port": 443, "$patch": "delete"}],
            "$setElementOrder/ports": [{"port": 53}, {"port": 80}],
        }});
        let after =
            json!({"spec": {"ports": [{"port": 53}, {"port": 80, "name": "web", "nodePort": 30080}]}});
        assert_eq!(merged(before, &patch), after);
    }

    #[test]
    fn finalizers_are_a_set() {
        let before = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch =
            json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}});
        assert_eq!(merged(before, &patch), json!({"metadata": {"finalizers": ["b", "c"]}}));
    }

    #[test]
    fn other_lists_and_nulls_replace() {
        let before =
            json!({"spec": {"externalIPs": ["192.0.2.1"], "selector": {"app": "web", "tier": "front"}}});
        let patch = json!({"spec": {"externalIPs": ["192.0.2.2"], "selector": {"tier": null}}});
        let after = json!({"spec": {"externalIPs": ["192.0.2.2"], "selector": {"app": "web"}}});
        assert_eq!(merged(before, &patch), after);
    }

    #[test]
    fn a_map_is_replaced_where_the_patch_says_so() {
        let before = json!({"spec": {"selector": {"app": "web"}}});
        let patch = json!({"spec": {"selector": {"$patch": "replace", "tier": "front"}}});
        assert_eq!(merged(before, &patch), json!({"spec": {"selector": {"tier": "front"}}}));
    }
}
