//! The metrics server, connected. It has a thread of its own, so that a scrape and the reading of a large cluster do not wait for
//! each other.

use super::{RunError, ServerError, failure};
use crate::config::Config;
use crate::logging::Verbosity;
use crate::metrics::Metrics;
use crate::metrics::port::{Bound, Port};
use crate::process::{ProcessError, spawn};
use jiff::Timestamp;
use tokio::runtime;

/// kube-proxy's word.
const REASON: &str = "FailedToStartMetricServer";

/// Starts it, if there is to be one.
///
/// # Errors
/// When it cannot be started, or its address cannot be had and that is to be fatal; an Event says so.
pub(super) fn start(config: &Config, verbosity: &Verbosity, metrics: Metrics) -> Result<(), RunError> {
    let Some(address) = config.metrics_address else { return Ok(()) };
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ProcessError::of("the runtime of the metrics server"))?;
    let inside = runtime.enter();
    let bound = Bound::try_new(address, config.file.bind_address_hard_fail);
    drop(inside);
    let bound = bound.map_err(|source| ServerError::Metrics { address, source });
    let bound = bound.inspect_err(|error| failure::say(config, REASON, error))?;
    let port = Port::new(metrics, config, verbosity.clone(), Timestamp::now());
    spawn("metrics", move || runtime.block_on(bound.serve(port)))?;
    Ok(())
}
