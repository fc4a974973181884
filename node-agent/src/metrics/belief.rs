//! What the newest view says, read at each scrape: nothing is kept here that could be out of date.

use crate::board::Board;
use crate::view::{Path, Standing, View};
use heddle_proxy::frontends::IpFamily;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;

type Labels = Vec<(&'static str, &'static str)>;

/// Where the views are.
#[derive(Debug)]
pub(super) struct Belief(pub(super) Board<View>);

impl Collector for Belief {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = self.0.now().value;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let to = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(to)
        };
        let is_whole = f64::from(view.standing == Standing::Whole);
        gauge("heddle_node_whole", "1 while the kernel has all that was planned", is_whole)?;
        let help = "When the kernel last had all that was planned";
        let last = view.whole.map_or(0.0, seconds);
        gauge("heddle_node_last_successful_sync_timestamp_seconds", help, last)?;
        let known = view.peers.len() + usize::from(view.own.is_some());
        gauge("heddle_node_nodes", "Nodes that are known, our own among them", number(known))?;
        gauge("heddle_node_routes", "Routes that the kernel is to have of us", number(view.routes))?;
        if let Some(mtu) = view.mtu {
            let help = "The largest packet from pods of this node to all that they reach";
            gauge("heddle_node_mtu_bytes", help, f64::from(mtu))?;
        }
        let mut gauges = |name: &str, help: &str, series: Vec<(Labels, f64)>| {
            let mut to = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let mut one = |(labels, value)| ConstGauge::new(value).encode(to.encode_family(&labels)?);
            series.into_iter().try_for_each(&mut one)
        };
        gauges("heddle_node_paths", "Pod ranges of other nodes, by the way there", paths(&view))?;
        gauges("heddle_node_problems", "What is wrong now, by its reason", problems(&view))
    }
}

fn paths(view: &View) -> Vec<(Labels, f64)> {
    let all = Path::KINDS.into_iter().flat_map(|kind| IpFamily::ALL.map(|family| (kind, family.name())));
    let mut counts: BTreeMap<_, usize> = all.map(|of| (of, 0)).collect();
    for path in view.paths() {
        let family = if path.range.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
        *counts.entry((path.kind(), family.name())).or_default() += 1;
    }
    let labels = |(kind, family)| vec![("kind", kind), ("ip_family", family)];
    counts.into_iter().map(|(of, count)| (labels(of), number(count))).collect()
}

fn problems(view: &View) -> Vec<(Labels, f64)> {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    view.problems.keys().for_each(|problem| *counts.entry(problem.reason()).or_default() += 1);
    counts.into_iter().map(|(reason, count)| (vec![("reason", reason)], number(count))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53 of anything")]
fn number(count: usize) -> f64 {
    count as f64
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
