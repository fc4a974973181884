//! What the plugin refuses: one document, the right code, and nothing left behind.

use crate::node::{Node, Pod};
use serde_json::{Value, json};

/// cni:A2.
#[test]
fn a_second_add_is_refused_and_the_first_one_stays() {
    let node = Node::new();
    let pod = Pod::new();
    node.add("c1", &pod, &json!({}));
    let before = (node.host_links(), node.leases());
    node.fails(103, "ADD", ("c1", &pod.path()), &json!({}));
    node.fails(103, "ADD", ("c2", &pod.path()), &json!({}));
    assert_eq!((node.host_links(), node.leases()), before);
}

/// cni:E9: found before anything is touched, and one document.
#[test]
fn the_plugins_own_namespace_is_refused() {
    let node = Node::new();
    node.fails(8, "ADD", ("c1", "/proc/self/ns/net"), &json!({}));
    node.fails(8, "ADD", ("c1", "/dev/null"), &json!({}));
    node.fails(8, "ADD", ("c1", "/nowhere"), &json!({}));
    assert!(node.ip(&["link"]).as_array().unwrap().iter().all(|link| link["ifname"] == "lo"));
    assert_eq!(node.leases().len(), 0);
    let overridden = node
        .call("ADD", "c1", "/proc/self/ns/net", &json!({"isDefaultGateway": false}))
        .env("CNI_NETNS_OVERRIDE", "1");
    let output = overridden.run(&node.namespace).unwrap();
    assert!(output.status.success(), "{}", output.stdout);
}

/// cni:A4: an address and a link are made, then the last step fails.
#[test]
fn a_failed_add_leaves_nothing() {
    let node = Node::new();
    let pod = Pod::new();
    let ipam = json!({"type": "heddle", "subnet": "10.1.0.0/24", "routes": [{"dst": "10.2.0.0/16", "gw": "10.9.9.9"}]});
    let failure = node.fails(104, "ADD", ("c1", &pod.path()), &json!({"ipam": ipam}));
    assert_eq!(failure["msg"], "give the pod a route to 10.2.0.0/16 through 10.9.9.9");
    assert!(failure["details"].as_str().unwrap().contains("Nexthop has invalid gateway"), "{failure}");
    assert_eq!((node.host_links().len(), node.leases().len()), (0, 0));
    assert_eq!(pod.ip(&["link"]).as_array().unwrap().len(), 1);
}

#[test]
fn exhausted_and_taken_addresses_have_codes_of_their_own() {
    let node = Node::new();
    let small = json!({"ipam": {"type": "heddle", "subnet": "10.1.0.0/30"}});
    let (pod, late) = (Pod::new(), Pod::new());
    node.add("c1", &pod, &small);
    let full = node.fails(100, "ADD", ("c2", &late.path()), &small);
    assert_eq!(full["msg"], "no address left in range set 10.1.0.1-10.1.0.2 (1 held)");
    let mut asks = small.clone();
    asks["args"] = json!({"cni": {"ips": ["10.1.0.2"]}});
    let taken = node.fails(101, "ADD", ("c2", &late.path()), &asks);
    assert_eq!(taken["msg"], "address 10.1.0.2 is held by container c1");
    assert_eq!(late.ip(&["link"]).as_array().unwrap().len(), 1);
    node.del("c1", &pod.path(), &small);
    node.add("c2", &late, &small);
}

/// cni:#25.
#[test]
fn a_bridge_of_another_subnet_is_an_error_unless_forced() {
    let node = Node::new();
    let range = |subnet: &str| json!({"ipam": {"type": "heddle", "subnet": subnet}});
    node.add("c1", &Pod::new(), &range("10.1.0.0/24"));
    let failure = node.fails(102, "ADD", ("c2", &Pod::new().path()), &range("10.2.0.0/24"));
    assert!(failure["msg"].as_str().unwrap().starts_with("bridge cni0 has address 10.1.0.1/24"), "{failure}");
    let has = || node.ip(&["-4", "address", "show", "cni0"])[0]["addr_info"].clone();
    assert_eq!((has()[0]["local"].clone(), has().as_array().unwrap().len()), (json!("10.1.0.1"), 1));
    let mut forced = range("10.2.0.0/24");
    forced["forceAddress"] = json!(true);
    node.add("c2", &Pod::new(), &forced);
    assert_eq!((has()[0]["local"].clone(), has().as_array().unwrap().len()), (json!("10.2.0.1"), 1));
}

#[test]
fn a_link_that_is_no_bridge_is_not_taken_for_one() {
    let node = Node::new();
    node.ip(&["link", "add", "cni0", "type", "veth", "peer", "other"]);
    let failure = node.fails(105, "ADD", ("c1", &Pod::new().path()), &json!({}));
    assert_eq!(failure["msg"], "link cni0 is no bridge but veth");
    assert_eq!(node.leases().len(), 0);
}

/// cni:O1, cni:O4, cni:O5: one document on stdout, whatever comes in.
#[test]
fn bad_stdin_is_one_error_document() {
    let node = Node::new();
    let whole = node.config(&json!({})).to_string();
    let (half, twice) = (&whole[..whole.len() / 2], format!("{whole}{whole}"));
    for (input, code) in [("", 6), (half, 6), (&twice, 6), ("[]", 6), ("{}", 7), ("\u{0}", 6)] {
        let output = node.call("ADD", "c1", "/x", &json!({})).input(input).run(&node.namespace).unwrap();
        let failure: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!((&failure["code"], output.status.code()), (&json!(code), Some(1)), "{input:?}: {failure}");
        assert!(failure["cniVersion"].is_string() && !failure["msg"].as_str().unwrap().is_empty());
    }
    let failure = node.fails(1, "ADD", ("c1", "/x"), &json!({"cniVersion": "1.2.0"}));
    assert_eq!(failure["details"], "supported versions: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
    assert_eq!(failure["cniVersion"], "1.2.0");
    node.fails(6, "ADD", ("c1", "/x"), &json!({"isGateway": "yes"}));
    node.fails(2, "ADD", ("c1", "/x"), &json!({"ipMasq": true}));
    node.fails(7, "ADD", ("c1", "/x"), &json!({"ipam": {"type": "a/b"}}));
}

/// cni:E1, cni:E2, cni:E5, cni:E10: nothing but the variables of the specification, and CNI_PATH not even.
#[test]
fn the_environment_is_checked_first() {
    let node = Node::new();
    let none = node.program().env("CNI_COMMAND", "").input("{}").run(&node.namespace).unwrap();
    assert!(none.stdout.contains("\"code\":4,\"msg\":\"missing environment variables: CNI_COMMAND\""));
    let add = node.program().env("CNI_COMMAND", "ADD").input("{}").run(&node.namespace).unwrap();
    assert!(add.stdout.contains("CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"), "{}", add.stdout);
    node.fails(4, "TEST", ("c1", "/x"), &json!({}));
    node.fails(4, "ADD", ("../c1", "/x"), &json!({}));
}

/// cni:V1, cni:E4.
#[test]
fn version_answers_in_the_version_that_it_is_asked_in() {
    let node = Node::new();
    let ask = |input: &str| {
        node.program().env("CNI_COMMAND", "VERSION").input(input).run(&node.namespace).unwrap().stdout
    };
    assert_eq!(
        ask(r#"{"cniVersion":"0.4.0"}"#),
        "{\"cniVersion\":\"0.4.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
    );
    assert!(ask("").starts_with("{\"cniVersion\":\"1.1.0\""));
}

#[test]
fn an_unusable_lease_directory_is_an_error_before_any_link() {
    let node = Node::new();
    let pod = Pod::new();
    let ipam = json!({"type": "heddle", "subnet": "10.1.0.0/24", "dataDir": "/proc/nowhere"});
    node.fails(5, "ADD", ("c1", &pod.path()), &json!({"ipam": ipam}));
    assert_eq!((node.host_links().len(), pod.ip(&["link"]).as_array().unwrap().len()), (0, 1));
}
