//! Services at the socket: whether sockets are served, and what their programs counted; read at each scrape.
//!
//! Nothing is kept here: the state is the dataplane's, the numbers are the kernel's. What the agent does not tell in time is left out of
//! this scrape. Invariant: what is told of a Service's port never goes down as long as the Service is there.

use crate::agent::Event;
use crate::ebpf::tally::{Counted, Sums};
use crate::ebpf::view::Held;
use crate::ebpf::{self, State};
use crate::look::Question;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use tracing::debug;

/// How long a scrape waits for the agent.
const BUSY: Duration = Duration::from_secs(2);

/// What is counted of a Service's port, in the order of the counters.
const OF_PORTS: [(&str, &str); 3] = [
    ("connections", "Connections, and UDP flows, that sockets were led to an endpoint for"),
    ("refused", "Connections that sockets were refused, since the Service has no endpoint"),
    ("affinity_hits", "Connections that were led where the client had been before"),
];

/// Whom to ask.
#[derive(Debug)]
pub(super) struct Sockets {
    told: ebpf::Sockets,
    /// A scrape may come from any thread.
    agent: Mutex<Sender<Event>>,
}

impl Sockets {
    /// What is told here, and what the agent's dataplane counted.
    pub(super) fn new(told: ebpf::Sockets, agent: Sender<Event>) -> Self {
        Self { told, agent: Mutex::new(agent) }
    }

    fn ask(&self) -> Result<(Held, Counted), String> {
        let (tell, told) = mpsc::channel();
        let question = Question::new(move |inside| {
            let all = |sockets: ebpf::View<'_>| io::Result::Ok((sockets.held()?, sockets.counted()));
            // Who asked may have given up.
            let _ = tell.send(inside.sockets.map_or(Ok(Default::default()), all));
        });
        let agent = self.agent.lock().map_err(|error| error.to_string())?;
        agent.send(Event::Look(question)).map_err(|error| error.to_string())?;
        told.recv_timeout(BUSY).map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn state(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let told = self.told.ask();
        let serving = u64::from(told.state == State::Serving);
        gauge(encoder, "serving", "1 while Services are served at sockets; else packets alone are", serving)?;
        let help = "Frontends that sockets are led from, those that are tried out included";
        gauge(encoder, "frontends", help, told.frontends as u64)?;
        let help = "Times that new maps and programs took the places of those before";
        counter(encoder, "takeovers", help, told.takeovers)?;
        counter(encoder, "failures", "Times that sockets could not be served", told.failures)?;
        counter(encoder, "probes", "Times that it was tried out whether sockets are served", told.probes)?;
        counter(encoder, "probe_failures", "Times that they were not", told.failed_probes)
    }
}

fn name(of: &str) -> String {
    format!("heddle_proxy_sockets_{of}")
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, of: &str, help: &str, value: u64) -> fmt::Result {
    let name = name(of);
    let series = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(series)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, of: &str, help: &str, value: u64) -> fmt::Result {
    let name = name(of);
    let series = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(series)
}

fn held(encoder: &mut DescriptorEncoder<'_>, held: Held) -> fmt::Result {
    gauge(encoder, "map_rows", "Rows of the maps, in use or kept for later", held.rows as u64)?;
    gauge(encoder, "map_slots", "Slots of the maps, in use or kept for later", u64::from(held.slots))?;
    gauge(encoder, "map_bytes", "Memory that the maps take, as the kernel counts it", held.bytes)
}

fn ports(encoder: &mut DescriptorEncoder<'_>, sums: &Sums) -> fmt::Result {
    if sums.ports.is_empty() {
        return Ok(());
    }
    for (at, (of, help)) in OF_PORTS.into_iter().enumerate() {
        let name = name(of);
        let mut series = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for (asked, counts) in &sums.ports {
            let labels = [
                ("namespace", asked.service.namespace.to_string()),
                ("service", asked.service.name.to_string()),
                ("ip_family", asked.family.name().to_owned()),
                ("port", asked.port.to_string()),
                ("protocol", asked.protocol.to_string()),
            ];
            ConstCounter::new(counts[at]).encode(series.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn endpoints(encoder: &mut DescriptorEncoder<'_>, sums: &Sums) -> fmt::Result {
    if sums.endpoints.is_empty() {
        return Ok(());
    }
    const HELP: &str =
        "Connections, and UDP flows, that sockets were led to an endpoint for, by the endpoint";
    let name = name("endpoint_connections");
    let mut series = encoder.encode_descriptor(&name, HELP, None, MetricType::Counter)?;
    for (endpoint, connections) in &sums.endpoints {
        let labels = [("address", endpoint.ip().to_string()), ("port", endpoint.port().to_string())];
        ConstCounter::new(*connections).encode(series.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for Sockets {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.state(&mut encoder)?;
        match self.ask() {
            Ok((maps, counted)) => {
                let sums = Sums::from(counted);
                held(&mut encoder, maps)?;
                ports(&mut encoder, &sums)?;
                endpoints(&mut encoder, &sums)
            }
            Err(error) => {
                debug!("what sockets counted is not in this scrape: {error}");
                Ok(())
            }
        }
    }
}
