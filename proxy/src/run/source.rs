//! The source of objects, connected: the API server or a folder of manifests.

use super::RunError;
use crate::agent::Event;
use crate::config::{Config, Source};
use crate::events::{self, Reporter};
use crate::metrics::RequestMeter;
use crate::model::Change;
use crate::problems::News;
use crate::process::spawn;
use crate::status::{Report, Reports};
use crate::watch;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

/// Where the source counts and tells of problems, and what of them is to be said in the cluster.
pub(super) struct Posts {
    pub(super) requests: RequestMeter,
    pub(super) reports: Reports,
    pub(super) to_post: UnboundedReceiver<News>,
}

/// Tells the agent of every change, and the cluster of what is wrong with its objects. Returns when that cannot go on.
pub(super) async fn follow(config: &Config, agent: Sender<Event>, posts: Posts) -> Result<(), RunError> {
    let emit = move |change| {
        // The agent is gone only when the process is about to be.
        let _ = agent.send(Event::Change(change));
    };
    let Posts { requests, reports, to_post } = posts;
    let tell = move |news| reports.tell(Report::Problem(news));
    match &config.source {
        Source::Manifests(folder) => follow_manifests(folder.clone(), config.clone(), emit, tell).await,
        Source::ApiServer { kubeconfig, master } => {
            let client = watch::connect_counted(kubeconfig.as_deref(), master.as_deref(), requests).await?;
            tokio::join!(
                watch::run_api(client.clone(), config.scope(), emit, tell),
                events::post(client, Reporter::proxy(&config.node), to_post)
            );
            Err(RunError::Ended("the API server's watch"))
        }
    }
}

/// The folder's watch blocks, so it has a thread; this waits for its failure.
async fn follow_manifests(
    folder: PathBuf,
    config: Config,
    emit: impl Fn(Change) + Send + 'static,
    tell: impl Fn(News) + Send + 'static,
) -> Result<(), RunError> {
    let (failed, failure) = oneshot::channel();
    spawn("manifests", move || {
        let Err(error) = watch::run_manifests(&folder, config.scope(), emit, tell);
        // Nobody waits for it any more when a signal came first.
        let _ = failed.send(error);
    })?;
    failure.await.map_or(Err(RunError::Ended("the manifests' watch")), |error| Err(error.into()))
}
