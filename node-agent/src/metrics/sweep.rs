//! What the sweep counts, read at each scrape.

use crate::supply::sweep::Counts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who counts it.
#[derive(Debug)]
pub(super) struct Sweeps(pub(super) Arc<Counts>);

impl Collector for Sweeps {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counts { sweeps, failures, dead, leases, ports } = &*self.0;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut counter = |name: &str, help: &str, count| {
            let to = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(read(count)).encode(to)
        };
        counter("heddle_node_sweeps", "Times that what pods left was looked for", sweeps)?;
        counter("heddle_node_sweep_failures", "Those that failed", failures)?;
        let help = "What pods that are gone have left and was given back";
        let mut swept =
            encoder.encode_descriptor("heddle_node_leftovers_swept", help, None, MetricType::Counter)?;
        for (kind, count) in [("lease", leases), ("host_ports", ports)] {
            ConstCounter::new(read(count)).encode(swept.encode_family(&[("kind", kind)])?)?;
        }
        let help = "What pods that are gone have left and was not given back yet";
        let to = encoder.encode_descriptor("heddle_node_leftovers", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(read(dead)).unwrap_or(i64::MAX)).encode(to)
    }
}
