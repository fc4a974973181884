//! The health servers, connected.

use super::{RunError, ServerError, failure};
use crate::config::Config;
use crate::health::Pulse;
use crate::health::checks::Changes;
use crate::health::servers::{Servers, StartError};
use crate::metrics::ProbeMeter;
use crate::process::spawn;
use crate::status::Reports;
use tokio::sync::mpsc::UnboundedReceiver;

/// kube-proxy's word.
const REASON: &str = "FailedToStartProxierHealthcheck";

/// Starts them.
///
/// # Errors
/// As [`Servers::new`].
pub(super) fn start(
    config: &Config,
    (pulse, meter): (Pulse, ProbeMeter),
    reports: Reports,
    changes: UnboundedReceiver<Changes>,
) -> Result<(), RunError> {
    let servers = Servers::new(config.probes, &config.settings, pulse, reports);
    let servers = servers.inspect_err(|error| {
        if matches!(error, StartError::Listen { .. }) {
            failure::say(config, REASON, error);
        }
    });
    let servers = servers.map_err(ServerError::Health)?;
    let servers = servers.with_meter(meter);
    let (serve, follow_addresses) = servers.split(changes);
    spawn("health", serve)?;
    spawn("addresses", follow_addresses)?;
    Ok(())
}
