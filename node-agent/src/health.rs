//! Whether the kernel has what was planned, for probes.
//!
//! Not whether the plan reaches every pod: a node that cannot be reached is reported in the log, and no reason to take this
//! one away. Invariant: what a probe hears is how the last turn of the agent ended.

use heddle_proxy::http::{self, Connections, Request, Response, StatusCode};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How many probes are answered at one time.
const PROBES: usize = 16;

/// How the last turn ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// There was none: not every Node is known yet.
    #[default]
    Waiting,
    /// The kernel has all that was planned.
    Whole,
    /// It refused something, which is tried again.
    Failing,
}

/// The account that the agent keeps and probes read.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Standing>>);

impl Health {
    /// Notes how a turn ended.
    pub fn note(&self, standing: Standing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// How the last one ended.
    pub fn standing(&self) -> Standing {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a probe is answered.
    fn answer(&self, request: &Request) -> Response {
        if request.uri.path() != "/healthz" {
            return http::not_found();
        }
        let (status, text) = match self.standing() {
            Standing::Waiting => (StatusCode::SERVICE_UNAVAILABLE, "the Nodes are not all known yet\n"),
            Standing::Whole => (StatusCode::OK, "ok\n"),
            Standing::Failing => {
                (StatusCode::SERVICE_UNAVAILABLE, "the kernel refuses something: see the log\n")
            }
        };
        http::response(status, "text/plain; charset=utf-8", text)
    }
}

/// Answers probes for ever; without an address, none.
pub async fn serve(address: Option<SocketAddr>, health: Health) {
    let Some(address) = address else { return std::future::pending().await };
    let listener = http::listen_at_last("the health server", address).await;
    http::serve(listener, Connections::at_most(PROBES), move |request| health.answer(request)).await;
}
