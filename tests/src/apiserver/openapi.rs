//! The little of OpenAPI that kubectl asks for: that the server checks fields itself.
//!
//! kubectl before 1.27 reads version 2, in protobuf only, and checks objects against the schemas that it finds: an
//! empty document makes it leave that to the server. Later ones look in version 3 for a `fieldValidation` parameter at
//! the patch of a kind, and then leave it to the server too.

use serde_json::{Map, Value, json};

use super::resource::{ALL, Resource};

/// The content type of [`v2`]: with a dot where clients ask with an `@`, which their own MIME parser refuses.
pub(crate) const V2_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// An `openapi.v2.Document` with `swagger` (field 1) and `info` (field 2) and no paths.
pub(crate) fn v2() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        // Wire type 2: a length and as many bytes. Everything here is shorter than the 128 that one byte can say.
        let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        [&[number << 3 | 2, length], bytes].concat()
    };
    let info = [field(1, b"heddle"), field(2, b"1")].concat();
    [field(1, b"2.0"), field(2, &info)].concat()
}

/// The index of version 3, or the document of one group and version.
pub(crate) fn find_v3(segments: &[&str]) -> Option<Value> {
    match segments {
        ["openapi", "v3"] => {
            let one = |resource: &Resource| {
                let path = root(resource);
                (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}")}))
            };
            Some(json!({"paths": written().map(one).collect::<Map<_, _>>()}))
        }
        ["openapi", "v3", rest @ ..] => {
            let root_asked = rest.join("/");
            let paths: Map<_, _> = written().filter(|it| root(it) == root_asked).map(patch_of).collect();
            let info = json!({"title": "heddle", "version": "1"});
            let document =
                json!({"openapi": "3.0.0", "info": info, "paths": &paths, "components": {"schemas": {}}});
            if paths.is_empty() { None } else { Some(document) }
        }
        _ => None,
    }
}

/// What there is nothing to say of cannot be patched.
fn written() -> impl Iterator<Item = &'static Resource> {
    ALL.iter().copied().filter(|it| it.convert.is_none())
}

fn root(resource: &Resource) -> String {
    format!("{}/{}", if resource.group.is_empty() { "api" } else { "apis" }, resource.api_version())
}

fn patch_of(resource: &Resource) -> (String, Value) {
    let namespace = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
    let path = format!("/{}/{namespace}{}/{{name}}", root(resource), resource.plural);
    let patch = json!({
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {
            "group": resource.group, "version": resource.version, "kind": resource.kind,
        },
        "parameters": [
            {"name": "dryRun", "in": "query", "schema": {"type": "string"}},
            {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}},
        ],
        "responses": {"200": {"description": "OK"}},
    });
    (path, json!({"patch": patch}))
}
