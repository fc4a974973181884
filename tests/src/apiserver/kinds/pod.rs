//! Pod: an object only; nothing here runs it.

use serde_json::Value;

use super::super::paths::{items, items_mut, set_default, text};
use super::super::refusal::Cause;
use super::super::resource::{Admission, Column, Resource};
use super::service::or_none;

pub(crate) const RESOURCE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short: &["po"],
    namespaced: true,
    status: true,
    fields: &["spec.nodeName", "spec.serviceAccountName", "spec.hostNetwork", "status.phase", "status.podIP"],
    columns: &[
        Column::NAME,
        Column { name: "Ready", wide: false, cell: |it, _| ready(it) },
        Column { name: "Status", wide: false, cell: |it, _| text(it, "status.phase").to_owned() },
        Column { name: "Restarts", wide: false, cell: |it, _| restarts(it) },
        Column::AGE,
        Column { name: "IP", wide: true, cell: |it, _| or_none(text(it, "status.podIP").to_owned()) },
        Column { name: "Node", wide: true, cell: |it, _| or_none(text(it, "spec.nodeName").to_owned()) },
    ],
    admit,
    claims: |_| Vec::new(),
    convert: None,
};

fn admit(admission: &mut Admission<'_>) -> Vec<Cause> {
    let pod = &mut *admission.object;
    set_default(pod, "spec.restartPolicy", "Always");
    set_default(pod, "spec.dnsPolicy", "ClusterFirst");
    set_default(pod, "spec.schedulerName", "default-scheduler");
    set_default(pod, "spec.terminationGracePeriodSeconds", 30);
    set_default(pod, "status.phase", "Pending");
    for container in items_mut(pod, "spec.containers") {
        set_default(container, "imagePullPolicy", "IfNotPresent");
        for port in items_mut(container, "ports") {
            set_default(port, "protocol", "TCP");
        }
    }
    let mut causes = Vec::new();
    if items(pod, "spec.containers").is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    for (index, container) in items(pod, "spec.containers").iter().enumerate() {
        if text(container, "name").is_empty() {
            causes.push(Cause::required(format!("spec.containers[{index}].name"), ""));
        }
    }
    causes
}

fn ready(pod: &Value) -> String {
    let statuses = items(pod, "status.containerStatuses").iter();
    let ready = statuses.filter(|it| it["ready"].as_bool() == Some(true)).count();
    format!("{ready}/{}", items(pod, "spec.containers").len())
}

fn restarts(pod: &Value) -> String {
    let statuses = items(pod, "status.containerStatuses").iter();
    statuses.filter_map(|it| it["restartCount"].as_u64()).sum::<u64>().to_string()
}
