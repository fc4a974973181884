//! The threads of the health servers.
//!
//! They decide nothing: [`super::answer`] says what is answered, [`super::listeners`] where. They have a runtime of their own,
//! so that a probe is answered while the objects of a large cluster are read elsewhere.
//!
//! | module | what it is |
//! |---|---|
//! | `addresses` | the addresses that the node's links have, followed |
//! | `limit` | how many listeners the process has files for |
//! | `services` | one server for each Service and address |

mod addresses;
mod limit;
mod services;

use super::checks::Changes;
use super::{Pulse, answer};
use crate::http::{self, Connections, Families, StatusCode};
use crate::metrics::ProbeMeter;
use crate::nft::settings::Settings;
use crate::status::Reports;
use heddle_netlink::address::Follower;
use jiff::Timestamp;
use services::Services;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::info;

/// Connections to `/healthz` and its like at one time, and those to all Services' health checks together.
const CONNECTIONS: usize = 64;

/// Where `/healthz`, `/livez` and `/readyz` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    /// The address to listen on.
    pub address: SocketAddr,
    /// Whether the process ends when it cannot listen there; else it tries again.
    pub hard_fail: bool,
}

/// Why the health servers cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The runtime could not be made.
    #[error("start the runtime of the health servers")]
    Runtime(#[source] io::Error),
    /// The node's addresses cannot be followed.
    #[error("follow the node's addresses")]
    Addresses(#[source] heddle_netlink::Error),
    /// The address of the health server cannot be used, and that is to be fatal.
    #[error("failed to start proxier healthz on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The health servers, ready to run.
#[derive(Debug)]
pub struct Servers {
    runtime: Runtime,
    probes: Option<(SocketAddr, Option<TcpListener>)>,
    follower: Follower,
    pulse: Pulse,
    meter: ProbeMeter,
    services: Services,
}

impl Servers {
    /// Servers of what this pulse says; without probes, those of Services alone.
    ///
    /// # Errors
    /// When the kernel refuses what they cannot be without.
    pub fn new(
        probes: Option<Probes>,
        settings: &Settings,
        pulse: Pulse,
        reports: Reports,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::Runtime)?;
        let follower = Follower::open().map_err(StartError::Addresses)?;
        let inside = runtime.enter();
        let bind = |Probes { address, hard_fail }: Probes| match http::listen(address, Families::Both) {
            Ok(listener) => Ok((address, Some(listener))),
            Err(source) if hard_fail => Err(StartError::Listen { address, source }),
            Err(_) => Ok((address, None)),
        };
        let probes = probes.map(bind).transpose()?;
        drop(inside);
        let services = Services::new(settings.clone(), pulse.clone(), reports);
        Ok(Self { runtime, probes, follower, pulse, meter: ProbeMeter::default(), services })
    }

    /// The same servers, which also count what they answer.
    pub fn with_meter(self, meter: ProbeMeter) -> Self {
        Self { meter, ..self }
    }

    /// Serves until the agent is gone. The second part is to run beside it: it follows the node's addresses.
    pub fn split(self, changes: UnboundedReceiver<Changes>) -> (impl FnOnce() + Send, impl FnOnce() + Send) {
        let Self { runtime, probes, follower, pulse, meter, services } = self;
        let (tell, addresses) = unbounded_channel();
        let serve = move || {
            runtime.block_on(async {
                if let Some((address, listener)) = probes {
                    tokio::spawn(serve_probes((address, listener), pulse, meter));
                }
                services.run(changes, addresses).await;
            });
        };
        (serve, move || addresses::follow(follower, &tell))
    }
}

/// Serves the probes for ever: on the listener, or on the address as soon as that is free.
async fn serve_probes(
    (address, listener): (SocketAddr, Option<TcpListener>),
    pulse: Pulse,
    meter: ProbeMeter,
) {
    let listener = match listener {
        Some(listener) => listener,
        None => http::listen_at_last("the health server", address).await,
    };
    info!(%address, "the health server listens");
    let answer = move |request: &http::Request| {
        let response = answer::probe(request, &pulse.report(), Timestamp::now());
        meter.answer(request.uri.path(), response.status() == StatusCode::OK);
        response
    };
    http::serve(listener, Connections::at_most(CONNECTIONS), answer).await;
}
