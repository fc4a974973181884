//! Event of the core group.

use serde_json::Value;

use super::super::ages::age_of;
use super::super::paths::text;
use super::super::resource::{Column, Resource};

pub(crate) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    namespaced: true,
    status: false,
    fields: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    columns: &[
        Column { name: "Last Seen", wide: false, cell: |it, now| age_of(last_seen(it), now) },
        Column { name: "Type", wide: false, cell: |it, _| text(it, "type").to_owned() },
        Column { name: "Reason", wide: false, cell: |it, _| text(it, "reason").to_owned() },
        Column { name: "Object", wide: false, cell: |it, _| involved(it) },
        Column { name: "Message", wide: false, cell: |it, _| text(it, "message").trim().to_owned() },
        Column { name: "Name", wide: true, cell: Column::NAME.cell },
    ],
    admit: |_| Vec::new(),
    claims: |_| Vec::new(),
};

fn last_seen(event: &Value) -> &str {
    let fields = ["lastTimestamp", "eventTime", "metadata.creationTimestamp"];
    fields.into_iter().map(|field| text(event, field)).find(|it| !it.is_empty()).unwrap_or_default()
}

fn involved(event: &Value) -> String {
    format!("{}/{}", text(event, "involvedObject.kind").to_lowercase(), text(event, "involvedObject.name"))
}
