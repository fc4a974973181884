//! Whether the kernel has what was planned, for probes.
//!
//! Not whether the plan reaches every pod: a node that cannot be reached is reported in the log, and no reason to take this
//! one away. Invariant: what a probe hears is how the last turn of the agent ended.

use crate::board::Board;
use crate::view::{Standing, View};
use heddle_proxy::http::{self, Connections, Request, Response, StatusCode};
use std::net::SocketAddr;

/// How many probes are answered at one time.
const PROBES: usize = 16;

/// What a probe is answered.
fn answer(request: &Request, standing: Standing) -> Response {
    if request.uri.path() != "/healthz" {
        return http::not_found();
    }
    let (status, text) = match standing {
        Standing::Waiting => (StatusCode::SERVICE_UNAVAILABLE, "the Nodes are not all known yet\n"),
        Standing::Whole => (StatusCode::OK, "ok\n"),
        Standing::Failing => (StatusCode::SERVICE_UNAVAILABLE, "the kernel refuses something: see the log\n"),
    };
    http::response(status, "text/plain; charset=utf-8", text)
}

/// Answers probes for ever; without an address, none.
pub async fn serve(address: Option<SocketAddr>, views: Board<View>) {
    let Some(address) = address else { return std::future::pending().await };
    let listener = http::listen_at_last("the health server", address).await;
    let answer = move |request: &Request| answer(request, views.now().value.standing);
    http::serve(listener, Connections::at_most(PROBES), answer).await;
}
