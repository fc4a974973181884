//! The metrics port: kube-proxy's paths on `metricsBindAddress`, for those on its host.
//!
//! Nobody has to show who they are, as in kube-proxy, so nothing here is secret, and nothing changes but how much is
//! logged, and that only where profiling is enabled. What only root may know is behind the status socket.

use super::scrape::{encode, exposition};
use super::{Label, Metrics, pages};
use crate::config::Config;
use crate::http::{self, Body, Connections, Families, Request, Response, StatusCode};
use crate::logging::Verbosity;
use hyper::Method;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tracing::info;

/// So many may ask at one time.
const CONNECTIONS: usize = 64;
const PLAIN: &str = "text/plain; charset=utf-8";
const PATHS: [&str; 7] =
    ["/configz", "/flagz", "/healthz", "/metrics", "/metrics/slis", "/proxyMode", "/statusz"];

/// Everything that is answered.
#[derive(Debug)]
pub struct Port {
    metrics: Metrics,
    /// Metrics of `/healthz` itself, for objectives of service levels.
    slis: Registry,
    pings: Counter,
    started: Timestamp,
    mode: &'static str,
    configz: String,
    flagz: String,
    /// With profiling, it can be set from outside.
    verbosity: Option<Verbosity>,
}

impl Port {
    /// The answers of a process that started then, with this configuration.
    pub fn new(metrics: Metrics, config: &Config, verbosity: Verbosity, started: Timestamp) -> Self {
        let (slis, pings) = slis();
        Self {
            metrics,
            slis,
            pings,
            started,
            mode: config.mode(),
            configz: pages::configz(config),
            flagz: pages::flagz(config),
            verbosity: config.file.enable_profiling.then_some(verbosity),
        }
    }

    fn answer(&self, request: &Request) -> Response {
        let plain = |body: String| http::response(StatusCode::OK, PLAIN, body);
        match request.uri.path() {
            "/metrics" => exposition(request, self.metrics.open_metrics()),
            "/metrics/slis" => exposition(request, encode(&self.slis)),
            "/healthz" => {
                self.pings.inc();
                plain("ok".to_owned())
            }
            "/proxyMode" => plain(self.mode.to_owned()),
            "/configz" => http::response(StatusCode::OK, "application/json", self.configz.clone()),
            "/flagz" => plain(self.flagz.clone()),
            "/statusz" => plain(pages::statusz(self.started, Timestamp::now(), &PATHS)),
            "/debug/flags/v" => {
                self.verbosity.as_ref().map_or_else(http::not_found, |verbosity| set(verbosity, request))
            }
            _ => http::not_found(),
        }
    }
}

fn slis() -> (Registry, Counter) {
    let mut registry = Registry::default();
    let healthy = Family::<[Label; 2], Gauge>::default();
    healthy.get_or_create(&[("name", "ping"), ("type", "healthz")]).set(1);
    registry.register("kubernetes_healthcheck", "1 where a health check last passed", healthy);
    let checks = Family::<[Label; 3], Counter>::default();
    let pings = checks.get_or_create_owned(&[("name", "ping"), ("status", "success"), ("type", "healthz")]);
    registry.register("kubernetes_healthchecks", "Health checks by their outcome", checks);
    (registry, pings)
}

fn set(verbosity: &Verbosity, request: &Request) -> Response {
    if request.method != Method::PUT {
        return http::response(StatusCode::NOT_ACCEPTABLE, PLAIN, "unsupported http method");
    }
    let body = request.extensions.get::<Body>().map(|Body(bytes)| bytes.as_ref()).unwrap_or_default();
    let text = String::from_utf8_lossy(body);
    match text.trim().parse() {
        Ok(level) => {
            verbosity.set(level);
            info!(level, "somebody changed how much is logged, by the metrics port");
            let done = format!("successfully set klog.logging.verbosity to {level}");
            http::response(StatusCode::OK, PLAIN, done)
        }
        Err(error) => {
            let why = format!("failed set klog.logging.verbosity {text:?}: {error}");
            http::response(StatusCode::BAD_REQUEST, PLAIN, why)
        }
    }
}

/// Where to listen, and the listener if the address could be had.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    listener: Option<TcpListener>,
}

impl Bound {
    /// Tries the address once.
    ///
    /// # Errors
    /// When it cannot be had and that is to be fatal.
    pub fn try_new(address: SocketAddr, hard_fail: bool) -> io::Result<Self> {
        match http::listen(address, Families::Both) {
            Ok(listener) => Ok(Self { address, listener: Some(listener) }),
            Err(error) if hard_fail => Err(error),
            Err(_) => Ok(Self { address, listener: None }),
        }
    }

    /// Answers for ever, as soon as the address can be had.
    pub async fn serve(self, port: Port) {
        let listener = match self.listener {
            Some(listener) => listener,
            None => http::listen_at_last("the metrics server", self.address).await,
        };
        info!(address = %self.address, "the metrics server listens");
        let port = Arc::new(port);
        http::serve(listener, Connections::at_most(CONNECTIONS), move |request| port.answer(request)).await;
    }
}
