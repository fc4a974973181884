//! The control plane's figures: every cluster of the profile, followed once.

use crate::Failure;
use crate::cluster::Size;
use crate::figure::{Figure, Part};
use crate::follow::{self, Followed, NODE, Started};
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::{Claim, Report};
use crate::stats::{Bound, permille};
use heddle_tests::lab::Lab;

/// Where objects are from, in the names of workloads.
const SERVER: &str = "from an API server";
const FOLDER: &str = "from a folder";
/// Who follows, in the report.
const SUBJECT: &str = "heddle nft";

/// Measures all clusters and adds what was found.
///
/// # Errors
/// When the proxy could not be run, something never happened, or the run is interrupted.
pub fn measure(profile: &Profile, progress: &mut Progress, report: &mut Report) -> Result<(), Failure> {
    for &size in &profile.clusters {
        progress.step(&format!("follow an API server with {size}"), server_weight(size, profile))?;
        let lab = Lab::new(&[NODE])?;
        let found = follow::api_server(&lab, size, (profile.changes, profile.additions))?;
        Teller { source: SERVER, size, report }.all(&found);
    }
    for &size in &profile.folders {
        progress.step(&format!("read a folder with {size}"), folder_weight(size))?;
        Teller { source: FOLDER, size, report }.start(&follow::folder(&Lab::new(&[NODE])?, size)?);
    }
    Ok(())
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(profile: &Profile) -> f64 {
    let servers = profile.clusters.iter().map(|&size| server_weight(size, profile)).sum::<f64>();
    servers + profile.folders.iter().map(|&size| folder_weight(size)).sum::<f64>()
}

fn server_weight(size: Size, profile: &Profile) -> f64 {
    4.0 + f64::from(size.services) / 4000.0 + f64::from(profile.changes) / 100.0
}

fn folder_weight(size: Size) -> f64 {
    2.0 + f64::from(size.services) / 10_000.0
}

/// What the design asks of clusters of this size.
struct Bounds {
    written: Option<Bound>,
    change: Option<Bound>,
    memory: Option<Bound>,
}

impl Bounds {
    fn of(size: Size) -> Self {
        let (written, change, memory) = match (size.services, size.endpoints) {
            (10_000, 3) => (Some(0.3), Some(1.0), Some(40.0)),
            (30_000, 4) => (None, None, Some(80.0)),
            (100_000, 3) => (Some(5.0), Some(5.0), None),
            _ => (None, None, None),
        };
        let at_most = |limit: Option<f64>| limit.map(Bound::AtMost);
        Self { written: at_most(written), change: at_most(change), memory: at_most(memory) }
    }
}

/// Tells what one cluster gave.
struct Teller<'a> {
    source: &'static str,
    size: Size,
    report: &'a mut Report,
}

impl Teller<'_> {
    fn figure(&self, workload: &str) -> Figure {
        Figure::new(Part::ControlPlane, workload, SUBJECT).at(self.size)
    }

    /// One value, with what must hold of it.
    fn single(&mut self, workload: &str, (unit, value): (&str, f64), must: Option<Bound>) {
        let figure = self.figure(&format!("{workload}, {}", self.source)).less(unit, &[value]);
        let what = format!("{}: {}", figure.workload, figure.who());
        self.report.claim(must.and_then(|must| Claim::new(&what, unit, &[value], must)));
        self.report.add(figure);
    }

    fn changes(&mut self, workload: &str, unit: &str, values: &[f64]) {
        self.report.add(self.figure(workload).less(unit, values).distribution());
    }

    fn start(&mut self, started: &Started) {
        let bounds = Bounds::of(self.size);
        self.single("process started to kernel committed", ("s", started.whole), None);
        self.single("objects in memory to kernel committed", ("s", started.written), bounds.written);
        self.single("memory after the start", ("MB", started.memory.now), bounds.memory);
        self.single("what of it is no part of the program's file", ("MB", started.memory.own), None);
        self.single("memory at its peak", ("MB", started.memory.peak), None);
    }

    fn all(&mut self, found: &Followed) {
        self.start(&found.started);
        let bounds = Bounds::of(self.size);
        self.single("memory after the changes", ("MB", found.memory.now), bounds.memory);
        self.changes("one endpoint: event to kernel committed", "ms", &found.changes);
        let what = format!("one endpoint: event to kernel committed, 99th percentile: {}", self.size);
        let worst = permille(&found.changes, 990).unwrap_or(f64::NAN);
        self.report.claim(bounds.change.and_then(|must| Claim::new(&what, "ms", &[worst], must)));
        self.changes("one endpoint: API write to kernel notified", "ms", &found.changes_seen);
        self.changes("one endpoint: kernel operations", "operations", &found.operations);
        self.changes("new Service: API write to kernel notified", "ms", &found.additions_seen);
        self.single("removed table whole again", ("s", found.repaired), None);
        let held = &found.holding;
        for (what, count) in
            [("chains", held.chains), ("sets and maps", held.sets), ("elements", held.elements)]
        {
            let count = u32::try_from(count).map_or(f64::NAN, f64::from);
            self.report.add(self.figure("held by the kernel").less(what, &[count]));
        }
    }
}
