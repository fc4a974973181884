//! Connections by frontend, as the kernel counts them; read at each scrape, and only where somebody asked for it.
//!
//! Nothing is kept here: the numbers are the kernel's, the names of Services the agent's. What cannot be read is left out, as while
//! the agent is busy. docs/decisions/connections-by-frontend.md has what it costs.

use crate::agent::Event;
use crate::frontends::{Frontend, Place};
use crate::look::Question;
use crate::model::ObjectName;
use crate::nft::ruleset::{self, COUNTED, TABLE};
use heddle_netlink::nft::{self, TableFamily};
use heddle_netlink::{Error, Family, Socket};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::debug;

/// How long a scrape waits for the agent.
const BUSY: Duration = Duration::from_secs(2);
const NAME: &str = "heddle_frontend_connections";
const HELP: &str =
    "Connections that came to a frontend; from 0 again when the number of its endpoints changes";

/// Whom to ask.
#[derive(Debug)]
pub(super) struct Connections {
    /// A scrape may come from any thread.
    agent: Mutex<Sender<Event>>,
    /// Kept from the first scrape on: the kernel makes commits wait where one is closed (`nft_rcv_nl_event`).
    socket: Mutex<Option<Socket>>,
    families: Vec<TableFamily>,
}

impl Connections {
    /// Of these families' tables.
    pub(super) fn new(agent: Sender<Event>, families: &[TableFamily]) -> Self {
        Self { agent: Mutex::new(agent), socket: Mutex::default(), families: families.to_vec() }
    }

    /// The kernel's count of each frontend.
    fn counts(&self) -> Result<BTreeMap<Frontend, u64>, Error> {
        let mut kept = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match &mut *kept {
            Some(socket) => socket,
            none => none.insert(Socket::open(Family::Netfilter)?),
        };
        let mut counts = BTreeMap::new();
        for family in &self.families {
            for map in COUNTED {
                let counted = nft::load_counts(socket, *family, (TABLE, map))?;
                let of = |(key, count)| Some((ruleset::frontend_of(*family, map, &key)?, count));
                counts.extend(counted.into_iter().filter_map(of));
            }
        }
        Ok(counts)
    }

    /// The same with the Services that have the frontends.
    fn named(&self) -> Result<Vec<(Frontend, ObjectName, u64)>, String> {
        let counts = self.counts().map_err(|error| error.to_string())?;
        let (tell, told) = mpsc::channel();
        let question = Question::new(move |inside| {
            let name =
                |(frontend, count)| Some((frontend, inside.frontends.owner(&frontend)?.clone(), count));
            // Who asked may have given up.
            let _ = tell.send(counts.into_iter().filter_map(name).collect());
        });
        let agent = self.agent.lock().map_err(|error| error.to_string())?;
        agent.send(Event::Look(question)).map_err(|error| error.to_string())?;
        told.recv_timeout(BUSY).map_err(|error| error.to_string())
    }
}

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let named = self.named().unwrap_or_else(|error| {
            debug!("connections are not counted in this scrape: {error}");
            Vec::new()
        });
        if named.is_empty() {
            return Ok(());
        }
        let mut series = encoder.encode_descriptor(NAME, HELP, None, MetricType::Counter)?;
        for (frontend, service, count) in named {
            let address = match frontend.place {
                Place::Address(address) => address.to_string(),
                Place::Node(_) => "node".to_owned(),
            };
            let labels = [
                ("namespace", service.namespace.to_string()),
                ("service", service.name.to_string()),
                ("ip_family", frontend.place.family().name().to_owned()),
                ("address", address),
                ("port", frontend.port.to_string()),
                ("protocol", frontend.protocol.to_string()),
            ];
            ConstCounter::new(count).encode(series.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
