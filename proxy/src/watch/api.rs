//! The API server as the source of objects.
//!
//! Not the state of the cluster: see `census` for what little is kept. Each kind is listed and watched on its own, by
//! streaming list where the server has that, and for ever: a server that refuses, breaks off or is away is reported
//! once and tried again, and what it said before stands. Invariant: [`Change::Complete`] of a kind comes after every
//! object of a whole list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::mem;
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
use super::reasons;
use crate::convert::objects::{Metadata, Node, ServiceCidr};
use crate::convert::{self, FieldError, Key, Names, Verdict};
use crate::model::{Change, Kind, ObjectName};
use crate::problems::{self, News, Problem};

/// How long to leave a server alone that forgets faster than we can follow.
const PAUSE: Duration = Duration::from_secs(1);
/// How long to leave a server alone that does not have the kind; it may be upgraded.
const LONG_PAUSE: Duration = Duration::from_mins(5);

/// Emits what the API server says of Services, slices and the Node called `node`, then every difference, and tells of what
/// is wrong with objects. Never ends.
pub async fn run_api(
    client: Client,
    node: &str,
    emit: impl Fn(Change) + Send + Sync + 'static,
    tell: impl Fn(News) + Send + Sync + 'static,
) {
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
    let node = nodes(client.clone(), everything.fields(&format!("metadata.name={node}")));
    let ranges = service_cidrs(client);
    let out = Out { emit: &emit, tell: &tell };
    tokio::join!(services.run(out), slices.run(out), node.run(out), ranges.run(out));
}

/// The same of all Nodes, and of nothing else. Never ends.
pub async fn run_nodes(
    client: Client,
    emit: impl Fn(Change) + Send + Sync + 'static,
    tell: impl Fn(News) + Send + Sync + 'static,
) {
    nodes(client, watcher::Config::default()).run(Out { emit: &emit, tell: &tell }).await;
}

fn nodes(client: Client, filter: watcher::Config) -> Follower<Node> {
    let api = Api::all_with(client, &resource("", "v1", "Node", "nodes"));
    Follower { kind: Kind::Node, api, filter, convert: convert::node }
}

fn service_cidrs(client: Client) -> Follower<ServiceCidr> {
    let resource = resource("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs");
    Follower {
        kind: Kind::ServiceCidr,
        api: Api::all_with(client, &resource),
        filter: watcher::Config::default(),
        convert: convert::service_cidr,
    }
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Where what is heard goes.
#[derive(Clone, Copy)]
struct Out<'a> {
    emit: &'a (dyn Fn(Change) + Sync),
    tell: &'a (dyn Fn(News) + Sync),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    async fn run(self, out: Out<'_>) {
        let mut record = Record::new(self.kind, self.convert);
        let mut start = Start::Streaming;
        loop {
            let pause;
            (start, pause) = self.follow(start, &mut record, out).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows one watcher until another is needed, and says which, and after what pause. kube's own recovers from most;
    /// it neither falls back to a list when the server has no streaming lists, nor lists again when a watch is answered
    /// with 410.
    async fn follow(&self, start: Start, record: &mut Record<T>, out: Out<'_>) -> (Start, Duration) {
        let config = match start {
            Start::Streaming => self.filter.clone().streaming_lists(),
            Start::Pages => self.filter.clone(),
        };
        let mut events = pin!(watcher(self.api.clone(), config).default_backoff());
        let mut is_listing = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) if is_listing && start == Start::Streaming => {
                    debug!(kind = %self.kind, "the streaming list ended early; listing in pages");
                    return (Start::Pages, Duration::ZERO);
                }
                Ok(event) => {
                    is_listing =
                        matches!(event, Event::Init) || (is_listing && !matches!(event, Event::InitDone));
                    record.take(event).into_iter().for_each(out.emit);
                    record.take_news().into_iter().for_each(out.tell);
                }
                Err(error) if self.kind == Kind::ServiceCidr && is_withheld(&error) => {
                    let why = reasons::of_watch(self.kind, &error);
                    record
                        .fail(format!("{why}; it is done without, and asked for again every {LONG_PAUSE:?}"));
                    return (start, LONG_PAUSE);
                }
                Err(error) if start == Start::Streaming && refuses_streaming(&error) => {
                    info!(kind = %self.kind, "the API server has no streaming lists; listing in pages");
                    return (Start::Pages, Duration::ZERO);
                }
                Err(error) => {
                    let is_expired = is_expired(&error);
                    record.fail(reasons::of_watch(self.kind, &error));
                    if is_expired {
                        return (start, PAUSE);
                    }
                }
            }
        }
        (start, Duration::ZERO)
    }
}

/// What is known of one kind, across its watchers.
struct Record<T> {
    kind: Kind,
    census: Census,
    names: Names,
    convert: fn(&T, &mut Names) -> Result<Verdict, FieldError>,
    /// Why the last thing that the server did was to fail.
    failing: Option<String>,
    /// What is wrong with each object, where something is.
    told: BTreeMap<ObjectName, BTreeSet<Problem>>,
    /// What of that is new.
    news: Vec<News>,
}

impl<T: AsRef<Metadata>> Record<T> {
    fn new(kind: Kind, convert: fn(&T, &mut Names) -> Result<Verdict, FieldError>) -> Self {
        Self {
            kind,
            census: Census::new(kind),
            names: Names::default(),
            convert,
            failing: None,
            told: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    fn take_news(&mut self) -> Vec<News> {
        mem::take(&mut self.news)
    }

    fn take(&mut self, event: Event<Lean<T>>) -> Vec<Change> {
        // A list begins before the server has answered.
        if !matches!(event, Event::Init) && self.failing.take().is_some() {
            info!(kind = %self.kind, "the API server answers again");
        }
        match event {
            Event::Init => {
                self.census.begin();
                Vec::new()
            }
            Event::InitDone => {
                let gone = |name: &&ObjectName| self.census.is_missing(name);
                let gone: Vec<ObjectName> = self.told.keys().filter(gone).cloned().collect();
                gone.iter().for_each(|name| self.tell(name, BTreeSet::new()));
                self.census.end()
            }
            Event::InitApply(lean) => self.object(&lean, Seen::Listed).into_iter().collect(),
            Event::Apply(lean) => self.object(&lean, Seen::Changed).into_iter().collect(),
            Event::Delete(lean) => self.object(&lean, Seen::Deleted).into_iter().collect(),
        }
    }

    fn object(&mut self, lean: &Lean<T>, seen: Seen) -> Option<Change> {
        let key = match convert::key(self.kind, lean.as_ref(), &mut self.names) {
            Ok(key) => key,
            Err(error) => {
                warn!(kind = %self.kind, %error, "ignored an object of the API server");
                if matches!(seen, Seen::Listed) {
                    self.census.lists_nameless();
                }
                return None;
            }
        };
        match seen {
            Seen::Deleted => {
                self.tell(&key.name, BTreeSet::new());
                return self.census.is_gone(key.name);
            }
            Seen::Listed => self.census.lists(key.name.clone()),
            Seen::Changed => {}
        }
        let read = lean.object.as_ref().map_err(|unreadable| unreadable.error.clone());
        match read.and_then(|object| (self.convert)(object, &mut self.names)) {
            Ok(verdict) => {
                self.tell(&key.name, problems(&key, &verdict));
                self.census.exists(key.name, verdict)
            }
            Err(error) => {
                self.tell(&key.name, [Problem::refused(&key, &error)].into());
                None
            }
        }
    }

    /// Notes what is wrong with an object now. It comes again with each list, and with each change of something else in it.
    fn tell(&mut self, name: &ObjectName, problems: BTreeSet<Problem>) {
        let before = self.told.remove(name).unwrap_or_default();
        self.news.extend(problems::between(&before, &problems));
        if !problems.is_empty() {
            self.told.insert(name.clone(), problems);
        }
    }

    /// Says what is wrong with the server, once until that changes.
    fn fail(&mut self, why: String) {
        if self.failing.as_ref() == Some(&why) {
            debug!(kind = %self.kind, "the API server fails still: {why}");
        } else {
            warn!(kind = %self.kind, "the API server fails; what it said before stands: {why}");
            self.failing = Some(why);
        }
    }
}

fn problems(key: &Key, verdict: &Verdict) -> BTreeSet<Problem> {
    match verdict {
        Verdict::Ours(_, passed_over) => {
            passed_over.iter().map(|error| Problem::passed_over(key, error)).collect()
        }
        Verdict::Stray(error) => [Problem::stray(key, error)].into(),
        Verdict::Ignored(_) => BTreeSet::new(),
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

/// The server does not have the kind, or we may not see it.
fn is_withheld(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::InitialListFailed(kube::Error::Api(status)) if matches!(status.code, 403 | 404))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use kube::core::Status;
    use serde_json::json;

    use super::*;
    use crate::convert::objects::Service;

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
    fn an_object_of_another_shape_keeps_its_last_good_state_until_it_is_deleted() {
        let mut record = Record::new(Kind::Service, convert::service);
        record.take(Event::Apply(lean("a", 80)));
        let bad = || -> Lean<Service> {
            let object = json!({"metadata": {"name": "a", "namespace": "x"}, "spec": {"ports": "80"}});
            serde_json::from_value(object).unwrap()
        };
        assert_eq!(record.take(Event::Apply(bad())), []);
        let news = record.take_news();
        assert!(
            matches!(&news[..], [News::Began(problem)] if problem.text.starts_with("spec.ports: ")),
            "{news:?}"
        );
        record.take(Event::Init);
        assert_eq!(record.take(Event::InitApply(bad())), []);
        assert_eq!(record.take(Event::InitDone), [Change::Complete(Kind::Service)]);
        assert_eq!(record.take_news(), []);
        assert_eq!(record.take(Event::Delete(bad())), [gone("a")]);
        assert!(matches!(record.take_news()[..], [News::Ended(_)]));
    }

    #[tokio::test]
    async fn a_server_that_does_not_have_the_ranges_of_services_is_asked_for_them_rarely() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let server = tower::service_fn(move |request: Request<Body>| {
            assert_eq!(request.uri().path(), "/apis/networking.k8s.io/v1/servicecidrs");
            count.fetch_add(1, Ordering::Relaxed);
            let answer = Response::builder().status(404).body(Body::from(b"404 page not found\n".to_vec()));
            async { Ok::<_, Infallible>(answer.unwrap()) }
        });
        let follower = service_cidrs(Client::new(server, "default"));
        let mut record = Record::new(Kind::ServiceCidr, convert::service_cidr);
        for times in 1..=2 {
            let out = Out { emit: &|change| panic!("{change:?}"), tell: &|news| panic!("{news:?}") };
            let next = follower.follow(Start::Streaming, &mut record, out).await;
            assert_eq!(next, (Start::Streaming, LONG_PAUSE));
            assert_eq!(asked.load(Ordering::Relaxed), times);
        }
    }

    #[test]
    fn a_list_that_only_begins_is_no_answer() {
        let mut record = Record::new(Kind::Service, convert::service);
        record.fail("it is away".to_owned());
        record.take(Event::Init);
        assert!(record.failing.is_some());
        record.take(Event::InitDone);
        assert!(record.failing.is_none());
    }

    #[test]
    fn a_mistake_is_news_once_until_the_object_is_corrected_or_goes() {
        let mut record = Record::new(Kind::Service, convert::service);
        let mut news = |event| {
            record.take(event);
            let texts = record.take_news().into_iter().map(|news| match news {
                News::Began(problem) => format!("+ {problem}"),
                News::Ended(problem) => format!("- {problem}"),
            });
            texts.collect::<Vec<_>>()
        };
        let text = |port: i64| {
            format!(
                "Service x/a: spec.ports[0].port: {port} is not a port (1-65535); its last good state stays"
            )
        };
        let (began, ended) = (format!("+ {}", text(70_000)), format!("- {}", text(70_000)));
        assert_eq!(news(Event::Apply(lean("a", 70_000))), [&*began]);
        assert_eq!(news(Event::Apply(lean("a", 70_000))), [""; 0]);
        assert_eq!(news(Event::Apply(lean("a", 70_001))), [format!("+ {}", text(70_001)), ended.clone()]);
        assert_eq!(news(Event::Apply(lean("a", 80))), [format!("- {}", text(70_001))]);
        assert_eq!(news(Event::Apply(lean("a", 70_000))), [&*began]);
        assert_eq!(news(Event::Delete(lean("a", 70_000))), [&*ended]);
        assert_eq!(news(Event::Apply(lean("a", 70_000))), [&*began]);
        assert_eq!(news(Event::Init), [""; 0]);
        assert_eq!(news(Event::InitDone), [&*ended], "a list that leaves it out");
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
        assert!([403, 404].into_iter().all(|code| is_withheld(&failed(code))));
        assert!(![400, 401, 410, 500, 503].into_iter().any(|code| is_withheld(&failed(code))));
    }
}
