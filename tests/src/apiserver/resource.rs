//! What the server knows about each kind: its names, and the few things that it does to its objects.
//!
//! Everything else treats objects as plain JSON. A new kind is one file under `kinds/` and one line in [`ALL`].

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::ages::age_of;
use super::claims::Claims;
use super::kinds;
use super::paths::text;
use super::refusal::Cause;

/// One kind of object, under the names that Kubernetes gives it.
#[derive(Debug)]
pub(crate) struct Resource {
    /// The API group; empty for core.
    pub(crate) group: &'static str,
    /// The version within the group.
    pub(crate) version: &'static str,
    /// The kind of one object, `Service`.
    pub(crate) kind: &'static str,
    /// The word in paths, `services`.
    pub(crate) plural: &'static str,
    /// The word that people type, `service`.
    pub(crate) singular: &'static str,
    /// Shorter words that kubectl takes, `svc`.
    pub(crate) short: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub(crate) namespaced: bool,
    /// Whether `status` is written apart from the rest.
    pub(crate) status: bool,
    /// Dotted paths that a field selector may name, besides name and namespace.
    pub(crate) fields: &'static [&'static str],
    /// The columns of `kubectl get`.
    pub(crate) columns: &'static [Column],
    /// Fills in defaults and refuses what cannot be.
    pub(crate) admit: fn(&mut Admission<'_>) -> Vec<Cause>,
    /// What an object holds that no other may hold.
    pub(crate) claims: fn(&Value) -> Vec<Claim>,
    /// Makes an object of this version of a stored one, which is of another. Whoever asks for this version can only read.
    pub(crate) convert: Option<fn(&mut Value)>,
}

/// An object on its way into the store.
pub(crate) struct Admission<'a> {
    /// The object, to be completed in place.
    pub(crate) object: &'a mut Value,
    /// What it replaces.
    pub(crate) old: Option<&'a Value>,
    /// What is taken already, by others and by `old`.
    pub(crate) claims: &'a Claims,
}

/// Something that only one object may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// A cluster IP.
    Address(IpAddr),
    /// A node port.
    NodePort(u16),
}

/// One column of a table.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// Shown only with `-o wide`.
    pub(crate) wide: bool,
    pub(crate) cell: fn(&Value, Timestamp) -> String,
}

impl Column {
    /// The object's name.
    pub(crate) const NAME: Self =
        Self { name: "Name", wide: false, cell: |object, _| text(object, "metadata.name").to_owned() };
    /// How long ago it was made.
    pub(crate) const AGE: Self = Self {
        name: "Age",
        wide: false,
        cell: |object, now| age_of(text(object, "metadata.creationTimestamp"), now),
    };
}

impl Resource {
    /// `services`, or `endpointslices.discovery.k8s.io`: how messages name it.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `v1`, or `discovery.k8s.io/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// A stored object as those see it who ask for this version.
    pub(crate) fn shown(&self, object: &Value) -> Value {
        let mut shown = object.clone();
        if let Some(convert) = self.convert {
            convert(&mut shown);
            shown["apiVersion"] = Value::from(self.api_version());
        }
        shown
    }
}

/// Every kind that is served, in the order of discovery.
pub(crate) const ALL: &[&Resource] = &[
    &kinds::event::RESOURCE,
    &kinds::namespace::RESOURCE,
    &kinds::node::RESOURCE,
    &kinds::pod::RESOURCE,
    &kinds::service::RESOURCE,
    &kinds::endpointslice::RESOURCE,
    &kinds::endpointslice::OLDER,
    &kinds::networkpolicy::RESOURCE,
    &kinds::servicecidr::RESOURCE,
    &kinds::event::NEWER,
    &kinds::configmap::RESOURCE,
    &kinds::daemonset::RESOURCE,
    &kinds::roles::ACCOUNT,
    &kinds::roles::ROLE,
    &kinds::roles::BINDING,
];

/// The resource at a path: group, version and plural.
pub(crate) fn find_by_path(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|it| it.group == group && it.version == version && it.plural == plural)
}

/// The resource of an object to be stored, by its `apiVersion` and `kind`.
pub(crate) fn find_by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let mut stored = ALL.iter().copied().filter(|it| it.convert.is_none());
    stored.find(|it| it.kind == kind && it.api_version() == api_version)
}

/// The resource whose plural it is; Rust callers need not say the group, since no two kinds here share a word. Of Event and
/// EndpointSlice, which have two resources each, it is the one that is stored.
pub(crate) fn find_by_plural(plural: &str) -> Option<&'static Resource> {
    ALL.iter().copied().find(|it| it.plural == plural)
}
