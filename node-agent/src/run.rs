//! Starts the parts, connects them, and waits for the end; or removes what they left.
//!
//! | thread | what it does |
//! |---|---|
//! | agent | [`Agent::run`] |
//! | network, tables | hear what others change |
//! | supply, and more | what [`supply`] says |
//! | this one | the API server's watch, what is said in the cluster, probes and scrapes, questions, the signals; the folder's watch has its own |
//!
//! Stopping leaves routes and tables standing: pods go on.

use crate::agent::{Agent, Event};
use crate::board::Board;
use crate::condition::{self, Sieve};
use crate::config::{Config, Source};
use crate::diff::diff;
use crate::events;
use crate::kernel::{Failure, Kernel, Netlink};
use crate::listen::{Network, listen_to_tables};
use crate::look::Door;
use crate::look::status::Process;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::pulse::{Attended, Pulse};
use crate::supply;
use crate::view::View;
use crate::web::Web;
use heddle_netlink::nft::Listener;
use heddle_proxy::causes;
use heddle_proxy::convert::Key;
use heddle_proxy::events::post;
use heddle_proxy::metrics::RequestMeter;
use heddle_proxy::model::{Change, Kind};
use heddle_proxy::problems::{News, Subject};
use heddle_proxy::process::{ProcessError, spawn, stopped};
use heddle_proxy::watch::{self, Manifests};
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// Why heddle-node ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel cannot be spoken to.
    #[error("open netlink (is the kernel built with nf_tables, and has the process CAP_NET_ADMIN?)")]
    Open(#[source] heddle_netlink::Error),
    /// A thread, a signal handler or the runtime could not be set up.
    #[error(transparent)]
    Start(#[from] ProcessError),
    /// The folder of manifests cannot be used.
    #[error(transparent)]
    Manifests(#[from] watch::ManifestsError),
    /// The API server cannot be addressed.
    #[error(transparent)]
    Connect(#[from] watch::ConnectError),
    /// A part ended that never should.
    #[error("{0} ended")]
    Ended(&'static str),
    /// What was to be removed could not be read.
    #[error(transparent)]
    Look(Failure),
    /// What was to be removed is still there.
    #[error("{left} of what was to be removed is still there, as said above")]
    Left {
        /// How much.
        left: usize,
    },
}

/// Runs until a signal comes or a part fails for good.
///
/// # Errors
/// What could not be started, or ended.
pub fn run(config: &Config) -> Result<(), RunError> {
    info!(node = %config.settings.node, source = ?config.source, "heddle-node {}", env!("CARGO_PKG_VERSION"));
    // The listeners first, so that no change falls between them and the first look.
    let device = Arc::default();
    let network = Network::open(Arc::clone(&device)).map_err(RunError::Open)?;
    let tables = Listener::open().map_err(RunError::Open)?;
    let kernel = Netlink::open(&config.settings.families).map_err(RunError::Open)?;
    let kernel = kernel.with_sysctl(config.sysctl.clone()).with_device(device);
    let (own_routes, own_tables) = kernel.ports();
    network.ignore(own_routes).and_then(|()| tables.ignore(own_tables)).map_err(RunError::Open)?;
    let (events, inbox) = channel();
    let (views, pulse) = (Board::<View>::default(), Pulse::default());
    let agent = Agent::new(config.settings.clone(), Attended::new(kernel, pulse.clone()));
    let metrics = Metrics::new(views.clone());
    let agent = agent.with_views(views.clone()).with_pulse(pulse.clone()).with_meter(metrics.agent.clone());
    let (doubts, more_doubts) = (events.clone(), events.clone());
    let metrics = metrics.with_sweeps(supply::start(&config.supply, &views, &events)?);
    let ports = supply::keep_ports()?;
    spawn("agent", move || agent.run(&inbox))?;
    spawn("network", move || network.listen(&doubts))?;
    spawn("tables", move || listen_to_tables(tables, &more_doubts, &ports))?;
    let door = Door { process: process(config), views: views.clone(), pulse: pulse.clone() };
    let requests = metrics.requests.clone();
    let web = Web { views: views.clone(), pulse, metrics };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ProcessError::of("the runtime"))?;
    runtime.block_on(async {
        tokio::select! {
            ended = follow(config, events, (views, requests)) => ended,
            ended = stopped() => Ok(ended?),
            () = door.serve(config.status_socket.as_deref()) => Err(RunError::Ended("the status socket")),
            () = web.serve(config.probes, config.metrics) => Err(RunError::Ended("the servers of probes and metrics")),
        }
    })
}

fn process(config: &Config) -> Process {
    let node = config.settings.node.to_string();
    Process { node, mode: config.settings.mode.to_string(), started: Timestamp::now() }
}

/// Removes what the plugin was supplied with, then our routes and tables, and waits for a signal where that is asked for.
///
/// # Errors
/// When something is still there.
pub fn clean_up(config: &Config) -> Result<(), RunError> {
    remove(config)?;
    if config.waits {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(ProcessError::of("the runtime"))?.block_on(stopped())?;
    }
    Ok(())
}

fn remove(config: &Config) -> Result<(), RunError> {
    let supply = supply::clean_up(&config.supply).map_err(|failure| error!("{}", failure.to_line()));
    let mut kernel = Netlink::open(&config.settings.families).map_err(RunError::Open)?;
    let seen = kernel.look().map_err(RunError::Look)?;
    let steps = diff(&seen, &Plan::default());
    let failures = kernel.apply(&steps);
    failures.iter().for_each(|failure| error!("{}", causes::line(failure)));
    let (routes, rules, tables) = (steps.routes.len(), steps.rules.len(), steps.tables.len());
    let devices = steps.leaving.len();
    info!(routes, rules, tables, devices, "removed what heddle-node made");
    let left = failures.len() + usize::from(supply.is_err());
    if left == 0 { Ok(()) } else { Err(RunError::Left { left }) }
}

/// Tells the agent of every Node, and the cluster of what is the matter with our own. Returns when that cannot go on.
async fn follow(
    config: &Config,
    agent: Sender<Event>,
    (views, requests): (Board<View>, RequestMeter),
) -> Result<(), RunError> {
    let node = config.settings.node.clone();
    let (sieve, said) = Sieve::new(node.clone());
    let emit = move |change: Change| {
        // The agent is gone only when the process is about to be.
        let _ = agent.send(Event::Change(sieve.take(change)));
    };
    match &config.source {
        Source::ApiServer { kubeconfig, master } => {
            let client = watch::connect_counted(kubeconfig.as_deref(), master.as_deref(), requests).await?;
            let (tell, to_post) = unbounded_channel();
            let (own, told) = (events::own(&node), tell.clone());
            let hear = move |news| {
                say(&news);
                if subject(&news) == &own {
                    // Without a cluster, nobody posts.
                    let _ = told.send(news);
                }
            };
            tokio::join!(
                watch::run_nodes(client.clone(), emit, hear),
                events::follow(views.clone(), &node, tell),
                condition::keep(client.clone(), &node, views, said),
                post(client, events::reporter(&node), to_post),
            );
            Err(RunError::Ended("the API server's watch"))
        }
        Source::Manifests(folder) => follow_folder(folder.clone(), emit).await,
    }
}

async fn follow_folder(folder: PathBuf, emit: impl Fn(Change) + Send + 'static) -> Result<(), RunError> {
    let manifests = Manifests::open_with_all_nodes(&folder)?;
    let (failed, failure) = oneshot::channel();
    spawn("manifests", move || {
        let Err(error) = watch::follow_manifests(manifests, emit, |news| say(&news));
        // Nobody waits for it any more when a signal came first.
        let _ = failed.send(error);
    })?;
    failure.await.map_or(Err(RunError::Ended("the manifests' watch")), |error| Err(error.into()))
}

/// Says what is wrong with a Node or a file; a folder may hold other objects, which are not ours to judge.
fn say(news: &News) {
    let is_ours = |subject: &Subject| {
        matches!(subject, Subject::File(_) | Subject::Object(Key { kind: Kind::Node, .. }))
    };
    match news {
        News::Began(problem) if is_ours(&problem.subject) => warn!("{problem}"),
        News::Ended(problem) if is_ours(&problem.subject) => info!("no longer so: {problem}"),
        _ => {}
    }
}

fn subject(news: &News) -> &Subject {
    let (News::Began(problem) | News::Ended(problem)) = news;
    &problem.subject
}
