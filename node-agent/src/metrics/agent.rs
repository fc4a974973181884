//! What the agent counts at the end of each turn. Who tells also says how long it took; no clock is read here.

use crate::kernel::Failure;
use heddle_proxy::metrics::durations;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// The agent's metrics.
#[derive(Clone, Debug)]
pub struct AgentMeter {
    took: Histogram,
    failures: Family<[(&'static str, &'static str); 1], Counter>,
    repairs: Counter,
}

impl Default for AgentMeter {
    /// One that nobody reads.
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

impl AgentMeter {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (took, failures, repairs) = (durations(), Family::default(), Counter::default());
        let help = "Time from the look at the kernel to its last answer, well or not";
        registry.register("heddle_node_sync_duration_seconds", help, took.clone());
        let meter = Self { took, failures, repairs };
        Failure::KINDS.into_iter().for_each(|kind| drop(meter.failures.get_or_create(&[("kind", kind)])));
        let help = "What the kernel refused, each once in each sync that it is tried in";
        registry.register("heddle_node_failures", help, meter.failures.clone());
        let help = "Times that changes which somebody else made to what is ours were undone";
        registry.register("heddle_node_drift_repairs", help, meter.repairs.clone());
        meter
    }

    /// A sync ended, in which the kernel refused this, or which undid what somebody else had changed.
    pub fn sync(&self, took: Duration, failures: &[Failure], repaired: bool) {
        self.took.observe(took.as_secs_f64());
        for failure in failures {
            self.failures.get_or_create(&[("kind", failure.kind())]).inc();
        }
        self.repairs.inc_by(u64::from(repaired));
    }
}
