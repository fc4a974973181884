//! What heddle-proxy says of itself: its own account of syncs, beside the kernel's notifications of them.
//!
//! Times come from two places: the proxy's log (a sync, from objects in memory to the kernel's yes), and a clock beside it, from the
//! write to the API server to nftables' notification, with all that lies between.

use crate::Failure;
use crate::api::Api;
use crate::cluster::Size;
use crate::control::eye::Eye;
use crate::control::follower::Follower;
use crate::control::synclog::{self, Sync};
use crate::interrupt::Interrupt;
use heddle_tests::lab::Node;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// More than a loaded machine needs for the largest cluster.
const PATIENCE: Duration = Duration::from_secs(180);
/// Where heddle-proxy is scraped by default.
const METRICS: u16 = 10_249;

/// Its start.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Seconds from the start of the process until the kernel had everything.
    pub whole: f64,
    /// Seconds of it from the objects in memory to the kernel's yes.
    pub written: f64,
    /// Seconds of that in which maps for sockets were loaded and filled, where there are such.
    pub filled: Option<f64>,
    /// The memory of these maps by the kernel's count, in MB (10^6 bytes).
    pub maps: Option<f64>,
}

/// Its changes and its repair.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Each changed endpoint: milliseconds from event to the kernel's yes.
    pub synced: Vec<f64>,
    /// The same until clients of the node were led by it at their sockets.
    pub led: Vec<f64>,
    /// Operations of each of these.
    pub operations: Vec<f64>,
    /// Each changed endpoint: milliseconds from the API server's write to the kernel's notification.
    pub seen: Vec<f64>,
    /// Each new Service: the same.
    pub additions: Vec<f64>,
    /// Seconds until a removed table was whole again.
    pub repaired: f64,
}

/// Waits for the first sync of everything.
///
/// # Errors
/// When there is none, or the run is interrupted.
pub fn started(follower: &mut Follower, node: &Node, stop: &Interrupt) -> Result<Start, Failure> {
    let sync = await_whole(follower, 0, stop)?;
    let filled = synclog::fillings(&follower.log()).first().copied();
    let maps = if filled.is_some() { Some(maps(node)?) } else { None };
    let whole = sync.at.duration_since(follower.started_at).as_secs_f64();
    Ok(Start { whole, written: sync.milliseconds / 1e3, filled, maps })
}

/// Of so many changes, one more is seen from beside.
const SEEN: u32 = 3;

/// Changes endpoints one after the other, while nobody else listens to the kernel and then with an eye on it; adds Services, and removes
/// a table.
///
/// # Errors
/// When something never happens, or the run is interrupted.
pub fn changes(
    (follower, node): (&mut Follower, &Node),
    api: &Api,
    (size, changes, additions): (Size, u32, u32),
    stop: &Interrupt,
) -> Result<(Changes, Eye), Failure> {
    let before = follower.syncs().len();
    let mut of_changes = Vec::new();
    for serial in 1..=changes {
        thread::park_timeout(follower.lull);
        api.apply(size.scattered_change(serial))?;
        of_changes = syncs_after(follower, before, serial, stop)?;
    }
    // Who is told of a commit runs before it has ended.
    let mut eye = Eye::open(node.namespace())?;
    let mut seen_after = Vec::new();
    for serial in changes + 1..=changes + changes.div_ceil(SEEN) {
        seen_after.push(seen(follower, (api, &eye), size.scattered_change(serial))?);
        // A change may take several commits: the last may be heard while the next change is awaited, and two would be one.
        syncs_after(follower, before, serial, stop)?;
    }
    let mut added = Vec::new();
    for number in size.services..size.services + additions {
        // Nobody routes to a slice whose Service is not there.
        api.apply(size.slice(number))?;
        added.push(seen(follower, (api, &eye), size.service(number))?);
        stop.check()?;
    }
    let changes = Changes {
        synced: of_changes.iter().map(|sync| sync.milliseconds).collect(),
        led: of_changes.iter().filter_map(|sync| sync.led).collect(),
        operations: of_changes.iter().map(|sync| sync.operations).collect(),
        seen: seen_after,
        additions: added,
        repaired: repaired(follower, &mut eye, stop)?,
    };
    Ok((changes, eye))
}

/// Writes an object and says after how many milliseconds the kernel has what follows from it.
fn seen(follower: &Follower, (api, eye): (&Api, &Eye), object: Value) -> Result<f64, Failure> {
    thread::park_timeout(follower.lull);
    eye.blink();
    let start = Instant::now();
    api.apply(object)?;
    Ok((eye.next_change(PATIENCE)? - start).as_secs_f64() * 1e3)
}

/// Removes the table and says after how many seconds it is whole.
fn repaired(follower: &mut Follower, eye: &mut Eye, stop: &Interrupt) -> Result<f64, Failure> {
    let before = follower.syncs().len();
    let start = Instant::now();
    eye.wipe()?;
    await_whole(follower, before, stop)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Waits for the next sync of everything after so many syncs.
fn await_whole(follower: &mut Follower, after: usize, stop: &Interrupt) -> Result<Sync, Failure> {
    stop.eventually("heddle-proxy to write everything", PATIENCE, || {
        if let Err(ended) = follower.check() {
            return Ok(Err(ended));
        }
        let found = follower.syncs().iter().skip(after).find(|sync| sync.whole).copied();
        found.map(Ok).ok_or_else(|| follower.log())
    })?
}

/// The syncs of single changes after so many others: as many as were asked for.
fn syncs_after(
    follower: &mut Follower,
    before: usize,
    count: u32,
    stop: &Interrupt,
) -> Result<Vec<Sync>, Failure> {
    let count = usize::try_from(count)?;
    stop.eventually("heddle-proxy to log its syncs", PATIENCE, || {
        // One that changed nothing was a look at something else.
        let changes = follower.syncs().iter().skip(before).filter(|sync| sync.operations > 0.0);
        let found: Vec<Sync> = changes.copied().collect();
        if found.len() >= count { Ok(found) } else { Err(format!("{} of {count}", found.len())) }
    })
}

/// The memory of the maps for sockets, as a scrape tells it.
fn maps(node: &Node) -> Result<f64, Failure> {
    let scrape = || -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = node.namespace().enter(scrape)??;
    let mut lines = answer.lines().filter_map(|line| line.strip_prefix("heddle_proxy_sockets_map_bytes "));
    let bytes: f64 = lines.next().ok_or("no memory of maps in the metrics")?.parse()?;
    Ok(bytes / 1e6)
}
