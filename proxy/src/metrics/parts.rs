//! What the other parts count: the thread that forgets flows, the health server, the account of problems.

use super::{ByFamily, Label, durations};
use crate::frontends::IpFamily;
use crate::problems::News;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// What the thread that forgets UDP flows counts.
#[derive(Clone, Debug)]
pub struct ConntrackMeter {
    took: ByFamily<Histogram>,
    deleted: ByFamily<Counter>,
}

impl Default for ConntrackMeter {
    /// One that nobody reads.
    fn default() -> Self {
        Self::register(&mut Registry::default())
    }
}

impl ConntrackMeter {
    pub(super) fn register(registry: &mut Registry) -> Self {
        const PREFIX: &str = "kubeproxy_conntrack_reconciler_";
        let took = format!("{PREFIX}sync_duration_seconds");
        let took = ByFamily::register(
            registry,
            &took,
            "Time of a search for UDP flows whose endpoint is gone",
            durations,
        );
        let deleted = format!("{PREFIX}deleted_entries");
        let deleted =
            ByFamily::register(registry, &deleted, "UDP flows that were forgotten", Counter::default);
        Self { took, deleted }
    }

    /// A pass ended, well or not.
    pub fn pass(&self, family: IpFamily, took: Duration) {
        self.took.of(family).observe(took.as_secs_f64());
    }

    /// So many flows were forgotten.
    pub fn delete(&self, family: IpFamily, flows: usize) {
        self.deleted.of(family).inc_by(flows as u64);
    }
}

/// What the health server counts. One that nobody reads by default.
#[derive(Clone, Debug, Default)]
pub struct ProbeMeter {
    healthz: Family<[Label; 1], Counter>,
    livez: Family<[Label; 1], Counter>,
}

impl ProbeMeter {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let meter = Self::default();
        for (name, answers) in [("healthz", &meter.healthz), ("livez", &meter.livez)] {
            for code in ["200", "503"] {
                drop(answers.get_or_create(&[("code", code)]));
            }
            let help = format!("Answers of /{name} by their HTTP code");
            registry.register(format!("kubeproxy_proxy_{name}"), help, answers.clone());
        }
        meter
    }

    /// `/healthz` or `/livez` was answered with yes or no; other paths are not counted.
    pub fn answer(&self, path: &str, passes: bool) {
        let answers = match path {
            "/healthz" => &self.healthz,
            "/livez" => &self.livez,
            _ => return,
        };
        answers.get_or_create(&[("code", if passes { "200" } else { "503" })]).inc();
    }
}

/// What who keeps the account of problems counts. One that nobody reads by default.
#[derive(Clone, Debug, Default)]
pub struct ProblemMeter(Family<[(&'static str, String); 2], Gauge>);

impl ProblemMeter {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let meter = Self::default();
        registry.register("heddle_problems", "What is wrong with objects now", meter.0.clone());
        meter
    }

    /// A problem began or ended.
    pub fn take(&self, news: &News) {
        let (News::Began(problem) | News::Ended(problem)) = news;
        let labels = [("kind", problem.subject.kind()), ("reason", problem.reason.to_string())];
        self.0.get_or_create(&labels).inc_by(if matches!(news, News::Began(_)) { 1 } else { -1 });
    }
}
