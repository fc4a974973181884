//! A node with a folder on disk, and pods that come and go on it.

use super::plugin::{Call, Chain, finish};
use crate::Failure;
use heddle_netlink::link::{self, Which};
use heddle_netlink::{Batch, Family, Socket};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::{PATIENCE, eventually};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

/// A node on which a chain attaches pods.
#[derive(Debug)]
pub(super) struct Place {
    node: Namespace,
    chain: Chain,
    folder: TempDir,
    made: u32,
}

impl Place {
    pub(super) fn new(mut chain: Chain) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        chain.keep_in(folder.path());
        Ok(Self { node: Namespace::new("node")?, chain, folder, made: 0 })
    }

    /// Where leases are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Milliseconds of an ADD and of its DEL.
    pub(super) fn add_and_del(&mut self) -> Result<(f64, f64), Failure> {
        let pod = self.pod()?;
        let container = format!("c{}", self.made);
        let add = self.timed("ADD", &container, &pod.path())?;
        Ok((add, self.timed("DEL", &container, &pod.path())?))
    }

    /// Milliseconds that the kernel takes to remove the link of a pod, asked by a process that has its socket already.
    pub(super) fn remove_link(&mut self) -> Result<f64, Failure> {
        let pod = self.pod()?;
        let container = format!("c{}", self.made);
        self.timed("ADD", &container, &pod.path())?;
        let removed = self.node.enter(|| {
            let mut socket = Socket::open(Family::Route)?;
            let port = link::list(&mut socket, "veth")?.pop().ok_or("the pod has no link")?;
            let mut batch = Batch::new();
            link::delete(&mut batch, Which::Index(port.index));
            let start = Instant::now();
            socket.request(&mut batch)?;
            Ok::<_, Failure>(milliseconds(start))
        })??;
        self.timed("DEL", &container, &pod.path())?;
        Ok(removed)
    }

    /// Megabytes that the first plugin has when it has done everything, and its result does not go into a full pipe.
    pub(super) fn peak(&self) -> Result<f64, Failure> {
        let pod = Namespace::new("pod")?;
        let path = pod.path();
        let call = Call { command: "ADD", container: "measured", namespace: &path };
        let status = self.node.enter(|| self.chain.stopped_at_its_result(call, status))??;
        self.node.enter(|| self.chain.run(Call { command: "DEL", ..call }))??;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        let kilobytes: f64 = peak.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    fn pod(&mut self) -> Result<Namespace, Failure> {
        self.made += 1;
        Ok(Namespace::new("pod")?)
    }

    fn timed(&self, command: &str, container: &str, namespace: &Path) -> Result<f64, Failure> {
        self.node.enter(|| {
            let start = Instant::now();
            self.chain.run(Call { command, container, namespace })?;
            Ok(milliseconds(start))
        })?
    }
}

/// What the kernel says of a process once it waits for room in a pipe.
fn status(process: u32) -> Result<String, Failure> {
    eventually("the plugin to write its result", PATIENCE, || {
        let waits = fs::read_to_string(format!("/proc/{process}/wchan")).map_err(|e| e.to_string())?;
        if waits.contains("pipe_write") { Ok(()) } else { Err(waits) }
    })?;
    Ok(fs::read_to_string(format!("/proc/{process}/status"))?)
}

/// Seconds until so many ADDs, all started at once on a new node, have ended.
pub(super) fn burst(chain: &Chain, count: u32) -> Result<f64, Failure> {
    let place = Place::new(chain.clone())?;
    let pods = (0..count).map(|_| Namespace::new("pod")).collect::<Result<Vec<_>, _>>()?;
    let paths: Vec<_> =
        pods.iter().map(|pod| (format!("c{}", pod.path().display()).replace('/', "-"), pod.path())).collect();
    place.node.enter(|| {
        let start = Instant::now();
        let call = |(container, namespace): &(String, PathBuf)| {
            place.chain.start_first(Call { command: "ADD", container, namespace })
        };
        let running = paths.iter().map(call).collect::<Result<Vec<_>, _>>()?;
        running.into_iter().try_for_each(|child| finish(child).map(drop))?;
        Ok(start.elapsed().as_secs_f64())
    })?
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
