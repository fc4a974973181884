//! Tables: what `kubectl get` prints comes from here, not from kubectl.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::paths::text;
use super::read::{Page, list_metadata, to_list};
use super::resource::Resource;

/// How a client wants objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As they are.
    Plain,
    /// As `meta.k8s.io/v1` tables.
    Table(Rows),
}

/// What each row carries besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    Bare,
    Metadata,
    Object,
}

impl Encoding {
    /// The first wish of `Accept` that can be met, and the query's `includeObject`.
    pub(crate) fn choose(accept: &str, include_object: &str) -> Self {
        let wishes = accept.split(',').map(|wish| wish.split(';').map(str::trim).collect::<Vec<_>>());
        let mut met = wishes.filter_map(|wish| match wish.as_slice() {
            ["application/json", parameters @ ..] => {
                let of =
                    |name: &str| parameters.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
                match (of("as"), of("g"), of("v")) {
                    (None, _, _) => Some(false),
                    (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(true),
                    _ => None,
                }
            }
            _ => None,
        });
        match (met.next(), include_object) {
            (Some(true), "None") => Self::Table(Rows::Bare),
            (Some(true), "Object") => Self::Table(Rows::Object),
            (Some(true), _) => Self::Table(Rows::Metadata),
            _ => Self::Plain,
        }
    }

    /// A list.
    pub(crate) fn encode(self, resource: &Resource, page: &Page) -> Value {
        match self {
            Self::Plain => to_list(resource, page),
            Self::Table(rows) => {
                let lines: Vec<_> = page.objects.iter().map(|object| row(resource, object, rows)).collect();
                table(resource, &list_metadata(page), &lines, true)
            }
        }
    }

    /// One object. Only the first table of a watch repeats the columns (`headed`).
    pub(crate) fn encode_one(self, resource: &Resource, object: &Value, headed: bool) -> Value {
        match self {
            Self::Plain => resource.shown(object),
            Self::Table(rows) => {
                let metadata = json!({"resourceVersion": text(object, "metadata.resourceVersion")});
                table(resource, &metadata, &[row(resource, object, rows)], headed)
            }
        }
    }
}

fn table(resource: &Resource, metadata: &Value, rows: &[Value], headed: bool) -> Value {
    let columns = if headed { columns(resource) } else { Vec::new() };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

fn columns(resource: &Resource) -> Vec<Value> {
    let definition = |name: &str, format: &str, wide: bool| {
        json!({
            "name": name, "type": "string", "format": format,
            "description": "", "priority": i32::from(wide),
        })
    };
    let all = resource.columns.iter();
    all.map(|it| definition(it.name, if it.name == "Name" { "name" } else { "" }, it.wide)).collect()
}

fn row(resource: &Resource, object: &Value, rows: Rows) -> Value {
    let now = Timestamp::now();
    let line: Vec<_> = resource.columns.iter().map(|it| (it.cell)(object, now)).collect();
    let carried = match rows {
        Rows::Bare => return json!({"cells": line}),
        Rows::Metadata => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        }),
        Rows::Object => resource.shown(object),
    };
    json!({"cells": line, "object": carried})
}
