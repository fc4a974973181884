//! Discovery: which groups, versions and kinds there are, as clients ask before they do anything else.

use serde_json::{Value, json};

use super::resource::{ALL, Resource};

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Those of a version that is not stored.
const READING: &[&str] = &["get", "list", "watch"];

/// The document at a path, if it is one of discovery's.
pub(crate) fn find(segments: &[&str]) -> Option<Value> {
    match segments {
        [] => Some(
            json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/openapi/v2", "/openapi/v3", "/version"]}),
        ),
        ["version"] => Some(version()),
        ["api"] => Some(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
        })),
        ["apis"] => {
            let groups: Vec<_> = groups().into_iter().map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let mut group = group(groups().into_iter().find(|it| it.group == *name)?);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            Some(group)
        }
        ["api", version] => resources("", version),
        ["apis", group, version] => resources(group, version),
        _ => None,
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.0-heddle", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

/// One resource of each group but core, for its group and version.
fn groups() -> Vec<&'static Resource> {
    let mut groups: Vec<&'static Resource> = Vec::new();
    for resource in ALL.iter().filter(|it| !it.group.is_empty()) {
        if !groups.iter().any(|it| it.group == resource.group) {
            groups.push(resource);
        }
    }
    groups
}

fn group(resource: &Resource) -> Value {
    let mut versions: Vec<Value> = Vec::new();
    for it in ALL.iter().filter(|it| it.group == resource.group) {
        let version = json!({"groupVersion": it.api_version(), "version": it.version});
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    json!({"name": resource.group, "preferredVersion": versions[0], "versions": versions})
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let mut entries = Vec::new();
    for it in ALL.iter().filter(|it| it.group == group && it.version == version) {
        entries.push(json!({
            "name": it.plural, "singularName": it.singular, "namespaced": it.namespaced, "kind": it.kind,
            "verbs": if it.convert.is_some() { READING } else { VERBS }, "shortNames": it.short, "categories": if ["pods", "services"].contains(&it.plural) { &["all"][..] } else { &[] },
        }));
        if it.status {
            entries.push(json!({
                "name": format!("{}/status", it.plural), "singularName": "", "namespaced": it.namespaced,
                "kind": it.kind, "verbs": ["get", "patch", "update"],
            }));
        }
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let list =
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": &entries});
    if entries.is_empty() { None } else { Some(list) }
}
