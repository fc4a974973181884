//! The door to what the cluster says: the agent that runs, the API server, or a folder of manifests.
//!
//! Not a watch: it hears all Nodes once and ends.

use super::facts::Read;
use super::running::Running;
use crate::cluster::Cluster;
use crate::config::Source;
use crate::look::{AGENT, Ask, Told};
use heddle_proxy::causes;
use heddle_proxy::door::{Output, ask};
use heddle_proxy::model::{Change, Kind};
use heddle_proxy::watch::{self, Manifests};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an API server may take to list all Nodes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the agent at a socket says of itself.
///
/// # Errors
/// Why there is no answer.
pub fn ask_agent(socket: &Path) -> Read<Running> {
    let told: Told = ask::ask(AGENT, socket, &Ask::Status { all: true }, Output::Json)?;
    Running::read(&told.text)
}

/// All Nodes.
///
/// # Errors
/// Why they are not known.
pub fn cluster(source: &Source) -> Read<Cluster> {
    match source {
        Source::Manifests(folder) => of_manifests(folder),
        Source::ApiServer { kubeconfig, master } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(of_api_server(kubeconfig.clone(), master.as_deref()))
        }
    }
}

fn of_manifests(folder: &Path) -> Read<Cluster> {
    let changes = Manifests::open_with_all_nodes(folder).and_then(|mut manifests| manifests.first());
    let mut cluster = Cluster::default();
    changes.map_err(said)?.into_iter().for_each(|change| _ = cluster.apply(change));
    Ok(cluster)
}

async fn of_api_server(kubeconfig: Option<PathBuf>, master: Option<&str>) -> Read<Cluster> {
    let client = watch::connect(kubeconfig.as_deref(), master).await.map_err(said)?;
    let (heard, mut changes) = mpsc::unbounded_channel();
    let (told, news) = channel();
    // Nobody hears what comes after the last Node.
    let emit = move |change: Change| _ = heard.send(change);
    let tell = move |news| _ = told.send(news);
    let all = async {
        let mut cluster = Cluster::default();
        while let Some(change) = changes.recv().await {
            let is_last = change == Change::Complete(Kind::Node);
            cluster.apply(change);
            if is_last {
                break;
            }
        }
        cluster
    };
    let listed = tokio::select! {
        cluster = all => Ok(cluster),
        () = watch::run_nodes(client, emit, tell) => Err("the watch ended".to_owned()),
        () = tokio::time::sleep(PATIENCE) => Err(format!("no list of them came within {} s, as said above", PATIENCE.as_secs())),
    };
    drop(news);
    listed
}

fn said(error: impl Error + 'static) -> String {
    causes::line(&error)
}
