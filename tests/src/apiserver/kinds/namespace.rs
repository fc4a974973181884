//! Namespace: always active, and gone as soon as it is deleted, with all that is in it.

use serde_json::json;

use super::super::paths::{set_default, text};
use super::super::resource::{Column, Resource};

pub(crate) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short: &["ns"],
    namespaced: false,
    status: true,
    fields: &["status.phase"],
    columns: &[
        Column::NAME,
        Column { name: "Status", wide: false, cell: |it, _| text(it, "status.phase").to_owned() },
        Column::AGE,
    ],
    admit: |admission| {
        set_default(admission.object, "spec.finalizers", json!(["kubernetes"]));
        set_default(admission.object, "status.phase", "Active");
        let name = text(admission.object, "metadata.name").to_owned();
        if !admission.object["metadata"]["labels"].is_object() {
            admission.object["metadata"]["labels"] = json!({});
        }
        admission.object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
        Vec::new()
    },
    claims: |_| Vec::new(),
    convert: None,
};
