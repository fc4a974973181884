//! Patches: RFC 7386 merge, RFC 6902 operations, and what Kubernetes adds to them.
//!
//! Pure: the object before and the patch give the object after. Storing it is not done here.

use serde_json::{Map, Value};

use super::paths::map;
use super::refusal::Refusal;
use super::resource::Resource;
use super::{json_patch, strategic};

/// The kinds of patch, by the content type that asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Merge,
    Json,
    Strategic,
    /// Server-side apply. Fields are merged; who owns them is not recorded, so there are no ownership conflicts, and a
    /// field that an applier no longer sends stays.
    Apply,
}

impl PatchType {
    /// For the message to a client that sent something else.
    pub(crate) const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, \
                                       application/strategic-merge-patch+json, application/apply-patch+yaml";

    pub(crate) fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Some(Self::Merge),
            "application/json-patch+json" => Some(Self::Json),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            "application/apply-patch+yaml" => Some(Self::Apply),
            _ => None,
        }
    }
}

/// The object after the patch.
pub(crate) fn apply(
    kind: PatchType,
    resource: &Resource,
    before: &Value,
    patch: &Value,
) -> Result<Value, Refusal> {
    let mut after = before.clone();
    match kind {
        PatchType::Merge => merge(&mut after, patch),
        PatchType::Json => json_patch::apply(&mut after, patch)?,
        PatchType::Strategic | PatchType::Apply => strategic::merge(resource, &mut after, patch)?,
    }
    if after.is_object() { Ok(after) } else { Err(Refusal::bad_request("the patch leaves no object")) }
}

/// RFC 7386: maps merge, null removes, all else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target: &mut Map<_, _> = map(target);
    for (field, value) in patch {
        if value.is_null() {
            target.remove(field);
        } else {
            merge(target.entry(field).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_follows_the_examples_of_rfc_7386() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        ];
        for (mut target, patch, expected) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, expected, "{patch}");
        }
    }
}
