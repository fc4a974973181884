//! The metrics as a scraper reads them: which there are, and how they move with the agent on a (fake) kernel.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "metrics/agent.rs"]
mod agent;
#[path = "metrics/parts.rs"]
mod parts;
#[path = "metrics/shown.rs"]
mod shown;

use heddle_proxy::metrics::requests::Sent;
use heddle_proxy::metrics::{Metrics, text};
use heddle_proxy::problems::{Problem, Reason, Subject};
use prometheus_parse::{HistogramCount, Scrape, Value};
use std::time::Duration;

const SENT: Sent<'_> =
    Sent { host: "h:1", method: "GET", code: Some(200), took: Some(Duration::from_millis(30)) };

fn scrape(metrics: &Metrics) -> Scrape {
    let text = text::plain(&metrics.open_metrics());
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The value of a series, given all its labels; for a histogram, of its `_count` or `_sum`.
fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> f64 {
    let scrape = scrape(metrics);
    let found: Vec<_> = scrape
        .samples
        .iter()
        .filter(|sample| sample.metric == name && sample.labels.len() == labels.len())
        .filter(|sample| labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value)))
        .collect();
    match &found[..] {
        [one] => match one.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            ref other => panic!("{name}: {other:?}"),
        },
        _ => panic!("{} series {name}{labels:?} in {:?}", found.len(), scrape.samples),
    }
}

fn of(metrics: &Metrics, name: &str, family: &str) -> f64 {
    value(metrics, name, &[("ip_family", family)])
}

fn bounds(metrics: &Metrics, name: &str) -> Vec<f64> {
    let scrape = scrape(metrics);
    let sample = scrape.samples.iter().find(|sample| sample.metric == name).unwrap();
    let Value::Histogram(counts) = &sample.value else { panic!("{name}: {:?}", sample.value) };
    counts.iter().map(|HistogramCount { less_than, .. }| *less_than).collect()
}

fn problem() -> Problem {
    let subject = Subject::File("a.yaml".into());
    Problem { subject, reason: Reason::OBJECT_REFUSED, text: "it is no object".to_owned() }
}
