//! The health servers, connected, and what is said in the cluster when they cannot be.

use super::{RunError, spawn};
use crate::config::{Config, Source};
use crate::events;
use crate::health::Pulse;
use crate::health::checks::Changes;
use crate::health::servers::{Servers, StartError};
use crate::status::Reports;
use crate::watch;
use std::error::Error;
use tokio::runtime;
use tokio::sync::mpsc::UnboundedReceiver;

/// kube-proxy's word.
const REASON: &str = "FailedToStartProxierHealthcheck";

/// Starts them.
///
/// # Errors
/// As [`Servers::new`].
pub(super) fn start(
    config: &Config,
    pulse: Pulse,
    reports: Reports,
    changes: UnboundedReceiver<Changes>,
) -> Result<(), RunError> {
    let servers = Servers::new(config.probes, &config.settings, pulse, reports);
    let servers = servers.inspect_err(|error| say(config, error))?;
    let (serve, follow_addresses) = servers.split(changes);
    spawn("health", serve)?;
    spawn("addresses", follow_addresses)
}

/// Says on the Node that the address of the health server cannot be used. The API server may be away: the log has it in any case.
fn say(config: &Config, error: &StartError) {
    let StartError::Listen { .. } = error else { return };
    let Source::ApiServer { kubeconfig, master } = &config.source else { return };
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else { return };
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    runtime.block_on(async {
        if let Ok(client) = watch::connect(kubeconfig.as_deref(), master.as_deref()).await {
            events::post_failure(client, &config.node, REASON, &format!("{error}{cause}")).await;
        }
    });
}
