//! An API server of our own: the Kubernetes HTTP API for the kinds that a node network reads, with switches to break it.
//!
//! It is what the lab's programs and an unmodified kubectl talk to. Objects live in memory, numbered as etcd numbers
//! them; lists, pages, watches, patches, conflicts and refusals are those of Kubernetes. It is not a cluster: there are no
//! controllers, no admission beyond defaults and checks and no quotas, roles bind ServiceAccounts alone, and namespaces need not
//! exist.

mod access;
mod ages;
mod answer;
mod asked;
mod checks;
mod claims;
mod discovery;
mod faults;
mod json_patch;
mod kinds;
mod openapi;
mod options;
mod patch;
mod paths;
mod read;
mod refusal;
mod request;
mod resource;
mod rights;
mod selectors;
mod serve;
mod store;
mod strategic;
mod strict;
mod tables;
mod tls;
mod verbs;
mod watch;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use access::Access;
pub use asked::Asked;
use claims::Claims;
pub use options::Options;
pub use refusal::Refusal;
use resource::Resource;
use serve::Shared;
use store::{Key, Store};
pub use strict::unknown_fields;
use tls::Authority;
pub use tls::{ClientPair, TlsError, Validity};
use verbs::{Part, Place};

/// Why the server did not start, or does not listen again.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// The listener is of no use.
    #[error("cannot use the API server's listener")]
    Listener(#[source] io::Error),
    /// There is no thread or no event loop for it.
    #[error("cannot start the API server's thread")]
    Thread(#[source] io::Error),
    /// There is no certificate.
    #[error("cannot serve TLS")]
    Tls(#[from] TlsError),
}

/// A running server. Dropping it closes every connection and ends its thread.
pub struct ApiServer {
    shared: Arc<Shared>,
    listener: TcpListener,
    /// What the listener is bound to.
    bound: SocketAddr,
    /// What clients are told.
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Serves on a listener, which may have been opened in any network namespace.
    ///
    /// # Errors
    /// If the listener has no address, or certificate or thread cannot be made.
    pub fn start(listener: TcpListener, options: Options) -> Result<Self, ApiServerError> {
        listener.set_nonblocking(true).map_err(ApiServerError::Listener)?;
        let bound = listener.local_addr().map_err(ApiServerError::Listener)?;
        let loopback: IpAddr =
            if bound.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let ip = options.advertise.unwrap_or(if bound.ip().is_unspecified() { loopback } else { bound.ip() });
        let address = SocketAddr::new(ip, bound.port());
        let names = [
            ip.to_string(),
            "127.0.0.1".into(),
            "::1".into(),
            "localhost".into(),
            "kubernetes.default.svc".into(),
        ];
        let authority = if options.plain { None } else { Some(Arc::new(Authority::new(names.to_vec())?)) };
        let token = authority.as_ref().map(|_| uuid::Uuid::new_v4().simple().to_string());
        let store =
            Store::new(Claims::new(options.service_networks, options.node_ports), options.history_limit);
        let shared = Arc::new(Shared::new(store, Access::new(token), authority, options.bookmark_interval));
        let (stop, stopped) = oneshot::channel();
        let thread = spawn(&shared, &listener, stopped)?;
        let server = Self { shared, listener, bound, address, stop: Some(stop), thread: Some(thread) };
        server.make_namespaces();
        Ok(server)
    }

    /// Another server of the same cluster on its own listener: the same objects, certificate and token, other faults.
    ///
    /// # Errors
    /// If the listener has no address, or there is no thread.
    pub fn beside(&self, listener: TcpListener) -> Result<Self, ApiServerError> {
        listener.set_nonblocking(true).map_err(ApiServerError::Listener)?;
        let bound = listener.local_addr().map_err(ApiServerError::Listener)?;
        let address = SocketAddr::new(self.address.ip(), bound.port());
        let shared = Arc::new(self.shared.replica());
        let (stop, stopped) = oneshot::channel();
        let thread = Some(spawn(&shared, &listener, stopped)?);
        Ok(Self { shared, listener, bound, address, stop: Some(stop), thread })
    }

    /// The two that every cluster has and every kubectl user expects.
    fn make_namespaces(&self) {
        for name in ["default", "kube-system"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.apply(namespace).expect("a namespace with nothing but a name is valid");
        }
    }

    /// `https://10.0.0.1:6443`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.shared.authority.is_some() { "https" } else { "http" }, self.address)
    }

    /// The bearer token that counts now; empty without TLS.
    pub fn token(&self) -> String {
        self.shared.access.token().clone().unwrap_or_default()
    }

    /// The authority's certificate, PEM; empty without TLS.
    pub fn authority(&self) -> String {
        self.shared.authority.as_ref().map(|authority| authority.pem()).unwrap_or_default()
    }

    /// A kubeconfig with everything in it. JSON, which is YAML too.
    pub fn kubeconfig(&self) -> String {
        let mut cluster = json!({"server": self.url()});
        if self.shared.authority.is_some() {
            cluster["certificate-authority-data"] = json!(STANDARD.encode(self.authority()));
        }
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "lab", "user": {"token": self.token()}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        });
        format!("{config:#}\n")
    }

    /// Creates an object, or makes it this one, status included. Returns it as stored.
    ///
    /// # Errors
    /// As the API refuses: an unknown kind, or a field that cannot be.
    pub fn apply(&self, object: Value) -> Result<Arc<Value>, Refusal> {
        let (version, kind) = (paths::text(&object, "apiVersion"), paths::text(&object, "kind"));
        let resource = resource::find_by_kind(version, kind).ok_or_else(|| {
            Refusal::bad_request(format!("no kind {kind:?} in version {version:?} is served"))
        })?;
        let (name, namespace) =
            (paths::text(&object, "metadata.name").to_owned(), namespace_of(resource, &object));
        let place = Place { resource, namespace: &namespace, name: &name, part: Part::Whole, dry_run: false };
        self.shared.write(|store| match store.get(&Key::new(resource, &namespace, &name)) {
            Some(_) => verbs::update(store, place, object),
            None => verbs::create(store, place, object),
        })
    }

    /// Stores an object as it is, without defaults and checks, like one from before a check was added or of a server with a defect;
    /// only with a uid, if it has none. Returns it as stored.
    ///
    /// # Errors
    /// `BadRequest` for an unknown kind.
    pub fn plant(&self, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let (version, kind) = (paths::text(&object, "apiVersion"), paths::text(&object, "kind"));
        let resource = resource::find_by_kind(version, kind).ok_or_else(|| {
            Refusal::bad_request(format!("no kind {kind:?} in version {version:?} is served"))
        })?;
        let key = Key::new(resource, &namespace_of(resource, &object), paths::text(&object, "metadata.name"));
        Ok(self.shared.write(|store| {
            let uid = store.get(&key).map(|old| old["metadata"]["uid"].clone());
            let uid = uid.unwrap_or_else(|| json!(uuid::Uuid::new_v4().to_string()));
            paths::set_default(&mut object, "metadata.uid", uid);
            store.commit(&key, Some(object), resource)
        }))
    }

    /// Deletes an object of a kind given by its plural, `services`. The namespace is ignored for kinds without.
    ///
    /// # Errors
    /// `NotFound` for an unknown kind or object.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> Result<Arc<Value>, Refusal> {
        let resource = resource::find_by_plural(plural).ok_or_else(Refusal::no_such_page)?;
        let place = Place { resource, namespace, name, part: Part::Whole, dry_run: false };
        self.shared.write(|store| verbs::delete(store, place, &Value::Null))
    }

    /// An object as it is now.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let resource = resource::find_by_plural(plural)?;
        self.shared.store().get(&Key::new(resource, namespace, name)).cloned()
    }

    /// All objects of a kind, in all namespaces, in order.
    pub fn list(&self, plural: &str) -> Vec<Arc<Value>> {
        let Some(resource) = resource::find_by_plural(plural) else { return Vec::new() };
        self.shared.store().find_all(resource, None).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// The number of the last change.
    pub fn revision(&self) -> u64 {
        self.shared.store().revision()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn namespace_of(resource: &Resource, object: &Value) -> String {
    let namespace = paths::text(object, "metadata.namespace");
    let namespace = if resource.namespaced && namespace.is_empty() { "default" } else { namespace };
    namespace.to_owned()
}

fn spawn(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    stopped: oneshot::Receiver<()>,
) -> Result<JoinHandle<()>, ApiServerError> {
    let listener = listener.try_clone().map_err(ApiServerError::Listener)?;
    let shared = Arc::clone(shared);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ApiServerError::Thread)?;
    let run = async move {
        tokio::select! {
            ended = serve::serve(Arc::clone(&shared), listener) => {
                tracing::error!(?ended, "the API server has stopped");
                // There is no connection left, and there will be none.
                shared.report_closed(u64::MAX);
            }
            _ = stopped => {}
        }
    };
    let thread = std::thread::Builder::new().name("apiserver".to_owned());
    thread.spawn(move || runtime.block_on(run)).map_err(ApiServerError::Thread)
}
