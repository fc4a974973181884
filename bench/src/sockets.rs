//! The control plane at sockets: how a proxy that serves them follows a cluster.
//!
//! A change counts once packets and sockets have it. What a connection costs then is the data plane's.

use crate::Failure;
use crate::cluster::Size;
use crate::figure::{Figure, Part};
use crate::follow::{self, Followed, NODE};
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::{Claim, Report};
use crate::stats::{Bound, permille};
use heddle_tests::lab::Lab;

/// Who follows, in the report.
const SUBJECT: &str = "heddle ebpf";

/// Measures all clusters that the profile has for it, and adds what was found.
///
/// # Errors
/// When the proxy could not be run, something never happened, or the run is interrupted.
pub fn measure(profile: &Profile, progress: &mut Progress, report: &mut Report) -> Result<(), Failure> {
    for &size in &profile.at_sockets {
        progress.step(&format!("follow an API server with {size}, at sockets"), following(size))?;
        let lab = Lab::with_sockets(&[NODE])?;
        tell(size, &follow::api_server(&lab, size, (profile.changes, 0))?, report);
    }
    Ok(())
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(profile: &Profile) -> f64 {
    profile.at_sockets.iter().copied().map(following).sum()
}

fn following(size: Size) -> f64 {
    6.0 + f64::from(size.services) / 4000.0
}

/// What sockets take, and how long a change takes to count, packets and sockets together.
fn tell(size: Size, found: &Followed, report: &mut Report) {
    let is = |services, endpoints| (size.services, size.endpoints) == (services, endpoints);
    let at_most = |holds: bool, limit: f64| holds.then_some(Bound::AtMost(limit));
    let (large, usual) = (is(30_000, 4), is(10_000, 3));
    let figure = |workload: &str| Figure::new(Part::ControlPlane, workload, SUBJECT).at(size);
    let mut add = |what: &str, unit, value: Option<f64>, must: Option<Bound>| {
        let figure = figure(what).less(unit, &[value.unwrap_or(f64::NAN)]);
        let claimed = format!("{what}: {}", figure.who());
        report.claim(must.and_then(|must| Claim::new(&claimed, unit, &figure.values, must)));
        report.add(figure);
    };
    add("maps loaded and filled", "s", found.started.filled, at_most(large, 0.3));
    add("memory of the maps", "MB", found.started.maps, at_most(large, 20.0));
    add(
        "memory after the start, from an API server",
        "MB",
        Some(found.started.memory.now),
        at_most(large, 80.0),
    );
    let changes = figure("one endpoint: event to kernel committed").less("ms", &found.changes).distribution();
    let what = format!("{}, 99th percentile: {}", changes.workload, changes.who());
    let worst = permille(&changes.values, 990).unwrap_or(f64::NAN);
    report.claim(at_most(usual, 0.2).and_then(|must| Claim::new(&what, "ms", &[worst], must)));
    report.add(changes);
}
