//! The control plane's figures: every cluster of the profile, followed once.

use crate::Failure;
use crate::cluster::Size;
use crate::follow::{self, Followed, NODE, Started};
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::stats::{Bound, permille};
use heddle_tests::lab::Lab;

/// The groups of the report.
const SERVER: &str = "control plane, from an API server";
const FOLDER: &str = "control plane, from a folder";

/// Measures all clusters and adds what was found.
///
/// # Errors
/// When the proxy could not be run, or something never happened.
pub fn measure(profile: &Profile, progress: &mut Progress, report: &mut Report) -> Result<(), Failure> {
    for &size in &profile.clusters {
        progress.step(&format!("follow an API server with {size}"), server_weight(size, profile));
        tell(
            size,
            &follow::api_server(&Lab::new(&[NODE])?, size, (profile.changes, profile.additions))?,
            report,
        );
    }
    for &size in &profile.folders {
        progress.step(&format!("read a folder with {size}"), folder_weight(size));
        tell_start(FOLDER, size, &follow::folder(&Lab::new(&[NODE])?, size)?, report);
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

fn tell_start(group: &'static str, size: Size, started: &Started, report: &mut Report) {
    let bounds = Bounds::of(size);
    let mut add = |what: &str, unit, value, must| {
        report.add(Row::single(group, &format!("{size}: {what}"), unit, value).must(must));
    };
    add("process started to kernel committed", "s", started.whole, None);
    add("objects in memory to kernel committed", "s", started.written, bounds.written);
    add("memory after the start", "MB", started.memory.now, bounds.memory);
    add("what of it is no part of the program's file", "MB", started.memory.own, None);
    add("memory at its peak", "MB", started.memory.peak, None);
}

fn tell(size: Size, found: &Followed, report: &mut Report) {
    tell_start(SERVER, size, &found.started, report);
    let bounds = Bounds::of(size);
    let mut add = |row: Row| report.add(Row { what: format!("{size}: {}", row.what), ..row });
    let worst = |values: &[f64]| permille(values, 990).unwrap_or(f64::NAN);
    add(Row::single(SERVER, "memory after the changes", "MB", found.memory.now).must(bounds.memory));
    add(Row::spread(SERVER, "one endpoint: event to kernel committed", "ms", &found.changes));
    add(Row::single(SERVER, "the same, 99th percentile", "ms", worst(&found.changes)).must(bounds.change));
    add(Row::spread(SERVER, "one endpoint: API write to kernel notified", "ms", &found.changes_seen));
    add(Row::single(SERVER, "the same, 99th percentile", "ms", worst(&found.changes_seen)));
    add(Row::spread(SERVER, "one endpoint: kernel operations", "", &found.operations));
    add(Row::spread(SERVER, "new Service: API write to kernel notified", "ms", &found.additions_seen));
    add(Row::single(SERVER, "removed table whole again", "s", found.repaired));
    let held = [
        ("chains", found.holding.chains),
        ("sets and maps", found.holding.sets),
        ("elements", found.holding.elements),
    ];
    for (what, count) in held {
        let count = u32::try_from(count).map_or(f64::NAN, f64::from);
        add(Row::single(SERVER, what, "", count));
    }
}
