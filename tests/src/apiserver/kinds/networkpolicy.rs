//! NetworkPolicy.

use serde_json::{Value, json};

use super::super::paths::{find, set_default};
use super::super::resource::{Column, Resource};
use super::service::{or_none, selector_cell};

pub(crate) const RESOURCE: Resource = Resource {
    group: "networking.k8s.io",
    version: "v1",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short: &["netpol"],
    namespaced: true,
    status: false,
    fields: &[],
    columns: &[
        Column::NAME,
        Column { name: "Pod-Selector", wide: false, cell: |it, _| or_none(selected(it)) },
        Column::AGE,
    ],
    admit: |admission| {
        let policy = &mut *admission.object;
        set_default(policy, "spec.podSelector", json!({}));
        // Without the list, a policy is about ingress, and about egress if it has rules for it.
        let egress = find(policy, "spec.egress").is_array();
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        set_default(policy, "spec.policyTypes", types);
        Vec::new()
    },
    claims: |_| Vec::new(),
    convert: None,
};

fn selected(policy: &Value) -> String {
    selector_cell(find(policy, "spec.podSelector.matchLabels"))
}
