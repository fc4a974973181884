//! What a request is about: its path and query, read once.

use std::time::Duration;

use form_urlencoded::parse;

use super::refusal::{Cause, Refusal};
use super::resource::{self, Resource};
use super::selectors::Selector;

/// The objects, or the object, that a path names.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) resource: &'static Resource,
    /// None means all namespaces, or a kind without.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    /// Whether it is the object's status only.
    pub(crate) status: bool,
}

impl Target {
    /// Reads the segments behind `/api` or `/apis`; None if they name nothing that is served.
    pub(crate) fn parse(segments: &[&str]) -> Option<Self> {
        let (group, version, rest) = match segments {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status"]) => {
                (Some(*namespace), rest)
            }
            rest => (None, rest),
        };
        let (plural, name, status) = match rest {
            [plural] => (*plural, None, false),
            [plural, name] => (*plural, Some(*name), false),
            [plural, name, "status"] => (*plural, Some(*name), true),
            _ => return None,
        };
        let resource = resource::find_by_path(group, version, plural)?;
        let misplaced =
            if resource.namespaced { name.is_some() && namespace.is_none() } else { namespace.is_some() };
        if misplaced || status && !resource.status {
            return None;
        }
        Some(Self {
            resource,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            status,
        })
    }
}

/// The query of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        Self { pairs: parse(query.unwrap_or_default().as_bytes()).into_owned().collect() }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, value)| key == name && ["", "1", "true"].contains(&value.as_str()))
    }

    /// A number; absent is 0, as clients that send every field mean it.
    pub(crate) fn number(&self, name: &str) -> Result<u64, Refusal> {
        let text = self.text(name);
        let wrong =
            |_| Refusal::bad_request(format!("invalid value {text:?} for the query parameter {name}"));
        if text.is_empty() { Ok(0) } else { text.parse().map_err(wrong) }
    }

    pub(crate) fn selector(&self, target: &Target) -> Result<Selector, Refusal> {
        let selector =
            Selector::parse(self.text("labelSelector"), self.text("fieldSelector"), target.resource)?;
        Ok(match &target.name {
            Some(name) => selector.named(name),
            None => selector,
        })
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.text("dryRun") == "All"
    }
}

/// How a watch begins and what it carries.
#[derive(Clone, Debug)]
pub(crate) struct WatchOptions {
    /// The version to continue from; 0 is any, and begins with what is there.
    pub(crate) from: u64,
    pub(crate) initial_events: bool,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Duration,
}

impl WatchOptions {
    pub(crate) fn parse(query: &Query, streaming_lists: bool) -> Result<Self, Refusal> {
        let from = query.number("resourceVersion")?;
        let asked = query.text("sendInitialEvents");
        let version_match = query.text("resourceVersionMatch");
        if asked.is_empty() && !version_match.is_empty() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return Err(Refusal::invalid_list_options(Cause::forbidden("resourceVersionMatch", why)));
        }
        if !asked.is_empty() && !streaming_lists {
            let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            return Err(Refusal::invalid_list_options(Cause::forbidden("sendInitialEvents", why)));
        }
        if !asked.is_empty() && version_match != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(Refusal::invalid_list_options(Cause::forbidden("resourceVersionMatch", why)));
        }
        let seconds = query.number("timeoutSeconds")?;
        Ok(Self {
            from,
            initial_events: query.is_true("sendInitialEvents") && !asked.is_empty(),
            bookmarks: query.is_true("allowWatchBookmarks"),
            // The real server ends watches after 30 to 60 minutes.
            timeout: Duration::from_secs(if seconds == 0 { 1_800 } else { seconds }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Option<(String, Option<String>, Option<String>, bool)> {
        let segments: Vec<_> = path.split('/').filter(|it| !it.is_empty()).collect();
        Target::parse(&segments).map(|it| (it.resource.qualified(), it.namespace, it.name, it.status))
    }

    fn named(
        plural: &str,
        namespace: &str,
        name: &str,
        status: bool,
    ) -> Option<(String, Option<String>, Option<String>, bool)> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Some((plural.to_owned(), some(namespace), some(name), status))
    }

    #[test]
    fn paths_name_kinds_objects_and_their_status() {
        assert_eq!(target("/api/v1/services"), named("services", "", "", false));
        assert_eq!(target("/api/v1/namespaces/a/services"), named("services", "a", "", false));
        assert_eq!(target("/api/v1/namespaces/a/services/b/status"), named("services", "a", "b", true));
        assert_eq!(target("/api/v1/namespaces"), named("namespaces", "", "", false));
        assert_eq!(target("/api/v1/namespaces/a"), named("namespaces", "", "a", false));
        assert_eq!(target("/api/v1/namespaces/a/status"), named("namespaces", "", "a", true));
        let slices = "endpointslices.discovery.k8s.io";
        assert_eq!(
            target("/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b"),
            named(slices, "a", "b", false)
        );
    }

    #[test]
    fn paths_that_name_nothing_are_none() {
        for path in [
            "/api/v1/services/b",
            "/api/v1/namespaces/a/nodes/b",
            "/api/v2/services",
            "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b/status",
            "/api/v1/namespaces/a/services/b/scale",
            "/apis/apps/v1/deployments",
        ] {
            assert_eq!(target(path), None, "{path}");
        }
    }

    #[test]
    fn streaming_lists_need_their_match_and_a_server_that_knows_them() {
        let parse = |query: &str, known| {
            WatchOptions::parse(&Query::parse(Some(query)), known).map(|it| it.initial_events)
        };
        assert_eq!(parse("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true), Ok(true));
        assert_eq!(parse("resourceVersion=0", false), Ok(false));
        for (query, known) in [
            ("sendInitialEvents=true", true),
            ("resourceVersionMatch=NotOlderThan", true),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", false),
        ] {
            assert_eq!(parse(query, known).unwrap_err().code, 422, "{query}");
        }
    }
}
