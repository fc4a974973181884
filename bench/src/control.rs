//! The control plane: how a proxy starts, follows a cluster, and what that takes, for any proxy.
//!
//! | module | what it is |
//! |---|---|
//! | [`follow`] | one proxy that follows one cluster |
//! | [`follower`] | a running proxy |
//! | [`probe`] | a client that sees when a change counts |
//! | [`churn`] | changes at a steady pace |
//! | [`own`] | what heddle-proxy says of itself |
//! | [`synclog`] | its log |
//! | [`eye`] | when the kernel's tables change |
//! | [`holding`] | how much the kernel holds |
//! | [`usage`] | CPU time and memory of a program and its children |
//! | [`tell`] | the figures |
//! | [`claims`] | what must hold of them |
//!
//! Proxies follow one after the other, each in a lab of its own. Invariant: what was measured of a proxy at a size is in the report once
//! all of it was.

pub mod churn;
pub mod claims;
pub mod eye;
pub mod follow;
pub mod follower;
pub mod holding;
pub mod own;
pub mod probe;
pub mod synclog;
pub mod tell;
pub mod usage;

use crate::Failure;
use crate::cluster::Size;
use crate::interrupt::Interrupt;
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::plan::loading;
use crate::subjects::Subject;
use std::path::Path;
use tell::Teller;

/// Measures all that the profile has, and adds what was found.
///
/// # Errors
/// When a proxy could not be run, something never happened, or the run is interrupted.
pub fn measure(
    (profile, kube_proxy): (&Profile, Option<&Path>),
    stop: &Interrupt,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    let followed = follow_all((profile, kube_proxy), stop, progress, report);
    claims::add(report);
    followed
}

fn follow_all(
    (profile, kube_proxy): (&Profile, Option<&Path>),
    stop: &Interrupt,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<(), Failure> {
    for &(subject, size) in &profile.follow {
        let what = format!("{} follows an API server with {size}", subject.name());
        progress.step(&what, server_weight((subject, size), profile))?;
        let found = follow::api_server((subject, size), profile, kube_proxy, stop)?;
        Teller::of(subject, size, report).followed(&found);
    }
    for &size in &profile.folders {
        progress.step(&format!("heddle nft reads a folder with {size}"), folder_weight(size))?;
        Teller::of(Subject::Nft, size, report).read(&follow::folder(size, stop)?);
    }
    Ok(())
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(profile: &Profile) -> f64 {
    let servers = profile.follow.iter().map(|&followed| server_weight(followed, profile)).sum::<f64>();
    servers + profile.folders.iter().map(|&size| folder_weight(size)).sum::<f64>()
}

fn server_weight((subject, size): (Subject, Size), profile: &Profile) -> f64 {
    let start = 4.0 + f64::from(size.services) / 4000.0 + f64::from(profile.churn.seconds);
    start
        + match subject.mode() {
            None => f64::from(profile.changes) / 100.0 + f64::from(profile.swaps) / 25.0,
            Some(_) => loading(subject, Some(size)) + (f64::from(profile.swaps) * 3.0).min(60.0),
        }
}

fn folder_weight(size: Size) -> f64 {
    2.0 + f64::from(size.services) / 10_000.0
}
