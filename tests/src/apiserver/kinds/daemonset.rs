//! DaemonSet. An object only: nothing starts its pods.

use serde_json::{Value, json};

use super::super::paths::{find, set_default};
use super::super::refusal::Cause;
use super::super::resource::{Admission, Column, Resource};

pub(crate) const RESOURCE: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short: &["ds"],
    namespaced: true,
    status: true,
    fields: &[],
    columns: &[Column::NAME, Column::AGE],
    admit,
    claims: |_| Vec::new(),
    convert: None,
};

/// A set whose pods it would not find is refused.
fn admit(admission: &mut Admission<'_>) -> Vec<Cause> {
    set_default(admission.object, "spec.updateStrategy.type", "RollingUpdate");
    let labels = find(admission.object, "spec.template.metadata.labels");
    let selector = find(admission.object, "spec.selector.matchLabels").as_object();
    let finds =
        selector.is_some_and(|it| !it.is_empty() && it.iter().all(|(key, value)| labels[key] == *value));
    let why = "`selector` does not match template `labels`";
    if finds {
        Vec::new()
    } else {
        vec![Cause::invalid("spec.template.metadata.labels", &json!(Value::clone(labels)), why)]
    }
}
