//! Starts the parts, connects them, and waits for the end.
//!
//! Threads: the agent, the listener for outside damage, the one that forgets UDP flows, the health servers with the one that
//! follows the node's addresses, and this one, where the source of objects, the signals and the configuration's changes are; the
//! watches that block, of manifests and of the configuration file, have one each. Stopping leaves the rules standing.

mod prepare;
mod reload;
mod remove;

pub use self::prepare::{init, write_config};
pub use self::remove::cleanup;

use crate::agent::{Agent, Event};
use crate::config::{CommandLine, Config, Source};
use crate::conntrack::{Forgetter, Outbox, Tracked};
use crate::events;
use crate::health::servers::{Servers, StartError};
use crate::health::{self, Health, Pulse};
use crate::logging::Verbosity;
use crate::look::socket::{self, Door};
use crate::look::status::Process;
use crate::nft::{Attended, Netlink, Nft};
use crate::problems::News;
use crate::status::{self, Report, Reports};
use crate::tuning::Unset;
use crate::watch;
use heddle_netlink::nft::{Heard, Listener};
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::time::Instant;
use std::{io, thread};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

/// Why heddle-proxy ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// nf_tables cannot be used.
    #[error("open nf_tables (is the kernel built with it, and has the process CAP_NET_ADMIN?)")]
    Kernel(#[source] heddle_netlink::Error),
    /// A thread, a signal handler or the runtime could not be set up.
    #[error("start {what}")]
    Start {
        /// Which part.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The folder of manifests cannot be used.
    #[error(transparent)]
    Manifests(#[from] watch::ManifestsError),
    /// The API server cannot be addressed.
    #[error(transparent)]
    Connect(#[from] watch::ConnectError),
    /// The configuration file changed in what counts only at the start.
    #[error("the configuration file changed: {fields}; this counts at the next start")]
    Configuration {
        /// What changed.
        fields: String,
    },
    /// The configuration file cannot be watched.
    #[error(transparent)]
    Watch(#[from] watch::FileError),
    /// The configuration could not be written.
    #[error("write the configuration to {}", path.display())]
    WriteConfig {
        /// Where to.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A limit of the kernel's that was to be set before everything else is not.
    #[error(transparent)]
    Tune(Unset),
    /// Something that was to be removed is still there.
    #[error("{left} of what was to be removed is still there, as said above")]
    Cleanup {
        /// How much.
        left: usize,
    },
    /// The health servers cannot be started.
    #[error(transparent)]
    Health(#[from] StartError),
    /// A part ended that never should.
    #[error("{0} ended")]
    Ended(&'static str),
}

/// Runs until a signal comes or a part fails for good.
///
/// # Errors
/// What could not be started, or ended, or that the configuration changed.
pub fn run(config: &Config, line: &CommandLine, verbosity: Verbosity) -> Result<(), RunError> {
    let kernel = Netlink::open().map_err(RunError::Kernel)?;
    prepare::tune_as_far_as_possible(config);
    // Before the first read-back, so that no damage falls between the two.
    let listener = Listener::open().map_err(RunError::Kernel)?;
    let (events, inbox) = mpsc::channel();
    let own_port = kernel.port();
    let (outbox, changes) = mpsc::channel();
    let mut forgetter = Forgetter::new(Tracked::open().map_err(RunError::Kernel)?, &config.settings);
    let pulse = Pulse::new(Health::new(config.sync_period), Instant::now);
    let kernel = Attended::new(kernel, pulse.clone());
    let agent = Agent::new(&config.node, Nft::new(kernel, &config.settings)).with_pulse(pulse.clone());
    let (reports, told) = unbounded_channel();
    let reports = Reports::new(reports);
    let (checks, checked) = unbounded_channel();
    let agent = agent.with_checks(health::Outbox::new(&config.node, checks));
    let agent = agent.with_outbox(Outbox::new(outbox)).with_reports(reports.clone());
    let (standing, stands) = mpsc::channel();
    let mut agent = agent
        .with_node_address(config.node_address)
        .with_standing(standing)
        .with_external_ips(config.serves_external_ips);
    info!(node = config.node, source = ?config.source, "heddle-proxy {}", env!("CARGO_PKG_VERSION"));
    let servers = Servers::new(config.probes, &config.settings, pulse, reports.clone())?;
    remove::mind_kube_proxy(config.replaces_kube_proxy, stands)?;
    let (serve_health, follow_addresses) = servers.split(checked);
    spawn("health", serve_health)?;
    spawn("addresses", follow_addresses)?;
    spawn("agent", move || agent.run(&inbox))?;
    spawn("conntrack", move || forgetter.run(&changes))?;
    let doubts = events.clone();
    spawn("listener", move || listen(listener, own_port, &doubts))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| RunError::Start { what: "the runtime", source })?;
    let door = door(config, events.clone(), reports.clone());
    runtime.block_on(async {
        let (news, to_post) = unbounded_channel();
        let posts = Posts { reports, to_post };
        tokio::select! {
            ended = serve(config, events, posts) => ended,
            () = look(config, &door) => Err(RunError::Ended("the status socket")),
            () = status::keep(told, news) => Err(RunError::Ended("the status")),
            ended = reload::follow(config.clone(), line, verbosity) => ended,
        }
    })
}

fn door(config: &Config, agent: Sender<Event>, reports: Reports) -> Door {
    let mode = "nftables".to_owned();
    let process = Process { node: config.node.clone(), mode, started: Timestamp::now() };
    Door { agent, reports, settings: config.settings.clone(), process }
}

/// Answers questions, unless nobody may ask.
async fn look(config: &Config, door: &Door) {
    match &config.status_socket {
        Some(path) => socket::serve(path, door).await,
        None => std::future::pending().await,
    }
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(|source| RunError::Start { what: name, source })
}

/// Where the source tells of problems, and what of them is to be said in the cluster.
struct Posts {
    reports: Reports,
    to_post: UnboundedReceiver<News>,
}

/// Waits for the source to fail or for a signal.
async fn serve(config: &Config, agent: Sender<Event>, posts: Posts) -> Result<(), RunError> {
    let start = |source| RunError::Start { what: "the signal handlers", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(start)?;
    let emit = move |change| {
        // The agent is gone only when the process is about to be.
        let _ = agent.send(Event::Change(change));
    };
    let Posts { reports, to_post } = posts;
    let tell = move |news| reports.tell(Report::Problem(news));
    let source = async {
        match &config.source {
            Source::Manifests(folder) => {
                follow_manifests(folder.clone(), config.node.clone(), emit, tell).await
            }
            Source::ApiServer { kubeconfig, master } => {
                let client = watch::connect(kubeconfig.as_deref(), master.as_deref()).await?;
                tokio::join!(
                    watch::run_api(client.clone(), &config.node, emit, tell),
                    events::post(client, &config.node, to_post)
                );
                Err(RunError::Ended("the API server's watch"))
            }
        }
    };
    tokio::select! {
        ended = source => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// The folder's watch blocks, so it has a thread; this waits for its failure.
async fn follow_manifests(
    folder: PathBuf,
    node: String,
    emit: impl Fn(crate::model::Change) + Send + 'static,
    tell: impl Fn(News) + Send + 'static,
) -> Result<(), RunError> {
    let (failed, failure) = oneshot::channel();
    spawn("manifests", move || {
        let Err(error) = watch::run_manifests(&folder, &node, emit, tell);
        // Nobody waits for it any more when a signal came first.
        let _ = failed.send(error);
    })?;
    failure.await.map_or(Err(RunError::Ended("the manifests' watch")), |error| Err(error.into()))
}

/// Tells the agent of every change that somebody else makes to our tables.
fn listen(mut listener: Listener, own_port: u32, events: &Sender<Event>) {
    loop {
        let doubt = match listener.next(own_port) {
            Ok(Heard::Changed(tables)) => tables.iter().any(|(_, name)| name == crate::nft::ruleset::TABLE),
            Ok(Heard::Lost) => {
                debug!("nftables notifications were lost; the table is compared");
                true
            }
            Err(error) => {
                warn!("outside changes are not heard any more: {error}");
                return;
            }
        };
        if doubt && events.send(Event::Doubt).is_err() {
            return;
        }
    }
}
