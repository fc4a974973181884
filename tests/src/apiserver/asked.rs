//! What clients ask for, in the words in which rights are given.

use std::collections::BTreeMap;
use std::fmt;

use hyper::Method;

use super::ApiServer;
use super::request::{Query, Target};

/// One sort of request, as a rule of a role names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `get`, `list`, `watch`, `create`, …
    pub verb: &'static str,
    /// The API group; empty for core.
    pub group: &'static str,
    /// The plural, with `/status` for an object's status.
    pub resource: String,
}

impl Asked {
    pub(crate) fn of(method: &Method, target: &Target, query: &Query) -> Self {
        let verb = match (method.as_str(), &target.name) {
            ("GET", _) if query.is_true("watch") => "watch",
            ("GET", Some(_)) => "get",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", Some(_)) => "delete",
            ("DELETE", None) => "deletecollection",
            _ => "other",
        };
        let part = if target.status { "/status" } else { "" };
        Self { verb, group: target.resource.group, resource: format!("{}{part}", target.resource.plural) }
    }
}

impl Asked {
    /// The words of [`fmt::Display`].
    pub(crate) fn line(verb: &str, group: &str, resource: &str) -> String {
        if group.is_empty() { format!("{verb} {resource}") } else { format!("{verb} {resource}.{group}") }
    }
}

/// `list endpointslices.discovery.k8s.io`, `patch nodes/status`.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::line(self.verb, self.group, &self.resource))
    }
}

impl ApiServer {
    /// What clients have asked for so far, and how often.
    pub fn asked(&self) -> BTreeMap<Asked, usize> {
        self.shared.asked().clone()
    }
}
