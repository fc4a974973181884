//! What the running process answers, and where.
//!
//! Invariant: nothing is answered from anything but what the agent holds at that moment, and the kernel.

use super::protocol::{Ask, PROXY};
use super::status::{Holds, Process, Status};
use super::trace::{Told, trace};
use super::words::{Here, Words};
use super::{Inside, Question, dump};
use crate::agent::Event;
use crate::door::shown::pretty;
use crate::door::{Answer, Output, listen};
use crate::ebpf::Sockets;
use crate::health::Pulse;
use crate::nft::{Kernel, Netlink, Settings};
use crate::status::{Report, Reports};
use heddle_netlink::nft::Table;
use heddle_netlink::{Family, Socket, address};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Where the socket is unless somebody says otherwise.
pub const DEFAULT: &str = "/run/heddle/proxy.sock";
/// How long the agent may be busy with something else.
const BUSY: Duration = Duration::from_secs(10);

/// Whom the door leads to.
#[derive(Debug)]
pub struct Door {
    /// The agent.
    pub agent: Sender<Event>,
    /// Who keeps what the parts tell.
    pub reports: Reports,
    /// What was decided at the start.
    pub settings: Settings,
    /// What the process is.
    pub process: Process,
    /// What the agent says of itself, which is there even while it is busy.
    pub pulse: Pulse,
    /// What is told of sockets; `None` where they are not to be served.
    pub sockets: Option<Sockets>,
}

/// Answers for ever.
pub async fn serve(path: &Path, door: &Door) {
    listen::serve(path, PROXY, async |ask, output| door.answer(ask, output).await).await;
}

impl Door {
    async fn answer(&self, ask: Ask, output: Output) -> Answer {
        match ask {
            Ask::Status => self.status(output).await,
            Ask::Trace(words) => self.trace(words, output).await,
            Ask::Dump(parts) => self.dump(&parts, output).await,
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Inside<'_>) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        let question = Question::new(move |inside| {
            // Who asked may have given up.
            let _ = answer.send(ask(inside));
        });
        let gone = || "the agent has ended".to_owned();
        self.agent.send(Event::Look(question)).map_err(|_| gone())?;
        match timeout(BUSY, answered).await {
            Ok(answered) => answered.map_err(|_| gone()),
            Err(_) => {
                Err(format!("the agent did not answer within {BUSY:?}: it is busy, or the kernel holds it"))
            }
        }
    }

    async fn status(&self, output: Output) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.reports.tell(Report::Asked(answer));
        let problems = answered.await.map_err(|_| "nobody keeps an account of problems".to_owned())?;
        let inside = |inside: &Inside<'_>| (Holds::of(inside), inside.sockets.map(|view| view.counted()));
        let (holds, counted) = self.ask(inside).await?;
        let counted = counted.map(Into::into);
        let (process, health) = (self.process.clone(), self.pulse.report());
        let sockets = self.sockets.as_ref().map(Sockets::ask);
        let status = Status { process, health, holds, sockets, counted, problems, now: Timestamp::now() };
        Ok(match output {
            Output::Text => status.to_string(),
            Output::Json => pretty(&status.json()),
        })
    }

    async fn trace(&self, words: Words, output: Output) -> Answer {
        let addresses = spawn_blocking(own_addresses).await.map_err(|error| error.to_string())?;
        let addresses = addresses.map_err(|error| format!("list the node's addresses: {error}"))?;
        let settings = self.settings.clone();
        self.ask(move |inside| answer_trace(inside, (&settings, &addresses), &words, output)).await?
    }

    /// A question for each part, so that changes find their way in between.
    async fn dump(&self, parts: &[dump::Part], output: Output) -> Answer {
        let mut text = String::new();
        let mut object = serde_json::Map::new();
        for &part in parts {
            match output {
                Output::Text => text += &self.part_text(part).await?,
                Output::Json => object.extend([self.part_json(part).await?]),
            }
        }
        Ok(if output == Output::Json { pretty(&object.into()) } else { text })
    }

    async fn part_text(&self, part: dump::Part) -> Answer {
        match part {
            dump::Part::Kernel => Ok(dump::kernel_text(&self.compare().await?)),
            part => self.ask(move |inside| dump::text(inside, part)).await,
        }
    }

    async fn part_json(&self, part: dump::Part) -> Result<(String, Value), String> {
        match part {
            dump::Part::Kernel => Ok(dump::kernel_json(&self.compare().await?)),
            part => self.ask(move |inside| dump::json(inside, part)).await,
        }
    }

    /// The kernel's tables beside the plan, read again when the plan changed meanwhile: what is on its way is no difference.
    async fn compare(&self) -> Result<Vec<dump::Compared>, String> {
        const TRIES: usize = 3;
        let mut compared = Vec::new();
        let mut wanted = self.wanted().await?;
        for _ in 0..TRIES {
            let before = wanted.clone();
            let read =
                spawn_blocking(move || read_kernel(wanted)).await.map_err(|error| error.to_string())?;
            compared = read.map_err(|error| format!("read the kernel's tables: {error}"))?;
            wanted = self.wanted().await?;
            if wanted == before {
                break;
            }
        }
        Ok(compared)
    }

    async fn wanted(&self) -> Result<Vec<Table>, String> {
        self.ask(|inside| inside.wanted.iter().map(|table| (*table).clone()).collect()).await
    }
}

/// What a trace answers to words, for people or for programs.
///
/// # Errors
/// A sentence that says what in the words cannot be understood.
pub fn answer_trace(
    inside: &Inside<'_>,
    (settings, addresses): (&Settings, &BTreeSet<IpAddr>),
    words: &Words,
    output: Output,
) -> Answer {
    let here = Here { inside, settings, addresses };
    let packet = words.packet(&here).map_err(|error| error.to_string())?;
    let mut traced =
        trace(inside.frontends, (&inside.wanted, addresses), &packet).map_err(|error| error.to_string())?;
    traced.socket = Told::of(&here, &packet);
    Ok(match output {
        Output::Text => traced.to_string(),
        Output::Json => pretty(&traced.json()),
    })
}

/// The addresses that the node has now.
///
/// # Errors
/// When the kernel does not tell.
pub fn own_addresses() -> Result<BTreeSet<IpAddr>, heddle_netlink::Error> {
    let mut socket = Socket::open(Family::Route)?;
    Ok(address::list_all(&mut socket)?.into_iter().map(|found| found.address.ip()).collect())
}

/// The kernel's tables beside the wanted ones.
///
/// # Errors
/// When they cannot be read.
pub fn read_kernel(wanted: Vec<Table>) -> Result<Vec<dump::Compared>, heddle_netlink::Error> {
    let mut kernel = Netlink::open()?;
    dump::Compared::read(wanted, |family| kernel.load(family))
}
