//! What is counted: kube-proxy's metrics where the thing exists here, by its names, labels and buckets, and our own.
//!
//! Not where things happen: a part holds the few that are its own, and to count is an atomic addition or a lock that only
//! a scrape contends for. Invariant: a series is there from the start, so that the first thing that is counted shows as an
//! increase; but for the problems, whose kinds and reasons are many. docs/metrics.md has the table.
//!
//! | module | what it is |
//! |---|---|
//! | [`agent`] | changes, syncs, and how long the network took to follow |
//! | [`parts`] | conntrack, probes, problems |
//! | [`connections`] | connections by frontend, read from the kernel at each scrape |
//! | [`process`] | the process itself, read from the kernel at each scrape |
//! | [`requests`] | requests to the API server |
//! | [`scrape`] | the answer to a scraper |
//! | [`sockets`] | Services at the socket, read from the agent and the kernel at each scrape |
//! | [`text`] | the two text formats |
//! | [`port`] | the server on `metricsBindAddress` |
//! | [`pages`] | what it answers besides |

pub mod agent;
pub mod connections;
pub mod pages;
pub mod parts;
pub mod port;
pub mod process;
pub mod requests;
pub mod scrape;
pub mod sockets;
pub mod text;

pub use self::agent::AgentMeter;
pub use self::parts::{ConntrackMeter, ProbeMeter, ProblemMeter};
pub use self::requests::RequestMeter;

use self::connections::Connections;
use self::process::Process;
use self::sockets::Sockets;
use crate::agent::Event;
use crate::ebpf;
use crate::frontends::IpFamily;
use heddle_netlink::nft::TableFamily;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt::Debug;
use std::sync::mpsc::Sender;

/// A label and its value.
type Label = (&'static str, &'static str);

/// All metrics, with what the parts of the process count by.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The agent's.
    pub agent: AgentMeter,
    /// Those of the thread that forgets UDP flows.
    pub conntrack: ConntrackMeter,
    /// Those of the health server.
    pub probes: ProbeMeter,
    /// Those of who keeps the account of problems.
    pub problems: ProblemMeter,
    /// Those of who asks the API server.
    pub requests: RequestMeter,
}

impl Metrics {
    /// Nothing counted yet, in a process that started then.
    pub fn new(started: Timestamp) -> Self {
        let mut registry = Registry::default();
        let agent = AgentMeter::register(&mut registry, started);
        let conntrack = ConntrackMeter::register(&mut registry);
        let probes = ProbeMeter::register(&mut registry);
        let problems = ProblemMeter::register(&mut registry);
        let requests = RequestMeter::register(&mut registry);
        let build = Family::<[Label; 1], Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("heddle_build_info", "1, with the version of heddle-proxy", build);
        registry.register_collector(Box::new(Process));
        Self { registry, agent, conntrack, probes, problems, requests }
    }

    /// Tells of connections by frontend too, as these families' tables count them.
    pub fn count_connections(&mut self, agent: Sender<Event>, families: &[TableFamily]) {
        self.registry.register_collector(Box::new(Connections::new(agent, families)));
    }

    /// Tells of sockets too, as this says and as the agent's dataplane counts.
    pub fn tell_of_sockets(&mut self, told: ebpf::Sockets, agent: Sender<Event>) {
        self.registry.register_collector(Box::new(Sockets::new(told, agent)));
    }

    /// All series now, as `OpenMetrics` 1.0.0.
    pub fn open_metrics(&self) -> String {
        scrape::encode(&self.registry)
    }
}

/// One metric for each address family.
#[derive(Clone, Debug)]
struct ByFamily<M> {
    v4: M,
    v6: M,
}

impl<M: Clone + EncodeMetric + TypedMetric + Send + Sync + Debug + 'static> ByFamily<M> {
    fn register(registry: &mut Registry, name: &str, help: &str, make: fn() -> M) -> Self {
        let family: Family<[Label; 1], M> = Family::new_with_constructor(make);
        registry.register(name, help, family.clone());
        let of = |value| family.get_or_create_owned(&[("ip_family", value)]);
        Self { v4: of("IPv4"), v6: of("IPv6") }
    }
}

impl<M> ByFamily<M> {
    fn of(&self, family: IpFamily) -> &M {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    fn of_mut(&mut self, family: IpFamily) -> &mut M {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}

/// kube-proxy's buckets for what takes milliseconds to seconds: 0.001 × 2ⁿ, 15 of them.
pub fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}
