//! CHECK, GC and STATUS: what is there, what may go, and what would be possible.

use crate::node::{Node, Pod};
use heddle_tests::scratch::Scratch;
use serde_json::{Value, json};

/// The configuration with the result that a runtime hands back.
fn with_result(added: &str) -> Value {
    json!({"prevResult": serde_json::from_str::<Value>(added).unwrap()})
}

/// cni:C1, cni:O3: nothing is printed, in every version that has the command.
#[test]
fn a_container_that_is_attached_passes_its_check() {
    let node = Node::new();
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let pod = Pod::new();
        let added = node.add(version, &pod, &json!({"cniVersion": version, "portIsolation": true}));
        let mut config = with_result(&added);
        (config["cniVersion"], config["portIsolation"]) = (json!(version), json!(true));
        node.succeeds("CHECK", (version, &pod.path()), &config);
    }
}

/// cni:K1, cni:C1: two networks want the default route, and the first one has it.
#[test]
fn a_container_of_two_networks_passes_the_check_of_each() {
    let (node, pod) = (Node::new(), Pod::new());
    let other =
        json!({"name": "other", "bridge": "cni1", "ipam": {"type": "heddle", "subnet": "10.8.0.0/24"}});
    let call = |command: &str, config: &Value| {
        let output =
            node.call(command, "c1", &pod.path(), config).env("CNI_IFNAME", "eth1").run(&node.namespace);
        let output = output.unwrap();
        assert!(output.status.success(), "{command}: {}", output.stdout);
        output.stdout
    };
    let first = with_result(&node.add("c1", &pod, &json!({})));
    let mut second = other.clone();
    second["prevResult"] = with_result(&call("ADD", &other))["prevResult"].clone();
    call("CHECK", &second);
    node.succeeds("CHECK", ("c1", &pod.path()), &first);
}

/// cni:C1: a router beside the bridge.
#[test]
fn a_gateway_that_is_not_the_bridge_is_not_looked_for_there() {
    let (node, pod) = (Node::new(), Pod::new());
    let ipam = json!({"type": "heddle", "ranges": [[{"subnet": "10.8.0.0/24", "gateway": "10.9.0.1"}]]});
    let mut config = json!({"isDefaultGateway": false, "isGateway": true, "ipam": ipam});
    config["prevResult"] = with_result(&node.add("c1", &pod, &config))["prevResult"].clone();
    node.succeeds("CHECK", ("c1", &pod.path()), &config);
}

/// cni:C1: additions of later plugins are no difference.
#[test]
fn what_later_plugins_added_is_tolerated() {
    let node = Node::new();
    let pod = Pod::new();
    let config = with_result(&node.add("c1", &pod, &json!({})));
    pod.ip(&["address", "add", "192.0.2.7/32", "dev", "eth0"]);
    pod.ip(&["route", "add", "198.51.100.0/24", "dev", "eth0"]);
    pod.ip(&["link", "add", "net1", "type", "veth", "peer", "net2"]);
    node.succeeds("CHECK", ("c1", &pod.path()), &config);
}

/// cni:C1: each thing that an ADD made and a result names, lost alone.
#[test]
fn a_check_names_what_is_lost() {
    for (place, loss, difference) in [
        ("pod", "link set eth0 down", "interface eth0 in the pod is down"),
        ("pod", "address del 10.244.1.2/24 dev eth0", "interface eth0 lacks address 10.244.1.2/24"),
        ("pod", "address del fd00:244:1::2/64 dev eth0", "interface eth0 lacks address fd00:244:1::2/64"),
        ("pod", "route del default", "the pod lacks the route to 0.0.0.0/0"),
        ("pod", "link set eth0 mtu 1300", "interface eth0 in the pod has MTU 1300, not 1500"),
        ("pod", "link set eth0 address 02:00:00:00:00:07", "in the pod has address 02:00:00:00:00:07, not"),
        ("node", "address del 10.244.1.1/24 dev cni0", "bridge cni0 lacks address 10.244.1.1"),
        ("node", "link set HOST nomaster", "is no port of bridge cni0"),
        ("node", "link set HOST type bridge_slave hairpin off", "has not the hairpin and isolation"),
        ("node", "link set cni0 down", "bridge cni0 is down"),
        ("node", "link del cni0", "bridge cni0 is missing"),
    ] {
        let (node, pod) = (Node::new(), Pod::new());
        let config = with_result(&node.add("c1", &pod, &json!({})));
        let loss = loss.replace("HOST", &node.host_links()[0]);
        let words: Vec<_> = loss.split(' ').collect();
        if place == "pod" {
            pod.ip(&words)
        } else {
            node.ip(&words)
        };
        let failure = node.fails(108, "CHECK", ("c1", &pod.path()), &config);
        assert!(failure["details"].as_str().unwrap().contains(difference), "{loss}: {failure}");
    }
}

/// cni:C1: what is no part of the result.
#[test]
fn a_check_compares_the_lease() {
    let (node, pod) = (Node::new(), Pod::new());
    let config = with_result(&node.add("c1", &pod, &json!({})));
    std::fs::remove_file(node.table()).unwrap();
    let failure = node.fails(108, "CHECK", ("c1", &pod.path()), &config);
    assert!(failure["details"].as_str().unwrap().contains("the lease of 10.244.1.2"), "{failure}");
}

#[test]
fn a_check_of_what_is_gone_says_so() {
    let (node, pod) = (Node::new(), Pod::new());
    let config = with_result(&node.add("c1", &pod, &json!({})));
    node.fails(8, "CHECK", ("c1", "/nowhere"), &config);
    node.del("c1", &pod.path(), &json!({}));
    let failure = node.fails(108, "CHECK", ("c1", &pod.path()), &config);
    assert!(
        failure["details"].as_str().unwrap().contains("interface eth0 is missing in the pod"),
        "{failure}"
    );
}

/// cni:G1, cni:G3, and cni:D5, after which our DEL is never called: links and leases of what is not listed, of this network only, whether or not the pod is still there.
#[test]
fn garbage_is_what_is_not_listed_and_of_this_network() {
    let node = Node::new();
    let pods: Vec<_> = (0..4).map(|i| (format!("c{i}"), Pod::new())).collect();
    pods.iter().for_each(|(name, pod)| drop(node.add(name, pod, &json!({}))));
    let other = Pod::new();
    node.add("c1", &other, &json!({"name": "other", "bridge": "cni1", "isDefaultGateway": false}));
    let valid = json!([{"containerID": "c0", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth0"}]);
    node.gc(&json!({"cni.dev/valid-attachments": valid, "cni.dev/attachments": []}));
    assert_eq!(node.leases(), ["c0/eth0", "c2/eth0"]);
    assert_eq!(node.host_links().len(), 3, "two of this network, one of the other");
    assert_eq!(pods[1].1.ip(&["link"]).as_array().unwrap().len(), 1);
    node.gc(&json!({"cni.dev/attachments": []}));
    assert_eq!((node.leases().len(), node.host_links().len()), (0, 1));
    node.gc(&json!({"cni.dev/attachments": []}));
}

/// cni:G4, cni:P1: a GC beside ADDs that it knows of takes nothing from them.
#[test]
fn containers_that_come_during_a_collection_stay() {
    let node = Node::new();
    let pods: Vec<_> = (0..12).map(|i| (format!("c{i}"), Pod::new())).collect();
    let valid = pods.iter().map(|(name, _)| json!({"containerID": name, "ifname": "eth0"}));
    let config = json!({"cni.dev/valid-attachments": valid.collect::<Vec<_>>()});
    let start = |(name, pod): &(String, Pod)| {
        let add = node.call("ADD", name, &pod.path(), &json!({})).start(&node.namespace).unwrap();
        [add, node.call("GC", "", "", &config).start(&node.namespace).unwrap()]
    };
    let running: Vec<_> = pods.iter().flat_map(start).collect();
    for mut process in running {
        assert!(process.wait(heddle_tests::patience::PATIENCE).unwrap().success(), "{}", process.stdout());
    }
    assert_eq!((node.leases().len(), node.host_links().len()), (12, 12));
}

/// cni:G2, cni:#13.
#[test]
fn without_a_list_nothing_is_garbage() {
    let (node, pod) = (Node::new(), Pod::new());
    node.add("c1", &pod, &json!({}));
    node.gc(&json!({}));
    assert_eq!((node.leases().len(), node.host_links().len()), (1, 1));
    let failure =
        node.fails(7, "GC", ("", ""), &json!({"cni.dev/valid-attachments": [{"containerID": "c1"}]}));
    assert!(failure["msg"].as_str().unwrap().starts_with("cni.dev/valid-attachments: "), "{failure}");
    assert_eq!(node.leases().len(), 1);
}

/// cni:G1: a link is found without its lease, and a lease without its link.
#[test]
fn either_half_of_an_attachment_is_found() {
    let node = Node::new();
    // Held: the links of a pod that is gone go with it, soon after.
    let (one, two) = (Pod::new(), Pod::new());
    node.add("c1", &one, &json!({}));
    std::fs::remove_file(node.table()).unwrap();
    node.add(
        "c2",
        &two,
        &json!({"ipam": {"type": "heddle", "subnet": "10.244.1.0/24", "rangeStart": "10.244.1.9"}}),
    );
    node.ip(&["link", "del", &node.host_links()[1]]);
    assert_eq!((node.leases().len(), node.host_links().len()), (1, 1));
    node.gc(&json!({"cni.dev/valid-attachments": []}));
    assert_eq!((node.leases().len(), node.host_links().len()), (0, 0));
}

/// cni:T1, cni:O3: before the first pod, with pods, exhausted, and with room again.
#[test]
fn status_says_whether_an_add_would_succeed() {
    let node = Node::new();
    let small = json!({"ipam": {"type": "heddle", "subnet": "10.1.0.0/30"}});
    node.status(&small);
    assert!(!node.table().exists() && node.ip(&["link"]).as_array().unwrap().len() == 1, "it makes nothing");
    node.add("c1", &Pod::new(), &small);
    let failure = node.fails(50, "STATUS", ("", ""), &small);
    assert_eq!(failure["msg"], "no address left in range set 10.1.0.1-10.1.0.2 (1 held)");
    node.fails(100, "ADD", ("c2", &Pod::new().path()), &small);
    node.del("c1", "", &small);
    node.status(&small);
}

/// cni:T1: pods that lost their bridge are a reason of its own; a bridge that nobody needed yet is none.
#[test]
fn status_tells_a_lost_bridge_from_one_that_is_not_there_yet() {
    let node = Node::new();
    node.add("c1", &Pod::new(), &json!({}));
    node.status(&json!({}));
    node.ip(&["link", "set", "cni0", "down"]);
    let failure = node.fails(51, "STATUS", ("", ""), &json!({}));
    assert_eq!(failure["msg"], "bridge cni0 is down, and pods are connected to it");
    node.ip(&["link", "del", "cni0"]);
    node.fails(51, "STATUS", ("", ""), &json!({}));
    node.del("c1", "", &json!({}));
    node.status(&json!({}));
    node.ip(&["link", "add", "cni0", "type", "veth", "peer", "other"]);
    node.fails(50, "STATUS", ("", ""), &json!({}));
}

/// cni:T1: a folder for leases that cannot be written.
#[test]
fn status_finds_a_folder_that_cannot_be_written() {
    let node = Node::new();
    let read_only = Scratch::read_only().unwrap();
    let file = node.file("no-folder", "");
    for (folder, reason) in [(read_only.path(), "Read-only file system"), (file, "it is no folder")] {
        let ipam = json!({"type": "heddle", "subnet": "10.1.0.0/24", "dataDir": folder});
        let failure = node.fails(50, "STATUS", ("", ""), &json!({"ipam": ipam}));
        assert!(
            failure["msg"].as_str().unwrap().starts_with("leases cannot be written below /proc"),
            "{failure}"
        );
        assert!(failure["details"].as_str().unwrap().starts_with(reason), "{failure}");
        node.fails(5, "ADD", ("c1", &Pod::new().path()), &json!({"ipam": ipam}));
    }
}

/// cni:T1: the node's agent, which touches a file as long as it works.
#[test]
fn status_fails_when_the_agent_is_gone() {
    let node = Node::new();
    let file = node.folder().join("agent");
    let config = json!({"statusFile": file, "statusMaxAge": 600});
    let failure = node.fails(50, "STATUS", ("", ""), &config);
    assert!(failure["msg"].as_str().unwrap().starts_with("the node's agent has not touched"), "{failure}");
    let touched = std::fs::File::create(&file).unwrap();
    node.status(&config);
    let now = std::time::SystemTime::now();
    touched.set_modified(now - std::time::Duration::from_secs(3600)).unwrap();
    node.fails(50, "STATUS", ("", ""), &config);
    touched.set_modified(now + std::time::Duration::from_secs(3600)).unwrap();
    node.status(&config);
}

/// cni:E4: with nothing but what the commands need.
#[test]
fn gc_and_status_need_no_container() {
    let node = Node::new();
    for command in ["GC", "STATUS"] {
        let call = node.program().env("CNI_COMMAND", command).input(node.config(&json!({})).to_string());
        let output = call.run(&node.namespace).unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{command}: {}", output.stdout);
    }
}
