//! The health servers, connected.

use super::{RunError, spawn};
use crate::config::Config;
use crate::health::Pulse;
use crate::health::checks::Changes;
use crate::health::servers::Servers;
use crate::status::Reports;
use tokio::sync::mpsc::UnboundedReceiver;

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
    let servers = Servers::new(config.probes, &config.settings, pulse, reports)?;
    let (serve, follow_addresses) = servers.split(changes);
    spawn("health", serve)?;
    spawn("addresses", follow_addresses)
}
