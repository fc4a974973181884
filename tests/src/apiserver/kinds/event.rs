//! Event, of the core group and of events.k8s.io: one kind under two names, as in Kubernetes.
//!
//! What is written by the newer name has the fields of both, so that whoever reads by the older one (kubectl) finds his.

use serde_json::{Value, json};

use super::super::ages::age_of;
use super::super::paths::{find, text};
use super::super::refusal::Cause;
use super::super::resource::{Admission, Column, Resource};

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
    columns: COLUMNS,
    admit: |_| Vec::new(),
    claims: |_| Vec::new(),
    convert: None,
};

/// Shares its store with the core group's, which has the same plural.
pub(crate) const NEWER: Resource = Resource {
    group: "events.k8s.io",
    fields: &["regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "reason", "type"],
    admit,
    ..RESOURCE
};

const COLUMNS: &[Column] = &[
    Column { name: "Last Seen", wide: false, cell: |it, now| age_of(last_seen(it), now) },
    Column { name: "Type", wide: false, cell: |it, _| text(it, "type").to_owned() },
    Column { name: "Reason", wide: false, cell: |it, _| text(it, "reason").to_owned() },
    Column { name: "Object", wide: false, cell: |it, _| involved(it) },
    Column { name: "Message", wide: false, cell: |it, _| text(it, "message").trim().to_owned() },
    Column { name: "Name", wide: true, cell: Column::NAME.cell },
];

/// As events.k8s.io checks an Event: who says what of whom and when, in the object's own namespace, and not too long. After that
/// it may only count on.
fn admit(admission: &mut Admission<'_>) -> Vec<Cause> {
    let event = &mut *admission.object;
    let mut causes = Vec::new();
    for field in ["eventTime", "reportingController", "reportingInstance", "action", "reason", "type"] {
        if text(event, field).is_empty() {
            causes.push(Cause::required(field, "must be specified"));
        }
    }
    for (field, longest) in [("note", 1024), ("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        if text(event, field).len() > longest {
            causes.push(Cause::invalid(field, &json!("..."), "is too long"));
        }
    }
    let namespace = match text(event, "regarding.namespace") {
        "" => "default",
        namespace => namespace,
    };
    if text(event, "metadata.namespace") != namespace {
        causes.push(Cause::invalid("metadata.namespace", &json!(namespace), "is not that of the object"));
    }
    if let Some(old) = admission.old {
        let fixed = ["regarding", "note", "reason", "action", "type", "eventTime", "reportingController"];
        let changed = fixed.into_iter().filter(|field| find(old, field) != find(event, field));
        causes.extend(changed.map(|field| Cause::invalid(field, find(event, field), "field is immutable")));
    }
    for (newer, older) in
        [("regarding", "involvedObject"), ("note", "message"), ("reportingController", "reportingComponent")]
    {
        event[older] = event[newer].clone();
    }
    event["source"] = json!({"component": event["reportingController"]});
    causes
}

fn last_seen(event: &Value) -> &str {
    let fields = ["lastTimestamp", "eventTime", "metadata.creationTimestamp"];
    fields.into_iter().map(|field| text(event, field)).find(|it| !it.is_empty()).unwrap_or_default()
}

fn involved(event: &Value) -> String {
    format!("{}/{}", text(event, "involvedObject.kind").to_lowercase(), text(event, "involvedObject.name"))
}
