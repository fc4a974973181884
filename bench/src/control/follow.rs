//! One proxy that follows one cluster: it starts, single changes come, many come, and all that costs.
//!
//! What counts for any proxy is the first connection that takes the new way. What heddle-proxy says of itself stands beside it, in
//! [`own`].

use crate::Failure;
use crate::api::Api;
use crate::cluster::{self, Size};
use crate::control::churn::{self, Churn};
use crate::control::eye::Eye;
use crate::control::follower::{Follower, Source};
use crate::control::holding::Holding;
use crate::control::own;
use crate::control::probe::Ground;
use crate::control::usage::{Peak, Usage, most_alone};
use crate::interrupt::Interrupt;
use crate::kube_proxy;
use crate::profile::Profile;
use crate::subjects::Subject;
use heddle_tests::lab::Node;
use heddle_tests::objects;
use heddle_tests::proxy::Manifests;
use serde_json::Value;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Before memory is read, so that what is freed with a delay is freed.
const CALM: Duration = Duration::from_millis(1500);
/// After which there are no more than [`FEW`] single changes: some proxies take seconds for one.
const ENOUGH: Duration = Duration::from_secs(60);
const FEW: usize = 3;
/// Objects in one manifest file.
const TO_A_FILE: usize = 1000;

/// A start.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Seconds until a connection through a Service stood.
    pub connected: f64,
    /// Seconds of CPU until then.
    pub cpu: f64,
    /// Memory some time after.
    pub memory: Usage,
    /// The most memory until then, in MB.
    pub peak: f64,
    /// What heddle-proxy says of it.
    pub own: Option<own::Start>,
}

/// What came of following an API server.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The start.
    pub started: Started,
    /// What the kernel held then.
    pub holding: Holding,
    /// What heddle-proxy says of changes.
    pub own: Option<own::Changes>,
    /// Each changed endpoint: milliseconds from the API server's write to the first connection that took the new way.
    pub swaps: Vec<f64>,
    /// Many changes.
    pub churn: Churn,
    /// Memory after all that.
    pub memory: Usage,
}

/// What a start from a folder gave.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// What heddle-proxy says of it.
    pub own: own::Start,
    /// Memory some time after.
    pub memory: Usage,
    /// The most memory until then, in MB.
    pub peak: f64,
}

/// Starts a proxy on an API server with this cluster, and changes it.
///
/// # Errors
/// When something could not be run, or never happened, or the run is interrupted.
pub fn api_server(
    (subject, size): (Subject, Size),
    profile: &Profile,
    kube_proxy: Option<&Path>,
    stop: &Interrupt,
) -> Result<Followed, Failure> {
    let ground = Ground::build(subject.is_at_sockets())?;
    let node = ground.node();
    let probed = [ground.leading_to(0), cluster::probed_service()];
    let api = Api::open(node, size.objects().chain(probed).chain([node.object()]))?;
    let (mut follower, started) = start(subject, &ground, (&api, kube_proxy), stop)?;
    let holding = Holding::of(node)?;
    let amount = (size, profile.changes, profile.additions);
    // Nobody else's notifications can be told apart, and nobody else says what it does.
    let heddle = subject.mode().is_none();
    let own = heddle.then(|| own::changes((&mut follower, node), &api, amount, stop)).transpose()?;
    let (own, mut eye) = own.unzip();
    let swaps = swaps((&ground, &api, &mut follower), profile.swaps, stop)?;
    let churn = churn::run((&ground, &api, &mut follower), (size, profile.churn), stop)?;
    let memory = calm(&mut follower)?;
    drop(follower);
    // With the notification of the last removal the eye's thread ends.
    eye.as_mut().map(Eye::wipe).transpose()?;
    Ok(Followed { started, holding, own, swaps, churn, memory })
}

/// Starts heddle-proxy on a folder with this cluster.
///
/// # Errors
/// As [`api_server`].
pub fn folder(size: Size, stop: &Interrupt) -> Result<Read, Failure> {
    let ground = Ground::build(false)?;
    let node = ground.node();
    let manifests = write(node, &size.objects().collect::<Vec<_>>())?;
    let source = Source::Folder(&manifests.folder());
    let mut follower = Follower::start(Subject::Nft, node, source, None)?;
    let own = own::started(&mut follower, node, stop)?;
    Ok(Read { own, memory: calm(&mut follower)?, peak: most_alone(follower.id())? })
}

/// Puts objects into a node's folder, as JSON.
///
/// # Errors
/// When a file cannot be written.
pub fn write(node: &Node, objects: &[Value]) -> Result<Manifests, Failure> {
    let manifests = Manifests::of(node)?;
    for (number, objects) in objects.chunks(TO_A_FILE).enumerate() {
        manifests.put(&format!("{number:04}.json"), &objects::list(objects).to_string())?;
    }
    Ok(manifests)
}

/// Starts a proxy and waits until it serves.
fn start(
    subject: Subject,
    ground: &Ground,
    (api, program): (&Api, Option<&Path>),
    stop: &Interrupt,
) -> Result<(Follower, Started), Failure> {
    let watch = ground.watch()?;
    let mut follower = Follower::start(subject, ground.node(), Source::Server(api.kubeconfig()), program)?;
    let peak = Peak::watch(follower.id())?;
    let connected = watch.until(0, stop, || follower.check())?.at - follower.start;
    drop(watch);
    let cpu = Usage::of(follower.id())?.cpu;
    let heddle = subject.mode().is_none();
    let own = heddle.then(|| own::started(&mut follower, ground.node(), stop)).transpose()?;
    let memory = calm(&mut follower)?;
    let started = Started { connected: connected.as_secs_f64(), cpu, memory, peak: peak.end()?, own };
    subject.mode().map(|mode| kube_proxy::check_mode(mode, ground.node())).transpose()?;
    Ok((follower, started))
}

/// Leads the probed Service from the first server to the second one and back, so many times.
fn swaps(
    (ground, api, follower): (&Ground, &Api, &mut Follower),
    pairs: u32,
    stop: &Interrupt,
) -> Result<Vec<f64>, Failure> {
    let (start, mut found) = (Instant::now(), Vec::new());
    for _ in 0..pairs {
        if found.len() >= FEW && start.elapsed() > ENOUGH {
            break;
        }
        for (old, new) in [(0, 1), (1, 0)] {
            thread::park_timeout(follower.lull);
            let watch = ground.watch()?;
            watch.until(old, stop, || follower.check())?;
            let write = Instant::now();
            api.apply(ground.leading_to(new))?;
            let answer = watch.until(new, stop, || follower.check())?;
            found.push((answer.at - write).as_secs_f64() * 1e3);
        }
    }
    Ok(found)
}

fn calm(follower: &mut Follower) -> Result<Usage, Failure> {
    thread::park_timeout(CALM);
    follower.check()?;
    Usage::of(follower.id())
}
