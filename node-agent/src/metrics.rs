//! What is counted: our own by names that begin with `heddle_node_`, requests and the process as every client has them.
//!
//! Not where things happen. A part that counts has a meter, which registers itself here and is held there: to count is an
//! atomic addition at the event. A part that keeps its numbers itself is read at each scrape. Invariant: a series is there
//! from the start, so that the first thing that is counted shows as an increase; but for problems and requests, whose
//! labels are many. docs/metrics.md has the table.
//!
//! | module | what it is |
//! |---|---|
//! | [`agent`] | turns: how long they took, what the kernel refused, what was undone |
//! | [`belief`] | what the newest view says |
//! | [`sweep`] | what pods left that are gone |

pub mod agent;
pub mod belief;
pub mod sweep;

pub use self::agent::AgentMeter;

use crate::board::Board;
use crate::supply::sweep::Counts;
use crate::view::View;
use belief::Belief;
use heddle_proxy::metrics::RequestMeter;
use heddle_proxy::metrics::process::Process;
use heddle_proxy::metrics::scrape;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use sweep::Sweeps;

/// All metrics, with what the parts of the process count by.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The agent's.
    pub agent: AgentMeter,
    /// Those of who asks the API server.
    pub requests: RequestMeter,
}

impl Metrics {
    /// Nothing counted yet, and what this board will show.
    pub fn new(views: Board<View>) -> Self {
        let mut registry = Registry::default();
        let agent = AgentMeter::register(&mut registry);
        let requests = RequestMeter::register(&mut registry);
        let build = Family::<[(&str, &str); 1], Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("heddle_node_build_info", "1, with the version of heddle-node", build);
        registry.register_collector(Box::new(Belief(views)));
        registry.register_collector(Box::new(Process));
        Self { registry, agent, requests }
    }

    /// Tells of what the sweep counts, too.
    #[must_use]
    pub fn with_sweeps(mut self, counts: Arc<Counts>) -> Self {
        self.registry.register_collector(Box::new(Sweeps(counts)));
        self
    }

    /// All series now, as `OpenMetrics` 1.0.0.
    pub fn open_metrics(&self) -> String {
        scrape::encode(&self.registry)
    }
}
