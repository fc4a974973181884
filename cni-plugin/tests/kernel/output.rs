//! What goes out: on stdout, on stderr and into the log.

use crate::node::{Node, PLUGIN, Pod};
use heddle_tests::process::Invocation;
use serde_json::json;

/// cni:E1: who starts it by hand hears what it is; stdin is not read, and nothing goes to stdout.
#[test]
fn without_a_command_it_says_what_it_is() {
    let node = Node::new();
    let output = node.program().run(&node.namespace).unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(output.stderr.contains("a CNI plugin") && output.stderr.contains("1.1.0"), "{}", output.stderr);
}

/// cni:O7, cni:A4: an ADD whose result cannot be written has failed, and leaves nothing.
#[test]
fn an_add_that_nobody_hears_of_is_taken_back() {
    let (node, pod) = (Node::new(), Pod::new());
    let full = Invocation::foreign("sh").args(["-c", "exec \"$0\" >/dev/full", PLUGIN]);
    let output = node.call_by(full, "ADD", ("c1", &pod.path()), &json!({})).run(&node.namespace).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((node.host_links().len(), node.leases().len()), (0, 0));
    assert_eq!(pod.ip(&["link"]).as_array().unwrap().len(), 1);
}

/// cni:O7: the runtime went away before it read the result.
#[test]
fn a_reader_that_went_away_is_no_panic() {
    let (node, pod) = (Node::new(), Pod::new());
    // The pipe's only reader ends at once, and what it leaves is waited for.
    let gone = Invocation::foreign("bash").args(["-c", "exec 3> >(:); wait $!; \"$0\" >&3", PLUGIN]);
    let output = node.call_by(gone, "ADD", ("c1", &pod.path()), &json!({})).run(&node.namespace).unwrap();
    assert_eq!((output.status.code(), output.stderr.as_str()), (Some(1), ""));
    assert_eq!((node.host_links().len(), node.leases().len()), (0, 0));
}

/// cni:O6: runtimes throw stderr away, so what happened is in a file of its own.
#[test]
fn the_log_has_a_line_for_each_call_but_those_that_are_asked_all_the_time() {
    let (node, pod) = (Node::new(), Pod::new());
    let log = node.folder().join("log");
    let config = json!({"logFile": log});
    node.add("c1", &pod, &config);
    node.status(&config);
    node.fails(103, "ADD", ("c1", &pod.path()), &config);
    node.del("c1", &pod.path(), &config);
    let text = std::fs::read_to_string(&log).unwrap();
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').skip(1).take(3).collect()).collect();
    assert_eq!(
        words,
        [["ADD", "pods/c1/eth0", "ok"], ["ADD", "pods/c1/eth0", "failed"], ["DEL", "pods/c1/eth0", "ok"]]
    );
    assert!(text.lines().nth(1).unwrap().contains("\"code\":103"), "{text}");
    node.add("c1", &pod, &json!({"logFile": "/proc/nowhere"}));
}
