//! Other plugins that give out addresses: Debian's, and one that writes down what it is asked.

use crate::node::{Node, Pod, addresses};
use heddle_tests::process::{Invocation, Output};
use serde_json::{Value, json};
use std::fs;

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
const RECORDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plugins");

fn host_local(node: &Node) -> Value {
    let routes = json!([{"dst": "0.0.0.0/0"}]);
    json!({"ipam": {"type": "host-local", "subnet": "10.7.0.0/24", "routes": routes, "dataDir": node.folder()}})
}

fn call(node: &Node, command: &str, pod: &str, config: &Value) -> Output {
    called(node.call(command, "c1", pod, config), node, "/nowhere::/usr/lib/cni")
}

fn called(call: Invocation, node: &Node, path: &str) -> Output {
    call.env("CNI_PATH", path).run(&node.namespace).unwrap()
}

/// What host-local has reserved: a file for each address.
fn reserved(node: &Node) -> Vec<String> {
    let listed = fs::read_dir(node.folder().join("pods")).into_iter().flatten();
    let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("10.")).collect()
}

/// cni:A4, cni:C2, cni:1.7: the whole life of a container with host-local, in every version that Debian's knows.
#[test]
fn host_local_gives_and_takes_back_in_every_version() {
    assert!(fs::exists(REFERENCE).unwrap(), "install containernetworking-plugins");
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        let (node, pod) = (Node::new(), Pod::new());
        let mut config = host_local(&node);
        config["cniVersion"] = json!(version);
        let added = call(&node, "ADD", &pod.path(), &config);
        assert!(added.status.success(), "{version}: {}", added.stdout);
        let added: Value = serde_json::from_str(&added.stdout).unwrap();
        let address = if version < "0.3.0" { &added["ip4"]["ip"] } else { &added["ips"][0]["address"] };
        assert_eq!((address, reserved(&node)), (&json!("10.7.0.2/24"), vec!["10.7.0.2".to_owned()]));
        assert_eq!(pod.ip(&["route", "show", "default"])[0]["gateway"], "10.7.0.1");
        config["prevResult"] = added;
        if version >= "0.4.0" {
            let checked = call(&node, "CHECK", &pod.path(), &config);
            assert!(checked.status.success() && checked.stdout.is_empty(), "{}", checked.stdout);
            fs::remove_file(node.folder().join("pods/10.7.0.2")).unwrap();
            assert!(!call(&node, "CHECK", &pod.path(), &config).status.success());
        }
        for _ in 0..2 {
            let gone = call(&node, "DEL", "", &config);
            assert!(gone.status.success() && gone.stdout.is_empty(), "{}", gone.stdout);
        }
        assert_eq!((reserved(&node).len(), node.host_links().len()), (0, 0));
    }
}

#[test]
fn addresses_routes_and_name_servers_of_a_static_configuration_are_taken() {
    let (node, pod) = (Node::new(), Pod::new());
    let ipam = json!({"type": "static", "dns": {"nameservers": ["10.96.0.10"]}, "routes": [{"dst": "192.0.2.0/24"}],
        "addresses": [{"address": "10.7.0.9/24"}, {"address": "fd07::9/64", "gateway": "fd07::ff"}]});
    let added = call(&node, "ADD", &pod.path(), &json!({"cniVersion": "1.0.0", "ipam": ipam}));
    assert!(added.status.success(), "{}", added.stdout);
    assert_eq!(addresses(&added.stdout).len(), 2);
    let added: Value = serde_json::from_str(&added.stdout).unwrap();
    assert_eq!(
        (&added["dns"]["nameservers"][0], &added["ips"][0]["gateway"]),
        (&json!("10.96.0.10"), &json!("10.7.0.1"))
    );
    assert_eq!(pod.ip(&["-6", "route", "show", "default"])[0]["gateway"], "fd07::ff");
    assert_eq!(pod.ip(&["route", "show", "192.0.2.0/24"])[0]["gateway"], "10.7.0.1");
}

/// cni:A4: the address goes back when the link cannot be made.
#[test]
fn a_failed_add_gives_the_address_back_to_its_plugin() {
    let (node, pod) = (Node::new(), Pod::new());
    let mut config = host_local(&node);
    (config["cniVersion"], config["ipam"]["routes"][0]["gw"]) = (json!("1.0.0"), json!("10.9.9.9"));
    let failure = call(&node, "ADD", &pod.path(), &config);
    assert!(failure.stdout.contains("\"code\":104"), "{}", failure.stdout);
    assert_eq!((reserved(&node).len(), node.host_links().len()), (0, 0));
}

/// The recorder's folder, with what it answers.
fn recorder(node: &Node, files: &[(&str, &str)]) -> Value {
    files.iter().for_each(|(name, text)| drop(node.file(name, text)));
    json!({"ipam": {"type": "recorder"}, "x": {"Unknown": [null]}})
}

fn record(node: &Node, command: &str, pod: &str, config: &Value) -> Output {
    called(node.call(command, "c1", pod, config).env("RECORD", node.folder()), node, RECORDER)
}

fn asked(node: &Node) -> Vec<String> {
    let text = fs::read_to_string(node.folder().join("asked")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// cni:G1, cni:T1, cni:C2: every command is handed on, with the configuration byte for byte and the whole environment.
#[test]
fn an_ipam_plugin_is_asked_as_we_are() {
    let (node, pod) = (Node::new(), Pod::new());
    let mut config = recorder(&node, &[("ADD", r#"{"ips":[{"address":"10.7.0.9/24"}]}"#)]);
    for command in ["ADD", "CHECK", "GC", "STATUS", "DEL"] {
        let output = record(&node, command, &pod.path(), &config);
        assert!(output.status.success(), "{command}: {}", output.stdout);
        let asked = asked(&node);
        assert_eq!(
            asked[asked.len() - 2..],
            [format!("{command} c1 eth0"), node.config(&config).to_string()]
        );
        if command == "ADD" {
            config["prevResult"] = serde_json::from_str(&output.stdout).unwrap();
        }
    }
    assert_eq!(asked(&node).len(), 10);
}

/// cni:1.3: the plugin's own code, and our own when it has none; never 3, after which nobody would send a DEL.
#[test]
fn what_an_ipam_plugin_says_is_handed_on() {
    let (node, pod) = (Node::new(), Pod::new());
    let nonsense = [
        (r#"{"code":11,"msg":"later","details":"why"}"#, 11, "IPAM plugin recorder: later"),
        (r#"{"code":3,"msg":"who"}"#, 107, "IPAM plugin recorder: who"),
        ("", 107, "IPAM plugin recorder: it ended with exit status: 1"),
    ];
    let config = recorder(&node, &[("ADD.fails", "")]);
    for (said, code, msg) in nonsense {
        node.file("ADD", said);
        let failure: Value =
            serde_json::from_str(&record(&node, "ADD", &pod.path(), &config).stdout).unwrap();
        assert_eq!((&failure["code"], &failure["msg"]), (&json!(code), &json!(msg)));
    }
    assert!(asked(&node).iter().all(|line| !line.starts_with("DEL")), "a failed ADD holds nothing");
    fs::remove_file(node.folder().join("ADD.fails")).unwrap();
    for said in ["", "[]", "{}", r#"{"ips":[{"address":"x"}]}"#] {
        node.file("ADD", said);
        let failure = record(&node, "ADD", &pod.path(), &config);
        assert!(
            failure.stdout.contains("\"code\":107,\"msg\":\"IPAM plugin recorder: its result is not one\"")
        );
        let asked = asked(&node);
        assert_eq!(asked[asked.len() - 2], "DEL c1 eth0", "an address that is not understood is given back");
    }
    assert_eq!(pod.ip(&["link"]).as_array().unwrap().len(), 1);
}

#[test]
fn an_ipam_plugin_that_cannot_be_started_is_named() {
    let (node, pod) = (Node::new(), Pod::new());
    let config = recorder(&node, &[]);
    let failure = |path: &str, config: &Value| -> Value {
        let output = called(node.call("ADD", "c1", &pod.path(), config), &node, path);
        serde_json::from_str(&output.stdout).unwrap()
    };
    assert_eq!(failure("", &config)["code"], 4);
    let absent = failure("/nowhere:/usr/lib", &config);
    assert_eq!((&absent["code"], &absent["details"]), (&json!(106), &json!("/nowhere:/usr/lib")));
    node.file("recorder", "not to be run");
    assert_eq!(failure(node.folder().to_str().unwrap(), &config)["code"], 106);
    let ourselves = failure(RECORDER, &json!({"ipam": {"type": "heddle-cni"}}));
    assert!(ourselves["msg"].as_str().unwrap().contains("start itself for ever"), "{ourselves}");
    assert_eq!(pod.ip(&["link"]).as_array().unwrap().len(), 1);
}

/// cni:#21: somebody writes the plugin's file in place.
#[test]
fn an_ipam_plugin_that_is_being_replaced_is_tried_again_by_the_runtime() {
    let (node, pod) = (Node::new(), Pod::new());
    let path = node.folder().join("recorder");
    fs::copy(format!("{RECORDER}/recorder"), &path).unwrap();
    let _writes = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let output = called(
        node.call("ADD", "c1", &pod.path(), &recorder(&node, &[])),
        &node,
        node.folder().to_str().unwrap(),
    );
    assert!(output.stdout.contains("\"code\":11,"), "{}", output.stdout);
}
