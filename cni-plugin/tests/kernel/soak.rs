//! ADD and DEL in random order, eight at a time, killed at random instructions; then nothing is left.
//!
//! What is random follows from a seed, but for the instruction that a kill meets. `HEDDLE_SOAK=10000` makes as many pairs
//! as that; without it there are enough for every kind of event to come often.

use crate::node::{Node, Pod, addresses};
use heddle_tests::process::{Invocation, Output};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const WORKERS: u64 = 8;
/// Pods of one worker; with those of all others they hold half of the range.
const SLOTS: usize = 12;
const PAIRS: u64 = 480;

/// Steele, Lea and Flood's splitmix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

/// Who holds which address, as the callers know it.
#[derive(Default)]
struct Held(Mutex<BTreeMap<IpAddr, String>>);

impl Held {
    fn given(&self, all: &[IpAddr], container: &str) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for address in all {
            let before = held.insert(*address, container.to_owned());
            assert_eq!(before, None, "{address} is given to {container} and held by another");
        }
    }

    /// Before its DEL begins: from then on the address may be anybody's.
    fn taken_back(&self, container: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, holder| holder != container);
    }
}

/// One pod's network, and the container that is or may be attached to it.
struct Slot {
    pod: Pod,
    port: u16,
    container: Option<String>,
}

struct Worker<'a> {
    node: &'a Node,
    held: &'a Held,
    random: Random,
    number: u64,
    slots: Vec<Slot>,
}

impl<'a> Worker<'a> {
    fn new((node, held): (&'a Node, &'a Held), number: u64) -> Self {
        let slot = |port| Slot { pod: Pod::new(), port, container: None };
        let first = 8000 + 100 * u16::try_from(number).unwrap();
        let slots = (first..).take(SLOTS).map(slot).collect();
        Self { node, held, random: Random(number), number, slots }
    }

    /// As many ADDs as this, each with its DEL, possibly later; then those that are still missing.
    fn work(mut self, pairs: u64) -> Vec<Slot> {
        let mut made = 0;
        while made < pairs {
            let at = usize::try_from(self.random.below(SLOTS as u64)).unwrap();
            if self.slots[at].container.is_some() {
                self.detach(at);
            } else {
                made += 1;
                self.attach(at, format!("c{}-{made}", self.number));
            }
        }
        self.slots
    }

    fn attach(&mut self, at: usize, container: String) {
        let slot = &self.slots[at];
        let call = self.node.call("ADD", &container, &slot.pod.path(), &keys(slot));
        let output = self.perhaps_killed(call);
        assert!(
            output.status.success() || output.status.code().is_none(),
            "only killed ones fail: {}",
            output.stdout
        );
        // One that was killed after its last word has given what it said.
        if !output.stdout.is_empty() {
            self.held.given(&addresses(&output.stdout), &container);
        }
        self.slots[at].container = Some(container);
    }

    fn detach(&mut self, at: usize) {
        let slot = &self.slots[at];
        let container = slot.container.clone().unwrap();
        let path = if self.random.below(2) == 0 { String::new() } else { slot.pod.path() };
        self.held.taken_back(&container);
        let call = self.node.call("DEL", &container, &path, &keys(slot));
        let output = self.perhaps_killed(call);
        assert_eq!(output.stdout, "");
        if output.status.success() {
            self.slots[at].container = None;
        }
    }

    /// One in four is killed, somewhere.
    fn perhaps_killed(&mut self, call: Invocation) -> Output {
        if self.random.below(4) != 0 {
            return call.run(&self.node.namespace).unwrap();
        }
        let mut process = call.start(&self.node.namespace).unwrap();
        // Nothing is asserted about time: the wait only spreads the kills over the whole run.
        let when = Instant::now() + Duration::from_micros(self.random.below(8000));
        while Instant::now() < when {
            thread::yield_now();
        }
        let status = process.kill().unwrap();
        Output { status, stdout: process.stdout(), stderr: process.stderr() }
    }
}

/// Every second pod has a port of the node.
fn keys(slot: &Slot) -> Value {
    let port = json!([{"HostPort": slot.port, "ContainerPort": 80, "Protocol": "udp", "HostIP": ""}]);
    let ports = if slot.port.is_multiple_of(2) { json!({"portMappings": port}) } else { json!({}) };
    json!({"runtimeConfig": ports})
}

fn pairs() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test has no other flags")]
    let asked = std::env::var("HEDDLE_SOAK").ok();
    asked.map_or(PAIRS, |pairs| pairs.parse().unwrap())
}

/// The files below a folder, without the folder's own name.
fn files(node: &Node) -> Vec<String> {
    let find = Invocation::foreign("find").args(["."]).args([node.folder().join("pods")]);
    let find = find.args(["-type", "f", "-printf", "%P\n"]).run(&node.namespace).unwrap();
    let mut files: Vec<_> = find.stdout.lines().map(str::to_owned).collect();
    files.retain(|file| !file.is_empty());
    files.sort();
    files
}

fn elements(node: &Node) -> usize {
    let listed = Invocation::foreign("nft").args(["list", "ruleset"]).run(&node.namespace).unwrap();
    listed.stdout.lines().filter(|line| line.contains("comment \"hdl")).count()
}

/// cni:P1, cni:P2, cni:D1, cni:K1: no address is given twice, and at the end no lease, link, port or file is left.
#[test]
fn pods_come_and_go_and_some_are_killed() {
    let (node, held) = (Node::new(), Held::default());
    let share = pairs().div_ceil(WORKERS);
    let slots: Vec<Slot> = thread::scope(|scope| {
        let start = |number| {
            let worker = Worker::new((&node, &held), number);
            scope.spawn(move || worker.work(share))
        };
        let workers: Vec<_> = (0..WORKERS).map(start).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    // A pod in five gets no DEL, as from a runtime that has forgotten it: GC is for those.
    for (number, slot) in slots.iter().enumerate().filter(|(number, _)| number % 5 != 0) {
        if let Some(container) = &slot.container {
            node.del(container, &slots[number].pod.path(), &keys(slot));
        }
    }
    let left = slots.iter().step_by(5).filter(|slot| slot.container.is_some()).count();
    assert!(node.leases().len() <= left && node.host_links().len() <= left, "{left}: {:?}", node.leases());
    node.gc(&json!({"cni.dev/valid-attachments": []}));
    assert_eq!((node.leases(), node.host_links(), elements(&node)), (Vec::new(), Vec::new(), 0));
    for slot in &slots {
        assert_eq!(slot.pod.ip(&["link"]).as_array().unwrap().len(), 1);
    }
    let (calm, pod) = (Node::new(), Pod::new());
    calm.add("c1", &pod, &json!({}));
    calm.del("c1", &pod.path(), &json!({}));
    assert_eq!(files(&node), files(&calm));
}
