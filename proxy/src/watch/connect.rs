//! A client for the API server, from a kubeconfig file or the pod's own credentials.
//!
//! Not a connection: nothing is sent before the first request. Which server a request goes to is decided in
//! [`servers`](super::servers). Invariant: no request waits for a silent server for ever.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use kube::Client;
use kube::client::{Body, ConfigExt};
use kube::config::KubeconfigError;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tower::util::BoxCloneService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::credentials::{Access, Credentials};
use super::servers::Servers;
use crate::metrics::RequestMeter;

/// How many lost keep-alive probes make a connection a dead one.
const PROBES: u32 = 2;
/// How much a server may send of one watch before we have read it. The objects that wait are memory, and the servers are near.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for all of a connection's watches.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Why there is no client for the API server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The kubeconfig file is of no use.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The pod's credentials are of no use.
    #[error("cannot use the credentials of the pod in {} (and no kubeconfig is given)", folder.display())]
    Pod {
        /// Where they lie.
        folder: PathBuf,
        /// What is wrong with them.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// Nothing says where the API server is.
    #[error(
        "neither --kubeconfig nor --master is given, and this is no pod (KUBERNETES_SERVICE_HOST is not set)"
    )]
    NotInPod,
    /// A file of the credentials is of no use.
    #[error("cannot read {}, which the credentials for the API server name", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The kubeconfig asks for something that we do not do.
    #[error("{}: {field} is not supported; use a token, a tokenFile or a client certificate, and a direct way to the server", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        field: &'static str,
    },
    /// The certificate that we would show does not count any more.
    #[error("{}: the client certificate expired at {end}, or this node's clock is wrong", path.display())]
    Expired {
        /// The file that names it or has it.
        path: PathBuf,
        /// When.
        end: Timestamp,
    },
    /// The server's address is of no use.
    #[error("{server:?} is not the address of an API server")]
    Server {
        /// What was given.
        server: String,
    },
    /// No client could be made of it.
    #[error("cannot make a client for the API server")]
    Client(#[source] Box<kube::Error>),
}

/// How long a server may take before it counts as lost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To take a connection.
    pub connect: Duration,
    /// To begin an answer. A busy server queues a request for less.
    pub answer: Duration,
    /// To show a sign of life on an open connection; after as long again without one, the connection is dead.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(20),
            silence: Duration::from_secs(10),
        }
    }
}

/// Makes a client from a kubeconfig file, or without one from the pod's own credentials. Nothing is sent yet. `masters`
/// are URLs separated by commas which replace the server's address: a proxy must not reach the API server through the
/// Service that it is to set up.
///
/// # Errors
/// When file, credentials or address are of no use.
pub async fn connect(kubeconfig: Option<&Path>, masters: Option<&str>) -> Result<Client, ConnectError> {
    connect_within(kubeconfig, masters, Limits::default()).await
}

/// The same, where requests are counted.
///
/// # Errors
/// As [`connect`].
pub async fn connect_counted(
    kubeconfig: Option<&Path>,
    masters: Option<&str>,
    meter: RequestMeter,
) -> Result<Client, ConnectError> {
    let servers = Servers::new(Credentials::new(kubeconfig, masters)?, Limits::default()).await?;
    Ok(Client::new(servers.with_meter(meter), "default"))
}

/// The same with other limits.
///
/// # Errors
/// As [`connect`].
pub async fn connect_within(
    kubeconfig: Option<&Path>,
    masters: Option<&str>,
    limits: Limits,
) -> Result<Client, ConnectError> {
    let servers = Servers::new(Credentials::new(kubeconfig, masters)?, limits).await?;
    Ok(Client::new(servers, "default"))
}

/// What an API server answers with.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;
/// A way to one API server.
pub(super) type Door = BoxCloneService<Request<Body>, Answer, BoxError>;

/// Makes the ways to the servers, in order. Nothing is sent yet.
///
/// # Errors
/// When certificates, keys or names are of no use.
pub(super) fn open(access: &Access, limits: Limits) -> Result<Vec<Door>, ConnectError> {
    let failed = |error| ConnectError::Client(Box::new(error));
    let connector = connector(access, limits)?;
    let http = HttpClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(limits.silence)
        .http2_keep_alive_timeout(limits.silence)
        .build::<_, Body>(connector);
    let door = |server| {
        let mut config = access.config.clone();
        config.cluster_url = server;
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .layer(config.extra_headers_layer()?)
            .map_err(BoxError::from)
            .service(http.clone());
        let service = ServiceExt::<Request<Body>>::map_response(service, |answer| {
            answer.map(|body| body.map_err(BoxError::from).boxed_unsync())
        });
        Ok(service.boxed_clone())
    };
    access.servers.iter().cloned().map(door).collect::<Result<_, _>>().map_err(failed)
}

/// HTTP/2 where the server has it, so that a ping tells a silent server from a quiet one; over what is not TLS, and to a
/// machine that is gone, the kernel's probes do.
fn connector(access: &Access, limits: Limits) -> Result<HttpsConnector<HttpConnector>, ConnectError> {
    let tls = access.config.rustls_client_config().map_err(|error| ConnectError::Client(Box::new(error)))?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(limits.connect));
    tcp.set_keepalive(Some(limits.silence));
    tcp.set_keepalive_interval(Some(limits.silence / PROBES));
    tcp.set_keepalive_retries(Some(PROBES));
    tcp.set_tcp_user_timeout(Some(2 * limits.silence));
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = &access.config.tls_server_name {
        let parsed = ServerName::try_from(name.clone());
        let parsed = parsed.map_err(|_| ConnectError::Server { server: name.clone() })?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(parsed));
    }
    Ok(builder.enable_all_versions().wrap_connector(tcp))
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_is_of_no_use_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        for text in [None, Some("clusters: 7"), Some("apiVersion: v1\nkind: Config\n")] {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            let error = connect(Some(&path), None).await.err().unwrap();
            assert_eq!(error.to_string(), format!("cannot use the kubeconfig {}", path.display()));
            assert!(error.source().is_some());
        }
    }

    #[tokio::test]
    async fn the_address_of_the_server_can_be_replaced_by_several() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
            clusters: [{name: c, cluster: {server: 'http://192.0.2.1'}}]\n\
            contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n";
        fs::write(&path, text).unwrap();
        assert!(connect(Some(&path), Some("https://192.0.2.2:6443,https://192.0.2.3:6443")).await.is_ok());
        let error = connect(Some(&path), Some("https://192.0.2.2:6443,not an address")).await.err().unwrap();
        assert_eq!(error.to_string(), "\"not an address\" is not the address of an API server");
    }
}
