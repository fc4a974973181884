//! Starts the parts, connects them, and waits for the end.
//!
//! | thread | what it does |
//! |---|---|
//! | agent | [`Agent::run`] |
//! | conntrack | forgets UDP flows |
//! | listener | `damage`: hears who else changes our tables |
//! | sockets, node addresses | `sockets`: tries out whether sockets are served; follows the node's addresses |
//! | health, addresses | `health`: answers probes; follows the node's addresses |
//! | metrics | `metrics`: answers scrapes |
//! | standing | `standing`: what waits for the first rules: kube-proxy's, when they are to go, and late limits |
//! | this one | tasks: `source`, `look`, `reload`, the account of problems, the signals |
//!
//! The watches that block, of manifests and of the configuration file, have one each. Stopping leaves the rules standing.

mod damage;
mod error;
mod failure;
mod health;
mod look;
mod metrics;
mod prepare;
mod reload;
mod remove;
mod sockets;
mod source;
mod standing;

pub use self::error::{KernelError, RunError, ServerError};
pub use self::prepare::{init, write_config};
pub use self::remove::cleanup;

use self::source::Posts;
use crate::agent::Agent;
use crate::config::{CommandLine, Config};
use crate::conntrack::{Forgetter, Outbox, Tracked};
use crate::dataplane::Dataplane;
use crate::ebpf::Sockets;
use crate::frontends::IpFamily;
use crate::health::{Health, Outbox as Checks, Pulse};
use crate::logging::Verbosity;
use crate::metrics::Metrics;
use crate::model::Protocol;
use crate::nft::{Attended, Netlink, Nft, ruleset};
use crate::process::{ProcessError, spawn, stopped};
use crate::status::{self, Reports};
use heddle_netlink::nft::Listener;
use jiff::Timestamp;
use std::sync::mpsc;
use std::time::Instant;
use tokio::sync::mpsc::unbounded_channel;
use tracing::info;

/// Runs until a signal comes or a part fails for good.
///
/// # Errors
/// What could not be started, or ended, or that the configuration changed.
pub fn run(config: &Config, line: &CommandLine, verbosity: Verbosity) -> Result<(), RunError> {
    let mut kernel = Netlink::open().map_err(KernelError::Open)?;
    let families = prepare::routable(&mut kernel)?;
    let tunes_again = prepare::tune_as_far_as_possible(config);
    // Before the first read-back, so that no damage falls between the two.
    let listener = Listener::open().map_err(KernelError::Open)?;
    listener.ignore(kernel.port()).map_err(KernelError::Open)?;
    let (events, inbox) = mpsc::channel();
    let mut counted = Metrics::new(Timestamp::now());
    if config.settings.counts_connections {
        counted.count_connections(events.clone(), &families);
    }
    let at_sockets = Sockets::default();
    if config.serves_sockets {
        counted.tell_of_sockets(at_sockets.clone(), events.clone());
    }
    let kernel = kernel.unheard_by(listener.ears(), damage::doubt(&events));
    let (outbox, changes) = mpsc::channel();
    let forgetter =
        Forgetter::new(Tracked::open().map_err(KernelError::Open)?, Protocol::Udp, &config.settings);
    let mut forgetter = forgetter.with_meter(counted.conntrack.clone());
    let routed: Vec<IpFamily> = families.iter().copied().map(ruleset::ip_family).collect();
    let pulse = Pulse::new(Health::new(config.sync_period).of_families(&routed), Instant::now);
    let kernel = Attended::new(kernel, pulse.clone());
    let nft = Nft::of_families(kernel, &config.settings, &families);
    let plane = sockets::over(nft, config, (&events, &at_sockets))?;
    let agent = Agent::new(&config.node, plane).with_pulse(pulse.clone());
    let (reports, to_keep) = unbounded_channel();
    let reports = Reports::new(reports);
    let (checks, checked) = unbounded_channel();
    let agent = agent.with_checks(Checks::new(&config.node, checks).of_families(&routed));
    let told = sockets::close_stale(config)?;
    let agent = agent
        .with_outbox(Outbox::new([(Protocol::Udp, outbox)].into_iter().chain(told).collect()))
        .with_reports(reports.clone());
    let agent = agent.with_meter(counted.agent.clone());
    let (standing, stands) = mpsc::channel();
    let mut agent = as_configured(agent, config).with_standing(standing);
    info!(node = config.node, source = ?config.source, "heddle-proxy {}", env!("CARGO_PKG_VERSION"));
    let (problems, requests) = (counted.problems.clone(), counted.requests.clone());
    health::start(config, (pulse.clone(), counted.probes.clone()), reports.clone(), checked)?;
    metrics::start(config, &verbosity, counted)?;
    standing::wait(config, tunes_again, stands)?;
    spawn("agent", move || agent.run(&inbox))?;
    spawn("conntrack", move || forgetter.run(&changes))?;
    let doubts = events.clone();
    spawn("listener", move || damage::listen(listener, &doubts))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ProcessError::of("the runtime"))?;
    let door = look::door(config, events.clone(), reports.clone(), (pulse, &at_sockets));
    runtime.block_on(async {
        let (news, to_post) = unbounded_channel();
        let posts = Posts { requests, reports, to_post };
        tokio::select! {
            ended = source::follow(config, events, posts) => ended,
            ended = stopped() => Ok(ended?),
            () = look::serve(config, &door) => Err(RunError::Ended("the status socket")),
            () = status::keep(to_keep, news, problems) => Err(RunError::Ended("the status")),
            ended = reload::follow(config.clone(), line, verbosity) => ended,
        }
    })
}

/// The agent with what it has from the configuration alone.
fn as_configured<D: Dataplane>(agent: Agent<D>, config: &Config) -> Agent<D> {
    agent
        .with_node_address(config.node_address)
        .with_pods(config.serves_sockets)
        .with_external_ips(config.serves_external_ips)
        .following_tcp(config.closes_stale_tcp())
}
