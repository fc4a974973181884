//! ConfigMap.

use super::super::paths::find;
use super::super::resource::{Column, Resource};

pub(crate) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short: &["cm"],
    namespaced: true,
    status: false,
    fields: &[],
    columns: &[
        Column::NAME,
        Column {
            name: "Data",
            wide: false,
            cell: |it, _| find(it, "data").as_object().map_or(0, serde_json::Map::len).to_string(),
        },
        Column::AGE,
    ],
    admit: |_| Vec::new(),
    claims: |_| Vec::new(),
    convert: None,
};
