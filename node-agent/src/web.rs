//! What is answered over HTTP: probes at one address, metrics at another, or both at one.
//!
//! Not what: see [`health`] and [`metrics`](crate::metrics). Nobody has to show who they are, so nothing here is secret.

use crate::board::Board;
use crate::health;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::view::View;
use heddle_proxy::http::{self, Connections, Request, Response};
use heddle_proxy::metrics::scrape::exposition;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where metrics are unless somebody says otherwise.
pub const METRICS: &str = "127.0.0.1:10271";
/// How many may ask one address at one time.
const CONNECTIONS: usize = 16;

/// What is known to answer with.
#[derive(Debug)]
pub struct Web {
    /// What the agent believes.
    pub views: Board<View>,
    /// Whether it goes on.
    pub pulse: Pulse,
    /// What is counted.
    pub metrics: Metrics,
}

/// What one address answers.
#[derive(Clone, Copy, Debug)]
struct Answers {
    probes: bool,
    metrics: bool,
}

impl Web {
    /// Answers for ever: probes here, and metrics there, which may be the same; without an address, none.
    pub async fn serve(self, probes: Option<SocketAddr>, metrics: Option<SocketAddr>) {
        let web = Arc::new(self);
        let first = Answers { probes: true, metrics: metrics == probes };
        let apart = metrics.filter(|_| metrics != probes);
        let second = Answers { probes: false, metrics: true };
        tokio::join!(
            serve_at("the health server", probes, (web.clone(), first)),
            serve_at("the metrics server", apart, (web, second))
        );
    }

    fn answer(&self, request: &Request, answers: Answers) -> Response {
        match request.uri.path() {
            "/metrics" if answers.metrics => exposition(request, self.metrics.open_metrics()),
            path if answers.probes => {
                let (view, stuck) = (self.views.now().value, self.pulse.stuck());
                health::answer(path, &view, stuck).unwrap_or_else(http::not_found)
            }
            _ => http::not_found(),
        }
    }
}

async fn serve_at(what: &str, address: Option<SocketAddr>, (web, answers): (Arc<Web>, Answers)) {
    let Some(address) = address else { return std::future::pending().await };
    let listener = http::listen_at_last(what, address).await;
    let answer = move |request: &Request| web.answer(request, answers);
    http::serve(listener, Connections::at_most(CONNECTIONS), answer).await;
}
