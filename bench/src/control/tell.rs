//! The figures of a proxy that followed a cluster, by name and unit.

use crate::cluster::Size;
use crate::control::churn::Churn;
use crate::control::follow::{Followed, Read, Started};
use crate::control::holding::Holding;
use crate::control::own;
use crate::control::usage::Usage;
use crate::figure::{Figure, Part};
use crate::report::Report;
use crate::subjects::Subject;

/// Where objects are from, in the names of workloads.
const SERVER: &str = "from an API server";
const FOLDER: &str = "from a folder";
/// How long heddle-proxy takes to tell the kernel of a cluster.
pub const WRITTEN: &str = "objects in memory to kernel committed";
/// The same of one change.
pub const CHANGED: &str = "one endpoint: event to kernel committed";
/// The same until sockets lead by it.
pub const LED: &str = "one endpoint: event to sockets";
/// What a proxy holds.
pub const MEMORY: &str = "memory after the start";
/// What it holds later.
pub const MEMORY_LATER: &str = "memory after the changes";
/// What sockets take beside packets.
pub const FILLED: &str = "maps loaded and filled";
/// What the kernel holds for sockets.
pub const MAPS: &str = "memory of the maps";

/// Tells what one proxy gave at one size.
pub struct Teller<'a> {
    subject: Subject,
    size: Size,
    report: &'a mut Report,
}

impl<'a> Teller<'a> {
    /// Tells it to a report.
    pub fn of(subject: Subject, size: Size, report: &'a mut Report) -> Self {
        Self { subject, size, report }
    }

    /// All of a proxy that followed an API server.
    pub fn followed(&mut self, found: &Followed) {
        self.started(&found.started);
        self.holding(&found.holding);
        if let Some(own) = &found.own {
            self.own_changes(own);
        }
        self.each("one endpoint: API write to first connection", "ms", &found.swaps);
        self.churn(&found.churn);
        self.single(&from(MEMORY_LATER, SERVER), "MB", found.memory.now);
    }

    /// All of a start from a folder.
    pub fn read(&mut self, found: &Read) {
        self.own_start(&found.own, FOLDER);
        self.memory(&found.memory, found.peak, FOLDER);
    }

    fn started(&mut self, started: &Started) {
        self.single("process started to first connection", "s", started.connected);
        self.single("start", "s of CPU", started.cpu);
        if let Some(own) = &started.own {
            self.own_start(own, SERVER);
        }
        self.memory(&started.memory, started.peak, SERVER);
    }

    fn memory(&mut self, memory: &Usage, peak: f64, source: &str) {
        self.single(&from(MEMORY, source), "MB", memory.now);
        self.single(&from("what of it is no part of the program's file", source), "MB", memory.own);
        self.single(&from("memory at its peak", source), "MB", peak);
    }

    fn own_start(&mut self, own: &own::Start, source: &str) {
        self.single(&from("process started to kernel committed", source), "s", own.whole);
        self.single(&from(WRITTEN, source), "s", own.written);
        for (what, unit, value) in [(FILLED, "s", own.filled), (MAPS, "MB", own.maps)] {
            if let Some(value) = value {
                self.single(what, unit, value);
            }
        }
    }

    fn own_changes(&mut self, own: &own::Changes) {
        self.each(CHANGED, "ms", &own.synced);
        if !own.led.is_empty() {
            self.each(LED, "ms", &own.led);
        }
        self.each("one endpoint: API write to kernel notified", "ms", &own.seen);
        self.each("one endpoint: kernel operations", "operations", &own.operations);
        self.each("new Service: API write to kernel notified", "ms", &own.additions);
        self.single(&from("removed table whole again", SERVER), "s", own.repaired);
    }

    fn holding(&mut self, held: &Holding) {
        let Holding { tables, chains, rules, sets, elements } = *held;
        let counts = [
            ("tables", tables),
            ("chains", chains),
            ("rules", rules),
            ("sets and maps", sets),
            ("elements", elements),
        ];
        for (what, count) in counts {
            self.single("held by the kernel", what, u32::try_from(count).map_or(f64::NAN, f64::from));
        }
    }

    fn churn(&mut self, churn: &Churn) {
        let seen = self.figure("churn: changes that count before the next one").more("%", &[churn.seen]);
        let rate = self.figure("churn").more("changes written a s", &[churn.rate]);
        self.report.add(rate);
        self.report.add(seen);
        self.single("churn: last API write to first connection", "ms", churn.behind);
        self.single("churn: CPU of the proxy for a change", "ms of CPU", churn.cpu);
    }

    fn single(&mut self, workload: &str, unit: &str, value: f64) {
        let figure = self.figure(workload).less(unit, &[value]);
        self.report.add(figure);
    }

    /// One value a change.
    fn each(&mut self, workload: &str, unit: &str, values: &[f64]) {
        let figure = self.figure(workload).less(unit, values).distribution();
        self.report.add(figure);
    }

    fn figure(&self, workload: &str) -> Figure {
        Figure::new(Part::ControlPlane, workload, self.subject.name()).at(self.size)
    }
}

/// The name of a workload whose objects come from somewhere.
fn from(what: &str, source: &str) -> String {
    format!("{what}, {source}")
}
