//! ServiceCIDR. An object only: cluster IPs come from the ranges that the server was started with.

use ipnetwork::IpNetwork;
use serde_json::json;

use super::super::paths::texts;
use super::super::refusal::Cause;
use super::super::resource::{Admission, Column, Resource};

pub(crate) const RESOURCE: Resource = Resource {
    group: "networking.k8s.io",
    version: "v1",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    short: &[],
    namespaced: false,
    status: true,
    fields: &[],
    columns: &[
        Column::NAME,
        Column { name: "CIDRs", wide: false, cell: |it, _| texts(it, "spec.cidrs").join(",") },
        Column::AGE,
    ],
    admit,
    claims: |_| Vec::new(),
    convert: None,
};

fn admit(admission: &mut Admission<'_>) -> Vec<Cause> {
    let cidrs = texts(admission.object, "spec.cidrs");
    if cidrs.is_empty() {
        return vec![Cause::required("spec.cidrs", "at least one CIDR required")];
    }
    let wrong =
        cidrs.iter().enumerate().filter(|(_, it)| !it.contains('/') || it.parse::<IpNetwork>().is_err());
    let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    wrong.map(|(index, it)| Cause::invalid(format!("spec.cidrs[{index}]"), &json!(it), why)).collect()
}
