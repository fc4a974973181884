//! Killed before each of its system calls, and each of them refused: by strace, which does to a program what rarely
//! happens.

use crate::node::{Node, Pod};
use heddle_tests::process::{Invocation, Output};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What an ADD does to the machine, and what it learns from it; the rest is the program's start and memory.
const CALLS: [&str; 18] = [
    "bind",
    "close",
    "fallocate",
    "flock",
    "getsockname",
    "mkdir",
    "openat",
    "pread64",
    "pwrite64",
    "recvfrom",
    "rename",
    "sendto",
    "setns",
    "setsockopt",
    "socket",
    "statx",
    "unlink",
    "write",
];
/// Threads that share the work.
const SHARES: usize = 4;

/// The plugin under strace, with these options.
fn traced(node: &Node, options: &[String], (command, pod): (&str, &Pod), extra: &Value) -> Output {
    let strace =
        Invocation::foreign("strace").args(["-qq"]).args(options).args([env!("CARGO_BIN_EXE_heddle-cni")]);
    node.call_by(strace, command, ("c1", &pod.path()), extra).run(&node.namespace).unwrap()
}

/// Every call of an ADD that succeeds, as its name and its number among those of that name.
fn calls(extra: &Value) -> Vec<(String, usize)> {
    let (node, pod) = (Node::new(), Pod::new());
    let trace = node.file("trace", "");
    let options = ["-o".to_owned(), trace.display().to_string(), format!("--trace={}", CALLS.join(","))];
    assert!(traced(&node, &options, ("ADD", &pod), extra).status.success());
    let mut counts = BTreeMap::new();
    let trace = fs::read_to_string(trace).unwrap();
    let numbered = |line: &str| {
        let name = line.split('(').next().unwrap().to_owned();
        let count = counts.entry(name.clone()).or_insert(0);
        *count += 1;
        (name, *count)
    };
    trace.lines().filter(|line| line.contains('(')).map(numbered).collect()
}

fn injected((name, number): &(String, usize), what: &str) -> [String; 4] {
    let (trace, inject) = (format!("--trace={name}"), format!("--inject={name}:{what}:when={number}"));
    ["-o".to_owned(), "/dev/null".to_owned(), trace, inject]
}

fn is_clean(node: &Node, pod: &Pod, why: &str) {
    assert_eq!((node.leases(), node.host_links()), (Vec::new(), Vec::new()), "{why}");
    assert_eq!(pod.ip(&["link"]).as_array().unwrap().len(), 1, "{why}");
    let elements = Invocation::foreign("nft").args(["list", "ruleset"]).run(&node.namespace).unwrap();
    assert!(!elements.stdout.contains("comment \"hdl"), "{why}: {}", elements.stdout);
}

fn one_port() -> Value {
    let port = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    json!({"runtimeConfig": {"portMappings": port}})
}

/// Does it for every call, some of them at once.
fn for_each_call(extra: &Value, work: impl Fn(&(String, usize)) + Sync) {
    let calls = calls(extra);
    assert!(calls.len() > 80, "{calls:?}");
    thread::scope(|scope| {
        for share in 0..SHARES {
            let (calls, work) = (&calls, &work);
            scope.spawn(move || calls.iter().skip(share).step_by(SHARES).for_each(work));
        }
    });
}

/// cni:P2, cni:D1, cni:#30: DEL or GC finds whatever there is, and the next ADD works.
#[test]
fn killed_before_any_system_call_an_add_leaves_what_del_and_gc_find() {
    let kills = AtomicUsize::new(0);
    for_each_call(&one_port(), |call| {
        let (node, pod) = (Node::new(), Pod::new());
        let killed = traced(&node, &injected(call, "signal=KILL"), ("ADD", &pod), &one_port());
        kills.fetch_add(usize::from(!killed.status.success()), Ordering::Relaxed);
        if call.1 % 2 == 0 {
            node.gc(&json!({"cni.dev/valid-attachments": []}));
        } else {
            node.del("c1", &pod.path(), &json!({}));
        }
        is_clean(&node, &pod, &format!("{call:?}"));
        node.add("c2", &pod, &one_port());
    });
    // What the kernel has to be asked differs a little from run to run.
    assert!(kills.into_inner() > 80);
}

/// cni:A4, cni:O3, cni:O4: whichever system call is refused, an ADD succeeds all the same, or it fails with one document
/// and the node is as it was.
#[test]
fn refused_any_system_call_an_add_fails_with_one_document_and_leaves_nothing() {
    for_each_call(&one_port(), |call| {
        let (node, pod) = (Node::new(), Pod::new());
        let output = traced(&node, &injected(call, "error=EIO"), ("ADD", &pod), &one_port());
        let why = format!("{call:?}: {output:?}");
        if output.status.success() {
            node.del("c1", &pod.path(), &json!({}));
        } else if call.0 != "write" {
            let document: Value =
                serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {why}"));
            assert!(document["code"].is_u64() && output.status.code() == Some(1), "{why}");
        }
        is_clean(&node, &pod, &why);
    });
}

/// cni:#18: an interrupted call is made again.
#[test]
fn interrupted_at_any_system_call_an_add_succeeds() {
    for_each_call(&one_port(), |call| {
        if !["openat", "pread64", "pwrite64", "recvfrom", "sendto"].contains(&call.0.as_str()) {
            return;
        }
        let (node, pod) = (Node::new(), Pod::new());
        let output = traced(&node, &injected(call, "error=EINTR"), ("ADD", &pod), &one_port());
        assert!(output.status.success(), "{call:?}: {output:?}");
    });
}
