//! ServiceAccount, ClusterRole and ClusterRoleBinding: who a pod is, and what it may ask for.

use super::super::paths::text;
use super::super::resource::{Column, Resource};

pub(crate) const ACCOUNT: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short: &["sa"],
    namespaced: true,
    status: false,
    fields: &[],
    columns: &[Column::NAME, Column::AGE],
    admit: |_| Vec::new(),
    claims: |_| Vec::new(),
    convert: None,
};

pub(crate) const ROLE: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    short: &[],
    namespaced: false,
    ..ACCOUNT
};

pub(crate) const BINDING: Resource = Resource {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    columns: &[
        Column::NAME,
        Column {
            name: "Role",
            wide: false,
            cell: |it, _| format!("ClusterRole/{}", text(it, "roleRef.name")),
        },
        Column::AGE,
    ],
    ..ROLE
};
