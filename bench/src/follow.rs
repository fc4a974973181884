//! The control plane: the real `heddle-proxy`, as it starts, follows changes, and repairs.
//!
//! Times come from two places: the proxy's own account of a sync, from objects in memory to the kernel's yes, and a clock
//! beside it, from the write to the API server to the kernel's notification, with all that lies between.

use crate::Failure;
use crate::api::Api;
use crate::cluster::Size;
use crate::eye::{Eye, Holding};
use crate::memory::{self, Resident};
use crate::synclog::{self, Sync};
use heddle_tests::lab::{Lab, Node};
use heddle_tests::patience::eventually;
use heddle_tests::proxy::{Manifests, Proxy};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// More than a loaded machine needs for the largest cluster.
const PATIENCE: Duration = Duration::from_secs(180);
/// After a change, so that the proxy waits again.
const LULL: Duration = Duration::from_millis(2);
/// Before memory is read, so that what is freed with a delay is freed.
const CALM: Duration = Duration::from_millis(1500);
/// Objects in one manifest file.
const TO_A_FILE: usize = 1000;
/// Where heddle-proxy is scraped by default.
const METRICS: u16 = 10_249;
pub(crate) const NODE: &str = "node-1";

/// A proxy that has started.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Seconds from the start of the process until the kernel has everything.
    pub whole: f64,
    /// Seconds of it from the objects in memory to the kernel's yes, as the proxy says.
    pub written: f64,
    /// Seconds of that in which maps for sockets were loaded and filled, where there are such.
    pub filled: Option<f64>,
    /// The memory of these maps by the kernel's count, in MB (10^6 bytes).
    pub maps: Option<f64>,
    /// Memory some time after.
    pub memory: Resident,
}

/// What came of following an API server.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The start.
    pub started: Started,
    /// What the kernel held then.
    pub holding: Holding,
    /// Each changed endpoint: milliseconds from event to the kernel's yes, as the proxy says.
    pub changes: Vec<f64>,
    /// Each changed endpoint: milliseconds from the API server's write to the kernel's notification.
    pub changes_seen: Vec<f64>,
    /// Operations of each change.
    pub operations: Vec<f64>,
    /// Each new Service: milliseconds from the API server's write to the kernel's notification.
    pub additions_seen: Vec<f64>,
    /// Seconds until a removed table was whole again.
    pub repaired: f64,
    /// Memory after all that.
    pub memory: Resident,
}

/// Starts the proxy on an API server with this cluster, and changes it.
///
/// # Errors
/// When something could not be run, or never happened.
pub fn api_server(lab: &Lab, size: Size, (changes, additions): (u32, u32)) -> Result<Followed, Failure> {
    let node = lab.node(NODE)?;
    let server = Api::open(node, size.objects())?;
    let mut eye = Eye::open(node.namespace())?;
    let mut run = Run::start(node, &["--kubeconfig", server.kubeconfig()])?;
    let started = run.started(node)?;
    let holding = eye.count()?;
    let before = run.syncs().len();
    let changed = |serial: u32| size.changed_slice(serial.wrapping_mul(7919) % size.services, serial);
    let (mut changes_seen, mut syncs) = (Vec::new(), Vec::new());
    for serial in 1..=changes {
        changes_seen.push(seen(&server, &eye, changed(serial))?);
        // A commit gives several notifications: the last may come while the next change is awaited, and two would be one.
        syncs = run.syncs_after(before, serial)?;
    }
    let mut additions_seen = Vec::new();
    for number in size.services..size.services + additions {
        // Nobody routes to a slice whose Service is not there.
        server.apply(size.slice(number))?;
        additions_seen.push(seen(&server, &eye, size.service(number))?);
    }
    let repaired = run.repaired(&mut eye)?;
    let memory = run.calm_memory()?;
    run.end(eye)?;
    Ok(Followed {
        started,
        holding,
        changes: syncs.iter().map(|sync| sync.milliseconds).collect(),
        changes_seen,
        operations: syncs.iter().map(|sync| sync.operations).collect(),
        additions_seen,
        repaired,
        memory,
    })
}

/// Starts the proxy on a folder with this cluster.
///
/// # Errors
/// As [`api_server`].
pub fn folder(lab: &Lab, size: Size) -> Result<Started, Failure> {
    let node = lab.node(NODE)?;
    let manifests = write(node, &size.objects().collect::<Vec<_>>())?;
    let eye = Eye::open(node.namespace())?;
    let mut run = Run::start(node, &["--manifests", &manifests.folder()])?;
    let started = run.started(node)?;
    run.end(eye)?;
    Ok(started)
}

/// Puts objects into a node's folder, as JSON.
///
/// # Errors
/// When a file cannot be written.
pub fn write(node: &Node, objects: &[Value]) -> Result<Manifests, Failure> {
    let manifests = Manifests::of(node)?;
    for (number, objects) in objects.chunks(TO_A_FILE).enumerate() {
        manifests.put(&format!("{number:04}.json"), &heddle_tests::objects::list(objects).to_string())?;
    }
    Ok(manifests)
}

/// Writes an object and says after how many milliseconds the kernel has what follows from it.
fn seen(server: &Api, eye: &Eye, object: Value) -> Result<f64, Failure> {
    thread::park_timeout(LULL);
    eye.blink();
    let start = Instant::now();
    server.apply(object)?;
    Ok(milliseconds(eye.next_change(PATIENCE)? - start))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
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

/// A running proxy.
struct Run {
    proxy: Proxy,
    start: Instant,
}

impl Run {
    fn start(node: &Node, source: &[&str]) -> Result<Self, Failure> {
        let verbose = ["-v", "4", "--logging-format", "json"];
        let start = Instant::now();
        Ok(Self { proxy: Proxy::start_with(node, &[source, &verbose].concat())?, start })
    }

    fn syncs(&self) -> Vec<Sync> {
        synclog::read(&self.proxy.log())
    }

    /// Waits for the first sync.
    fn started(&mut self, node: &Node) -> Result<Started, Failure> {
        let (_, sync) = self.await_whole(0)?;
        let whole = self.start.elapsed().as_secs_f64();
        let memory = self.calm_memory()?;
        let filled = synclog::fillings(&self.proxy.log()).first().copied();
        let maps = if filled.is_some() { Some(maps(node)?) } else { None };
        Ok(Started { whole, written: sync.milliseconds / 1e3, filled, maps, memory })
    }

    /// Waits for the next sync of everything after so many syncs.
    fn await_whole(&self, after: usize) -> Result<(usize, Sync), Failure> {
        Ok(eventually("the proxy to write everything", PATIENCE, || {
            let syncs = self.syncs();
            let found = syncs.iter().copied().enumerate().skip(after).find(|(_, sync)| sync.whole);
            found.ok_or_else(|| self.proxy.log())
        })?)
    }

    /// The syncs of single changes after so many others: as many as were asked for.
    fn syncs_after(&self, before: usize, count: u32) -> Result<Vec<Sync>, Failure> {
        let count = usize::try_from(count)?;
        Ok(eventually("the proxy to log its syncs", PATIENCE, || {
            let syncs: Vec<Sync> = self.syncs().into_iter().skip(before).collect();
            if syncs.len() >= count { Ok(syncs) } else { Err(format!("{} of {count}", syncs.len())) }
        })?)
    }

    /// Removes the table and says after how many seconds it is whole.
    fn repaired(&self, eye: &mut Eye) -> Result<f64, Failure> {
        let before = self.syncs().len();
        let start = Instant::now();
        eye.wipe()?;
        self.await_whole(before)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn calm_memory(&mut self) -> Result<Resident, Failure> {
        thread::park_timeout(CALM);
        memory::resident(self.proxy.process().id())
    }

    /// Ends the proxy, and the eye with the notification of the last removal.
    fn end(self, mut eye: Eye) -> Result<(), Failure> {
        drop(self);
        eye.wipe()
    }
}
