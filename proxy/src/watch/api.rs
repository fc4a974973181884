//! The API server as the source of objects.
//!
//! Not what it says: see `record` and `census` for what is made of that, and what little is kept. Each kind is listed and watched on its own, by
//! streaming list where the server has that, and for ever: a server that refuses, breaks off or is away is reported
//! once and tried again, and what it said before stands. Invariant: [`Change::Complete`] of a kind comes after every
//! object of a whole list, or where the server refuses to list pods.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tracing::{debug, info};

use super::lean::Lean;
use super::reasons;
use super::record::Record;
use super::scope::Scope;
use crate::convert::objects::{Metadata, Node, Pod, ServiceCidr};
use crate::convert::{self, FieldError, LABEL, Names, OFF, Verdict};
use crate::model::{Change, Kind};
use crate::problems::News;

/// How long to leave a server alone that forgets faster than we can follow.
const PAUSE: Duration = Duration::from_secs(1);
/// How long to leave a server alone that does not have the kind; it may be upgraded.
const LONG_PAUSE: Duration = Duration::from_mins(5);

/// Emits what the API server says of Services, slices and what else it is asked for, then every difference, and tells of what
/// is wrong with objects. Never ends.
pub async fn run_api<'a>(
    client: Client,
    scope: impl Into<Scope<'a>>,
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
    let Scope { node, pods } = scope.into();
    let filter = node
        .map_or_else(watcher::Config::default, |node| everything.fields(&format!("metadata.name={node}")));
    let pods = node.filter(|_| pods).map(|node| pods_left_out(client.clone(), node));
    let node = nodes(client.clone(), filter);
    let ranges = service_cidrs(client);
    let out = Out { emit: &emit, tell: &tell };
    let pods = async {
        if let Some(pods) = pods {
            pods.run(out).await;
        }
    };
    tokio::join!(services.run(out), slices.run(out), node.run(out), ranges.run(out), pods);
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

/// A node without such pods is told of none, and of no change of the others.
fn pods_left_out(client: Client, node: &str) -> Follower<Pod> {
    let filter =
        watcher::Config::default().labels(&format!("{LABEL}={OFF}")).fields(&format!("spec.nodeName={node}"));
    let api = Api::all_with(client, &resource("", "v1", "Pod", "pods"));
    Follower { kind: Kind::Pod, api, filter, convert: convert::pod }
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
                Err(error) if is_dispensable(self.kind) && is_withheld(&error) => {
                    let why = reasons::of_watch(self.kind, &error);
                    record
                        .fail(format!("{why}; it is done without, and asked for again every {LONG_PAUSE:?}"));
                    if self.kind == Kind::Pod {
                        // Nobody is to wait for them; what was said before stands.
                        (out.emit)(Change::Complete(Kind::Pod));
                    }
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

/// A kind that is done without where the server has it not, or not for us.
fn is_dispensable(kind: Kind) -> bool {
    matches!(kind, Kind::ServiceCidr | Kind::Pod)
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

    use super::*;

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

    #[tokio::test]
    async fn nobody_waits_for_pods_that_the_server_does_not_show() {
        let server = tower::service_fn(|request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            for part in ["labelSelector=heddle.dev%2Fsockets%3Doff", "fieldSelector=spec.nodeName%3Dnode-a"] {
                assert!(query.contains(part), "{query}");
            }
            let status =
                br#"{"kind": "Status", "status": "Failure", "code": 403, "message": "pods is forbidden"}"#;
            let answer = Response::builder().status(403).body(Body::from(status.to_vec()));
            async { Ok::<_, Infallible>(answer.unwrap()) }
        });
        let follower = pods_left_out(Client::new(server, "default"), "node-a");
        let mut record = Record::new(Kind::Pod, convert::pod);
        let heard = std::sync::Mutex::new(Vec::new());
        let emit = |change| heard.lock().unwrap().push(change);
        let out = Out { emit: &emit, tell: &|news| panic!("{news:?}") };
        let next = follower.follow(Start::Streaming, &mut record, out).await;
        assert_eq!(next, (Start::Streaming, LONG_PAUSE));
        assert_eq!(*heard.lock().unwrap(), [Change::Complete(Kind::Pod)]);
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
