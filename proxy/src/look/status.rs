//! How the process does, as a table or as JSON.

mod counted;

use super::Inside;
use super::protocol::VERSION;
use crate::door::shown;
use crate::ebpf::tally::Sums;
use crate::ebpf::view::Held;
use crate::ebpf::{State, Told, View};
use crate::frontends::IpFamily;
use crate::health::{FamilyReport, Report};
use crate::history::History;
use crate::model::{Kind, Size};
use crate::problems::Problem;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt;

/// What the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Name of the node.
    pub node: String,
    /// How packets are routed.
    pub mode: String,
    /// When it was started.
    pub started: Timestamp,
}

/// How much the agent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// The kinds still awaited.
    pub awaited: Vec<Kind>,
    /// How much of the cluster.
    pub size: Size,
    /// How many frontends.
    pub frontends: usize,
    /// Each wanted table, and how many elements are in its sets.
    pub tables: Vec<(String, usize)>,
    /// What it did and heard.
    pub history: History,
    /// What the maps hold; `None` where sockets are not served, or the kernel does not tell.
    pub sockets: Option<Held>,
}

impl Holds {
    /// Counted now.
    pub fn of(inside: &Inside<'_>) -> Self {
        let table = |table: &&heddle_netlink::nft::Table| {
            let elements = table.sets.values().map(|set| set.elements.len()).sum();
            (format!("{} {}", table.family, table.name), elements)
        };
        Self {
            awaited: inside.model.awaited().collect(),
            size: inside.model.size(),
            frontends: inside.frontends.len(),
            tables: inside.wanted.iter().map(table).collect(),
            history: inside.history.clone(),
            sockets: inside.sockets.filter(View::is_serving).and_then(|sockets| sockets.held().ok()),
        }
    }
}

/// How the process does.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is.
    pub process: Process,
    /// What probes are told.
    pub health: Report,
    /// What it holds.
    pub holds: Holds,
    /// Who serves sockets; `None` where they are not to be served.
    pub sockets: Option<Told>,
    /// What was counted there since the start.
    pub counted: Option<Sums>,
    /// What is wrong with objects, and since when.
    pub problems: Vec<(Problem, Timestamp)>,
    /// When this was asked.
    pub now: Timestamp,
}

impl Status {
    fn ago(&self, then: Timestamp) -> String {
        shown::ago(self.now, then)
    }

    fn state(&self) -> &'static str {
        match &self.holds.history {
            _ if !self.holds.awaited.is_empty() => "waiting: nothing is written before all is known",
            history if !history.failing.is_empty() => "failing: it is tried again",
            history if history.last.is_none() => "starting",
            _ => "in sync",
        }
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let history = &self.holds.history;
        let heard = history.heard.iter().map(|(kind, at)| (kind.to_string(), at.to_string().into()));
        let tables = self.holds.tables.iter().map(|(name, elements)| (name.clone(), (*elements).into()));
        let problem = |(problem, since): &(Problem, Timestamp)| {
            json!({
                "object": problem.subject.to_string(),
                "reason": problem.reason.to_string(),
                "text": problem.text,
                "since": since.to_string(),
            })
        };
        json!({
            "version": VERSION,
            "node": self.process.node,
            "mode": self.process.mode,
            "started": self.process.started.to_string(),
            "now": self.now.to_string(),
            "state": self.state(),
            "health": self.health_json(),
            "lastSync": history.last.map(|last| json!({
                "at": last.at.to_string(),
                "seconds": last.took.as_secs_f64(),
                "operations": last.operations,
            })),
            "syncs": history.syncs,
            "failedSyncs": history.failed,
            "failing": history.failing,
            "repairs": history.repairs,
            "lastRepair": history.repaired.map(|at| at.to_string()),
            "awaited": self.holds.awaited.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "heard": heard.collect::<serde_json::Map<String, Value>>(),
            "services": self.holds.size.services,
            "slices": self.holds.size.slices,
            "endpoints": self.holds.size.endpoints,
            "frontends": self.holds.frontends,
            "elements": tables.collect::<serde_json::Map<String, Value>>(),
            "sockets": self.sockets.as_ref().map(|told| self.sockets_json(told)),
            "problems": self.problems.iter().map(problem).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (process, holds) = (&self.process, &self.holds);
        writeln!(f, "heddle-proxy {VERSION} on {}, mode {}", process.node, process.mode)?;
        writeln!(f, "state      {}", self.state())?;
        writeln!(f, "started    {} ({})", process.started, self.ago(process.started))?;
        self.write_health(f)?;
        self.write_syncs(f)?;
        if !holds.awaited.is_empty() {
            let awaited: Vec<String> = holds.awaited.iter().map(ToString::to_string).collect();
            writeln!(f, "awaited    {}", awaited.join(", "))?;
        }
        let heard: Vec<String> =
            holds.history.heard.iter().map(|(kind, at)| format!("{kind} {}", self.ago(*at))).collect();
        writeln!(
            f,
            "heard      {}",
            if heard.is_empty() { "nothing yet".to_owned() } else { heard.join(", ") }
        )?;
        let Size { services, slices, endpoints } = holds.size;
        writeln!(f, "holds      {services} Services, {slices} EndpointSlices with {endpoints} endpoints")?;
        writeln!(f, "serves     {} frontends", holds.frontends)?;
        for (table, elements) in &holds.tables {
            writeln!(f, "table      {table}, {elements} elements")?;
        }
        self.sockets.as_ref().map_or(Ok(()), |told| self.write_sockets(f, told))?;
        self.counted.as_ref().map_or(Ok(()), |sums| counted::write(f, sums))?;
        if self.problems.is_empty() {
            return writeln!(f, "problems   none");
        }
        writeln!(f, "problems   {}", self.problems.len())?;
        self.problems.iter().try_for_each(|(problem, since)| {
            writeln!(f, "  {problem} ({}, {})", problem.reason, self.ago(*since))
        })
    }
}

impl Status {
    /// When a family was last written, by this moment's clock.
    fn written(&self, family: &FamilyReport) -> Option<Timestamp> {
        family.written.and_then(|ago| self.now.checked_sub(ago).ok())
    }

    fn health_json(&self) -> Value {
        let family = |(family, state): (&IpFamily, &FamilyReport)| {
            let written = self.written(state).map(|at| at.to_string());
            (family.name().to_owned(), json!({"healthy": state.is_healthy, "written": written}))
        };
        json!({
            "healthy": self.health.is_healthy(),
            "ready": self.health.is_ready(),
            "nodeEligible": self.health.is_eligible,
            "families": self.health.families.iter().map(family).collect::<serde_json::Map<_, _>>(),
        })
    }

    fn write_health(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = |is: bool, what: &'static str, not: &'static str| if is { what } else { not };
        let health = &self.health;
        let verdicts = [
            is(health.is_healthy(), "healthy", "unhealthy"),
            is(health.is_ready(), "ready", "not ready"),
            is(health.is_eligible, "the node is eligible", "the node is not eligible (/healthz fails)"),
        ];
        writeln!(f, "health     {}", verdicts.join(", "))?;
        health.families.iter().try_for_each(|(family, state)| {
            let written = self
                .written(state)
                .map_or("not written yet".to_owned(), |at| format!("written {}", self.ago(at)));
            writeln!(f, "{:<10} {}, {written}", family.name(), is(state.is_healthy, "healthy", "unhealthy"))
        })
    }

    fn sockets_json(&self, told: &Told) -> Value {
        let (state, why) = match &told.state {
            State::Waiting => ("waiting", None),
            State::Serving => ("serving", None),
            State::Packets(why) => ("packets", Some(why)),
        };
        let held = self.holds.sockets;
        json!({
            "state": state,
            "why": why,
            "frontends": told.frontends,
            "cgroup": told.cgroup,
            "podsTracked": told.tracked,
            "podsLeftOut": told.left_out,
            "podsNotLeftOut": told.not_left_out,
            "rows": held.map(|held| held.rows),
            "slots": held.map(|held| held.slots),
            "bytes": held.map(|held| held.bytes),
            "counted": self.counted.as_ref().map(counted::json),
            "takeovers": told.takeovers,
            "failures": told.failures,
            "probes": told.probes,
            "failedProbes": told.failed_probes,
        })
    }

    fn write_sockets(&self, f: &mut fmt::Formatter<'_>, told: &Told) -> fmt::Result {
        match &told.state {
            State::Waiting => return writeln!(f, "sockets    not served yet"),
            State::Packets(why) => {
                return writeln!(f, "sockets    not served, packets are (nftables): {why}");
            }
            State::Serving => {}
        }
        let cgroup = told.cgroup.as_deref().map(|path| format!(" of {}", path.display())).unwrap_or_default();
        writeln!(f, "sockets    those{cgroup} are served, {} frontends", told.frontends)?;
        match &told.tracked {
            Some(why) => writeln!(f, "pods       connections between them are tracked: {why}")?,
            None => writeln!(f, "pods       connections between them are not tracked")?,
        }
        write_left_out(f, told)?;
        let Some(Held { rows, slots, bytes }) = self.holds.sockets else { return Ok(()) };
        writeln!(f, "maps       {rows} rows, {slots} slots, {} KiB by the kernel's count", bytes / 1024)
    }

    fn write_syncs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let history = &self.holds.history;
        match history.last {
            None => writeln!(f, "last sync  none yet")?,
            Some(last) => {
                let (at, took, operations) = (self.ago(last.at), last.took, last.operations);
                writeln!(f, "last sync  {} ({at}), {operations} operations in {took:.1?}", last.at)?;
            }
        }
        writeln!(f, "syncs      {}, of which {} failed", history.syncs, history.failed)?;
        history.failing.iter().try_for_each(|failure| writeln!(f, "failing    {failure}"))?;
        match history.repaired {
            None => writeln!(f, "drift      none"),
            Some(at) => {
                writeln!(f, "drift      undone {} times, last {at} ({})", history.repairs, self.ago(at))
            }
        }
    }
}

/// Says which pods packets serve, where some are to be left out.
fn write_left_out(f: &mut fmt::Formatter<'_>, told: &Told) -> fmt::Result {
    if told.left_out.is_empty() {
        return Ok(());
    }
    let addresses: Vec<String> = told.left_out.iter().map(ToString::to_string).collect();
    write!(f, "left out   {}", addresses.join(", "))?;
    told.not_left_out.as_ref().map_or(Ok(()), |why| write!(f, "; not all of them yet: {why}"))?;
    writeln!(f)
}
