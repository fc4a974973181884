//! The API server as the source of objects.
//!
//! Not the state of the cluster: see `census` for what little is kept. Each kind is listed and watched on its own, by
//! streaming list where the server has that, and for ever: a server that refuses, breaks off or is away is reported
//! once and tried again, and what it said before stands. Invariant: [`Change::Complete`] of a kind comes after every
//! object of a whole list.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tracing::{debug, info, warn};

use super::census::Census;
use super::lean::Lean;
use crate::convert::objects::Metadata;
use crate::convert::{self, FieldError, Names, Verdict};
use crate::model::{Change, Kind};

/// How long to leave a server alone that forgets faster than we can follow.
const PAUSE: Duration = Duration::from_secs(1);

/// Emits what the API server says of Services, slices and the Node called `node`, then every difference. Never ends.
pub async fn run_api(client: Client, node: &str, emit: impl Fn(Change) + Send + Sync + 'static) {
    let everything = watcher::Config::default();
    let services = Follower {
        kind: Kind::Service,
        api: Api::all_with(client.clone(), &resource("", "v1", "Service", "services")),
        filter: everything
            .clone()
            .labels("!service.kubernetes.io/service-proxy-name")
            .fields("spec.clusterIP!=None"),
        convert: convert::service,
    };
    let slices = Follower {
        kind: Kind::Slice,
        api: Api::all_with(
            client.clone(),
            &resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
        ),
        filter: everything.clone().labels("!service.kubernetes.io/headless"),
        convert: convert::slice,
    };
    let node = Follower {
        kind: Kind::Node,
        api: Api::all_with(client, &resource("", "v1", "Node", "nodes")),
        filter: everything.fields(&format!("metadata.name={node}")),
        convert: |node, _| convert::node(node),
    };
    tokio::join!(services.run(&emit), slices.run(&emit), node.run(&emit));
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// One kind to list and watch.
struct Follower<T> {
    kind: Kind,
    api: Api<Lean<T>>,
    /// Which objects of the kind.
    filter: watcher::Config,
    convert: fn(&T, &mut Names) -> Result<Verdict, FieldError>,
}

/// How a watcher is to be started after it came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// With a streaming list: the watch itself begins with all objects.
    Streaming,
    /// With a list in pages, as servers before Kubernetes 1.32 need it.
    Pages,
}

impl<T> Follower<T>
where
    T: AsRef<Metadata> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn run(self, emit: &(impl Fn(Change) + Sync)) {
        let mut record = Record::new(self.kind, self.convert);
        let mut start = Start::Streaming;
        loop {
            let config = match start {
                Start::Streaming => self.filter.clone().streaming_lists(),
                Start::Pages => self.filter.clone(),
            };
            start = self.follow(config, start, &mut record, emit).await;
        }
    }

    /// Follows one watcher until another is needed. kube's own recovers from most; it neither falls back to a list
    /// when the server has no streaming lists, nor lists again when a watch is answered with 410.
    async fn follow(
        &self,
        config: watcher::Config,
        start: Start,
        record: &mut Record<T>,
        emit: &(impl Fn(Change) + Sync),
    ) -> Start {
        let mut events = pin!(watcher(self.api.clone(), config).default_backoff());
        let mut is_listing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) if is_listing && start == Start::Streaming => {
                    debug!(kind = %self.kind, "the streaming list ended early; listing in pages");
                    return Start::Pages;
                }
                Ok(event) => {
                    is_listing =
                        matches!(event, Event::Init) || (is_listing && !matches!(event, Event::InitDone));
                    record.take(event).into_iter().for_each(emit);
                }
                Err(error) if start == Start::Streaming && refuses_streaming(&error) => {
                    info!(kind = %self.kind, "the API server has no streaming lists; listing in pages");
                    return Start::Pages;
                }
                Err(error) => {
                    let is_expired = is_expired(&error);
                    record.fail(&error);
                    if is_expired {
                        tokio::time::sleep(PAUSE).await;
                        return start;
                    }
                }
            }
        }
        start
    }
}

/// What is known of one kind, across its watchers.
struct Record<T> {
    kind: Kind,
    census: Census,
    names: Names,
    convert: fn(&T, &mut Names) -> Result<Verdict, FieldError>,
    /// The last thing that the server did was to fail.
    is_failing: bool,
}

impl<T: AsRef<Metadata>> Record<T> {
    fn new(kind: Kind, convert: fn(&T, &mut Names) -> Result<Verdict, FieldError>) -> Self {
        Self { kind, census: Census::new(kind), names: Names::default(), convert, is_failing: false }
    }

    fn take(&mut self, event: Event<Lean<T>>) -> Vec<Change> {
        if self.is_failing {
            self.is_failing = false;
            info!(kind = %self.kind, "the API server answers again");
        }
        match event {
            Event::Init => {
                self.census.begin();
                Vec::new()
            }
            Event::InitDone => self.census.end(),
            Event::InitApply(object) => self.object(&object.object, Seen::Listed).into_iter().collect(),
            Event::Apply(object) => self.object(&object.object, Seen::Changed).into_iter().collect(),
            Event::Delete(object) => self.object(&object.object, Seen::Deleted).into_iter().collect(),
        }
    }

    fn object(&mut self, object: &T, seen: Seen) -> Option<Change> {
        let key = match convert::key(self.kind, object.as_ref(), &mut self.names) {
            Ok(key) => key,
            Err(error) => {
                warn!(kind = %self.kind, %error, "ignored an object of the API server");
                return None;
            }
        };
        match seen {
            Seen::Deleted => return self.census.is_gone(key.name),
            Seen::Listed => self.census.lists(key.name.clone()),
            Seen::Changed => {}
        }
        let verdict = (self.convert)(object, &mut self.names);
        self.census.exists(key.name.clone(), verdict).unwrap_or_else(|error| {
            warn!("{key}: {error}; its last good state stays");
            None
        })
    }

    fn fail(&mut self, error: &watcher::Error) {
        if self.is_failing {
            debug!(kind = %self.kind, %error, "the API server fails still");
        } else {
            self.is_failing = true;
            warn!(kind = %self.kind, %error, "the API server fails; what it said before stands");
        }
    }
}

/// How an object was seen.
#[derive(Clone, Copy)]
enum Seen {
    Listed,
    Changed,
    Deleted,
}

/// The server does not know `sendInitialEvents`, or has the feature off (422 in Kubernetes; others answer as they
/// please). Not 401, 403 and 429, which a list would meet too.
fn refuses_streaming(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status))
        if matches!(status.code, 400 | 404 | 405 | 406 | 422 | 501))
}

/// The version to watch from is forgotten, and the server says so in place of a watch. (Said inside a watch, kube's
/// watcher lists again by itself.)
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::convert::objects::Service;
    use crate::model::ObjectName;

    fn lean(name: &str, port: i64) -> Lean<Service> {
        let object = json!({"metadata": {"name": name, "namespace": "x", "resourceVersion": "1"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": port}]}});
        serde_json::from_value(object).unwrap()
    }

    fn gone(name: &str) -> Change {
        Change::ServiceGone(ObjectName::new("x", name))
    }

    fn count_applied(changes: &[Change]) -> usize {
        changes.iter().filter(|change| matches!(change, Change::ServiceApplied(..))).count()
    }

    /// kp:A13
    #[test]
    fn a_kind_is_complete_after_its_list_and_a_later_list_takes_back_what_is_missing() {
        let mut record = Record::new(Kind::Service, convert::service);
        assert_eq!(record.take(Event::Init), []);
        assert_eq!(count_applied(&record.take(Event::InitApply(lean("a", 80)))), 1);
        assert_eq!(count_applied(&record.take(Event::InitApply(lean("b", 80)))), 1);
        assert_eq!(record.take(Event::InitDone), [Change::Complete(Kind::Service)]);
        record.take(Event::Init);
        record.take(Event::InitApply(lean("b", 80)));
        assert_eq!(record.take(Event::InitDone), [gone("a"), Change::Complete(Kind::Service)]);
        assert_eq!(record.take(Event::Delete(lean("b", 80))), [gone("b")]);
    }

    #[test]
    fn an_object_with_a_mistake_changes_nothing() {
        let mut record = Record::new(Kind::Service, convert::service);
        record.take(Event::Apply(lean("a", 80)));
        assert_eq!(record.take(Event::Apply(lean("a", 70_000))), []);
        assert_eq!(record.take(Event::Delete(lean("a", 70_000))), [gone("a")]);
    }

    #[test]
    fn only_a_refusal_of_the_streaming_list_itself_leads_to_pages() {
        let failed = |code| {
            let status = Status { code, ..Status::default() };
            watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status)))
        };
        assert!([400, 422].into_iter().all(|code| refuses_streaming(&failed(code))));
        assert!(![401, 403, 410, 429, 500, 503].into_iter().any(|code| refuses_streaming(&failed(code))));
        assert!(is_expired(&failed(410)));
        assert!(!is_expired(&watcher::Error::NoResourceVersion));
    }
}
