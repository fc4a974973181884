//! Requests to the API server, under the names that every client in Go has for them: dashboards of kube-proxy show them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// client-go's.
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// client-go's word for a request that nobody answered.
const UNANSWERED: &str = "<error>";

type Name = (&'static str, String);

/// What who sends requests counts.
#[derive(Clone, Debug)]
pub struct RequestMeter {
    answers: Family<[Name; 3], Counter>,
    took: Family<[Name; 2], Histogram, fn() -> Histogram>,
}

/// A request, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Host and port of the server.
    pub host: &'a str,
    /// The method of HTTP.
    pub method: &'a str,
    /// The code of the answer; none without one.
    pub code: Option<u16>,
    /// Until the answer began. None for a watch, of which that says nothing.
    pub took: Option<Duration>,
}

impl Default for RequestMeter {
    /// One that nobody reads.
    fn default() -> Self {
        let took: fn() -> Histogram = || Histogram::new(BUCKETS);
        Self { answers: Family::default(), took: Family::new_with_constructor(took) }
    }
}

impl RequestMeter {
    /// Shows what is counted in this registry.
    pub fn register(registry: &mut Registry) -> Self {
        let meter = Self::default();
        let help = "Requests to the API server by the code of the answer";
        registry.register("rest_client_requests", help, meter.answers.clone());
        let help = "Time from a request to the API server to its answer, watches left out";
        registry.register("rest_client_request_duration_seconds", help, meter.took.clone());
        meter
    }

    /// A request was answered, or is given up.
    pub fn take(&self, sent: Sent<'_>) {
        let (host, method) = (sent.host.to_owned(), sent.method.to_owned());
        if let Some(took) = sent.took.filter(|_| sent.code.is_some()) {
            let labels = [("host", host.clone()), ("verb", method.clone())];
            self.took.get_or_create(&labels).observe(took.as_secs_f64());
        }
        let code = sent.code.map_or(UNANSWERED.to_owned(), |code| code.to_string());
        self.answers.get_or_create(&[("code", code), ("host", host), ("method", method)]).inc();
    }
}
