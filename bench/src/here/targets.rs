//! What can be asked: TCP ports of cluster IPs, with their endpoints, as heddle-proxy understands the cluster.

use crate::Failure;
use heddle_netlink::Protocol;
use heddle_proxy::frontends::{Backends, Frontend, Place, Reach, resolve};
use heddle_proxy::model::{Change, Kind, Model, Policy};
use heddle_proxy::problems::News;
use heddle_proxy::watch::{connect, run_api};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// How long an API server may take to list everything.
const PATIENCE: Duration = Duration::from_secs(30);
/// A node whose object nobody has: Services are wanted, not what they are to one node.
const NOBODY: &str = "";

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub service: SocketAddr,
    /// What is behind it; never nothing.
    pub endpoints: Vec<SocketAddr>,
}

/// At most so many of the cluster's, from all over it.
///
/// # Errors
/// When the API server does not tell, or there is none.
pub(super) fn read(kubeconfig: Option<&Path>, most: usize) -> Result<Vec<Target>, Failure> {
    let model = Builder::new_current_thread().enable_all().build()?.block_on(listed(kubeconfig))?;
    let all = of(&model);
    if all.is_empty() {
        return Err("no Service of this cluster has a cluster IP with a TCP port and ready endpoints".into());
    }
    let step = all.len().div_ceil(most.max(1));
    Ok(all.into_iter().step_by(step).collect())
}

async fn listed(kubeconfig: Option<&Path>) -> Result<Model, Failure> {
    let client = connect(kubeconfig, None).await?;
    let (heard, changes) = unbounded_channel();
    let emit = move |change: Change| _ = heard.send(change);
    let listed = tokio::select! {
        model = timeout(PATIENCE, all(changes)) => model,
        () = run_api(client, Some(NOBODY), emit, |_: News| ()) => return Err("the watch of Services ended".into()),
    };
    let late =
        |_| format!("the API server did not list Services and EndpointSlices in {} s", PATIENCE.as_secs());
    Ok(listed.map_err(late)?)
}

/// Hears until Services and slices are complete.
async fn all(mut changes: UnboundedReceiver<Change>) -> Model {
    let (mut model, mut lacking) = (Model::default(), vec![Kind::Service, Kind::Slice]);
    while !lacking.is_empty()
        && let Some(change) = changes.recv().await
    {
        if let Change::Complete(kind) = change {
            lacking.retain(|it| *it != kind);
        }
        model.apply(change);
    }
    model
}

/// All that the cluster has, in order.
fn of(model: &Model) -> Vec<Target> {
    let frontends = resolve(model, NOBODY);
    frontends.iter().filter_map(|(frontend, _, backends)| target(frontend, backends)).collect()
}

/// Where only this node's endpoints count, others may not be asked; where only some clients may ask, this one may not.
fn target(frontend: &Frontend, backends: &Backends) -> Option<Target> {
    let Place::Address(address) = frontend.place else { return None };
    let is_open =
        backends.policy == Policy::Cluster && backends.sources.is_empty() && !backends.cluster.is_empty();
    let is_asked = frontend.protocol == Protocol::Tcp && backends.reach == Reach::ClusterIp;
    let endpoints = || backends.cluster.iter().map(|it| SocketAddr::new(it.address, it.port)).collect();
    (is_open && is_asked)
        .then(|| Target { service: SocketAddr::new(address, frontend.port), endpoints: endpoints() })
}
