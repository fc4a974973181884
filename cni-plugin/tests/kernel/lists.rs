//! Whole configuration lists, gone through as runtimes do: the plugin alone, and beside Debian's reference plugins.

use crate::attach::reaches;
use crate::node::{Node, Pod, addresses, setting};
use heddle_tests::cni::{Attachment, Failure, Level, List, Runtime};
use heddle_tests::traffic::{Server, Transport};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

fn runtime(node: &Node) -> Runtime {
    let ours = Path::new(env!("CARGO_BIN_EXE_heddle-cni")).parent().unwrap();
    Runtime::new(&node.namespace, [ours, Path::new(REFERENCE)])
}

/// A list of ours between these, in every version from 0.4.0 on that the runtime knows.
fn list(node: &Node, (before, after): (&[Value], &[Value]), extra: &Value) -> Value {
    let ours = node
        .config(&json!({"capabilities": {"cgroupPath": true, "io.kubernetes.cri.pod-annotations": true}}));
    let plugins: Vec<_> = before.iter().chain([&ours]).chain(after).collect();
    let mut list = json!({"name": "pods", "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "plugins": plugins});
    list.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    list
}

fn alone(node: &Node, level: Level) -> List {
    List::read(&list(node, (&[], &[]), &json!({})), level).unwrap()
}

fn clean(node: &Node) {
    assert_eq!((node.host_links(), node.leases()), (Vec::new(), Vec::new()));
}

/// cni:L2, cni:E8, cni:D4, cni:#29: all of a pod's life by the one and the other library, its arguments in each order that
/// containerd may send.
#[test]
fn a_pod_lives_through_every_command_of_either_library() {
    let node = Node::new();
    for (level, version) in [(Level::Old, "1.0.0"), (Level::New, "1.1.0")] {
        let (mut runtime, list) = (runtime(&node), alone(&node, level));
        assert_eq!(list.version(), version);
        runtime.status(&list).unwrap();
        for turn in 0..10 {
            let pod = Pod::new();
            let attachment = Attachment::new(&format!("c{turn}"), &pod.path()).of_containerd(turn);
            let added = runtime.add(&list, &attachment).unwrap();
            assert_eq!((&added["cniVersion"], addresses(&added.to_string()).len()), (&json!(version), 2));
            assert!(
                node.ip(&["link", "show", "master", "cni0"])[0]["ifalias"]
                    .as_str()
                    .unwrap()
                    .contains("default/c")
            );
            runtime.check(&list, &attachment).unwrap();
            runtime.del(&list, &attachment).unwrap();
            runtime.del(&list, &attachment).unwrap();
        }
        runtime.gc(&list, Some(&[])).unwrap();
        clean(&node);
    }
}

/// cni:G1, cni:G2, cni:G4: what the runtime's cache knows goes by DEL and the rest by GC; without a list, or when the
/// administrator forbids it, nothing that the cache does not know.
#[test]
fn garbage_is_collected_with_and_without_the_runtimes_cache() {
    let node = Node::new();
    let list = alone(&node, Level::New);
    let pods: Vec<_> = (0..4).map(|i| (Pod::new(), format!("c{i}"))).collect();
    let attachments: Vec<_> = pods.iter().map(|(pod, id)| Attachment::new(id, &pod.path())).collect();
    let (mut runtime, mut restarted) = (runtime(&node), runtime(&node));
    attachments.iter().for_each(|attachment| drop(runtime.add(&list, attachment).unwrap()));
    let forbidden = self::list(&node, (&[], &[]), &json!({"disableGC": "true"}));
    runtime.gc(&List::read(&forbidden, Level::New).unwrap(), Some(&[])).unwrap();
    restarted.gc(&list, None).unwrap();
    assert_eq!((node.leases().len(), node.host_links().len()), (4, 4));
    restarted.gc(&list, Some(&attachments[..3])).unwrap();
    assert_eq!(node.leases(), ["c0/eth0", "c1/eth0", "c2/eth0"]);
    runtime.gc(&list, Some(&attachments[..1])).unwrap();
    assert_eq!((node.leases(), runtime.cached()), (vec!["c0/eth0".to_owned()], 1));
    runtime.gc(&list, Some(&[])).unwrap();
    clean(&node);
}

/// cni:A3, cni:C1, cni:1.8: reference plugins after us change what we made, and CHECK tolerates it; each gets our result.
#[test]
fn reference_plugins_work_after_us() {
    let (node, pod) = (Node::new(), Pod::new());
    let after = [
        json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "mtu": 1300, "dataDir": node.folder()}),
        json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
    ];
    let list = list(&node, (&[], &after), &json!({"cniVersions": ["1.0.0"]}));
    let list = List::read(&list, Level::New).unwrap();
    let mut runtime = runtime(&node);
    let limit =
        json!({"IngressRate": 8_000_000, "IngressBurst": 8_000_000, "EgressRate": 0, "EgressBurst": 0});
    let attachment = Attachment::new("c1", &pod.path()).of_containerd(3).with("bandwidth", limit);
    let added = runtime.add(&list, &attachment).unwrap();
    assert_eq!((&added["ips"][0]["interface"], &added["interfaces"][2]["name"]), (&json!(2), &json!("eth0")));
    assert_eq!(pod.ip(&["link", "show", "eth0"])[0]["mtu"], 1300);
    assert_eq!(setting(&pod.namespace, "net/core/somaxconn"), "500");
    let qdisc = tc(&node, &node.host_links()[0]);
    assert!(qdisc.contains("tbf"), "{qdisc}");
    runtime.check(&list, &attachment).unwrap();
    runtime.del(&list, &attachment).unwrap();
    clean(&node);
}

fn tc(node: &Node, link: &str) -> String {
    let show = heddle_tests::process::Invocation::foreign("tc").args(["qdisc", "show", "dev", link]);
    show.run(&node.namespace).unwrap().stdout
}

/// cni:A1, cni:A3: a plugin that only adjusts stands before us, in both its places in the list's order.
#[test]
fn loopback_works_before_and_after_us() {
    let loopback = [json!({"type": "loopback"})];
    for (before, after) in [(&loopback[..], &[][..]), (&[], &loopback[..])] {
        let (node, pod) = (Node::new(), Pod::new());
        let list = list(&node, (before, after), &json!({"cniVersions": ["1.0.0"]}));
        let list = List::read(&list, Level::New).unwrap();
        let mut runtime = runtime(&node);
        let attachment = Attachment::new("c1", &pod.path());
        let added = runtime.add(&list, &attachment);
        let added = added.unwrap_or_else(|failure| panic!("{failure}"));
        let _server = Server::start(&pod.namespace, "server", Transport::Tcp, 8080).unwrap();
        for address in addresses(&added.to_string()).into_iter().filter(|address| !address.is_loopback()) {
            reaches(&node.namespace, address);
        }
        runtime.del(&list, &attachment).unwrap();
        clean(&node);
    }
}

/// cni:D5, cni:#10: while a later plugin's DEL fails we are never asked, so that what is ours stays; once it succeeds, or
/// GC comes, it goes. Nothing of that happens to a list in which we are alone.
#[test]
fn a_plugin_that_fails_after_us_holds_our_del_back_until_gc() {
    let (node, pod) = (Node::new(), Pod::new());
    let passes_on = r#"sed 's/.*"prevResult"://; s/,"type":"failing".*//'"#;
    let failing =
        format!("#!/bin/sh\n[ $CNI_COMMAND != DEL ] || exit 1\n[ $CNI_COMMAND = GC ] || {passes_on}\n");
    let failing = node.file("failing", &failing);
    fs::set_permissions(&failing, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let document = list(&node, (&[], &[json!({"type": "failing"})]), &json!({}));
    let list = List::read(&document, Level::New).unwrap();
    let ours = Path::new(env!("CARGO_BIN_EXE_heddle-cni")).parent().unwrap();
    let mut runtime = Runtime::new(&node.namespace, [ours, &node.folder()]);
    let attachment = Attachment::new("c1", &pod.path());
    runtime.add(&list, &attachment).unwrap();
    assert!(matches!(runtime.del(&list, &attachment), Err(Failure::Speechless { .. })));
    assert_eq!((node.leases().len(), node.host_links().len(), runtime.cached()), (1, 1, 1));
    let failures = runtime.gc(&list, Some(&[])).unwrap_err();
    assert_eq!(failures.len(), 1, "its synthetic DEL: {failures:?}");
    clean(&node);
}

/// cni:L3, cni:C2: a list that forbids CHECK, in both spellings, is not checked whatever is lost.
#[test]
fn a_list_may_forbid_the_check() {
    let (node, pod) = (Node::new(), Pod::new());
    let attachment = Attachment::new("c1", &pod.path());
    let mut runtime = runtime(&node);
    runtime.add(&alone(&node, Level::New), &attachment).unwrap();
    pod.ip(&["link", "set", "eth0", "down"]);
    for forbids in [json!(true), json!("true")] {
        let list = list(&node, (&[], &[]), &json!({"disableCheck": forbids}));
        runtime.check(&List::read(&list, Level::New).unwrap(), &attachment).unwrap();
    }
    let failure = runtime.check(&alone(&node, Level::New), &attachment).unwrap_err();
    assert_eq!(failure.code(), Some(108), "{failure}");
}

/// cni:L4: others append plugins to our list by a file of their own, and the chain works as if we had written them.
#[test]
fn others_chain_behind_us_without_our_file() {
    let (node, pod) = (Node::new(), Pod::new());
    fs::create_dir(node.folder().join("pods")).unwrap();
    let tuning = json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "600"}, "dataDir": node.folder()});
    node.file("pods/50-tuning.conf", &tuning.to_string());
    node.file("pods/60-unread.txt", "no configuration");
    let document = list(&node, (&[], &[]), &json!({"cniVersions": ["1.0.0"]}));
    let list = List::read(&document, Level::New).unwrap().append(&node.folder()).unwrap();
    let (mut runtime, attachment) = (runtime(&node), Attachment::new("c1", &pod.path()));
    runtime.add(&list, &attachment).unwrap();
    assert_eq!(setting(&pod.namespace, "net/core/somaxconn"), "600");
    runtime.check(&list, &attachment).unwrap();
    runtime.del(&list, &attachment).unwrap();
    clean(&node);
}

/// cni:E3, cni:D2, cni:1.11, cni:#12: after a reboot, or when kubelet is late: the namespace's path is empty, and DEL comes again
/// and again.
#[test]
fn late_and_repeated_deletions_succeed() {
    let node = Node::new();
    let (mut runtime, list) = (runtime(&node), alone(&node, Level::New));
    let pod = Pod::new();
    let mut attachment = Attachment::new("c1", &pod.path()).of_containerd(1);
    runtime.add(&list, &attachment).unwrap();
    drop(pod);
    attachment.namespace.clear();
    for _ in 0..3 {
        runtime.del(&list, &attachment).unwrap();
    }
    clean(&node);
}
