//! After another plugin, and before one.

use crate::node::{Node, Pod, setting};
use heddle_tests::process::Invocation;
use serde_json::{Value, json};

/// Another plugin's result, of a veth pair that the test makes as that plugin would.
fn made_by_another(pod: &Pod) -> Value {
    pod.ip(&["link", "add", "eth0", "type", "veth", "peer", "far0"]);
    pod.ip(&["link", "set", "eth0", "up"]);
    pod.ip(&["address", "add", "10.9.0.2/24", "dev", "eth0"]);
    let mac = pod.ip(&["link", "show", "eth0"])[0]["address"].clone();
    json!({"cniVersion": "1.0.0", "dns": {"nameservers": ["10.96.0.10"]},
        "interfaces": [{"name": "br7"}, {"name": "eth0", "mac": mac, "sandbox": pod.path()}],
        "ips": [{"interface": 1, "address": "10.9.0.2/24", "gateway": "10.9.0.1"}], "routes": []})
}

/// cni:A1, cni:A3, cni:D4: the interface of an earlier plugin is adjusted, and its result handed on as it was; a DEL with
/// that result leaves the interface to its maker.
#[test]
fn after_the_plugin_that_made_the_interface_only_settings_are_made() {
    let (node, pod) = (Node::new(), Pod::new());
    let previous = made_by_another(&pod);
    let sysctl = json!({"net.ipv4.conf.IFNAME.arp_notify": "1", "net/core/somaxconn": 777});
    let mut config = json!({"cniVersion": "1.0.0", "ipam": null, "sysctl": sysctl, "prevResult": previous, "mtu": 1300,
        "txQLen": 77, "promisc": true, "runtimeConfig": {"Mac": "02:00:00:00:00:77"}});
    let added: Value = serde_json::from_str(&node.add("c1", &pod, &config)).unwrap();
    assert_eq!((&added["ips"], &added["dns"]), (&previous["ips"], &previous["dns"]));
    assert_eq!(added["interfaces"][1]["mac"], "02:00:00:00:00:77");
    let eth0 = &pod.ip(&["-d", "link", "show", "eth0"])[0];
    assert_eq!(
        (&eth0["mtu"], &eth0["txqlen"], &eth0["address"]),
        (&json!(1300), &json!(77), &added["interfaces"][1]["mac"])
    );
    assert!(eth0["promiscuity"].as_u64().unwrap() > 0);
    assert_eq!(setting(&pod.namespace, "net/ipv4/conf/eth0/arp_notify"), "1");
    assert_eq!(setting(&pod.namespace, "net/core/somaxconn"), "777");
    assert_eq!((node.host_links().len(), node.leases().len()), (0, 0));
    config["prevResult"] = added;
    node.succeeds("CHECK", ("c1", &pod.path()), &config);
    pod.namespace.sysctl("core/somaxconn", "5").unwrap();
    let failure = node.fails(108, "CHECK", ("c1", &pod.path()), &config);
    assert_eq!(failure["details"], "setting net/core/somaxconn is not 777");
    node.del("c1", &pod.path(), &config);
    assert_eq!(pod.ip(&["link", "show", "eth0"])[0]["ifname"], "eth0");
}

/// cni:A3: after a plugin that made something else, both are in the result.
#[test]
fn after_a_plugin_that_made_another_interface_its_result_comes_first() {
    let (node, pod) = (Node::new(), Pod::new());
    let previous = json!({"interfaces": [{"name": "net7", "sandbox": pod.path()}], "routes": [{"dst": "192.0.2.0/24"}],
        "ips": [{"interface": 0, "address": "10.9.0.2/24"}], "dns": {"search": ["a.b"]}});
    let mut config = json!({"prevResult": previous});
    let added: Value = serde_json::from_str(&node.add("c1", &pod, &config)).unwrap();
    let names: Vec<_> = added["interfaces"].as_array().unwrap().iter().map(|i| i["name"].clone()).collect();
    assert_eq!(names, [json!("net7"), json!("cni0"), json!(node.host_links()[0]), json!("eth0")]);
    let at: Vec<_> = added["ips"].as_array().unwrap().iter().map(|ip| ip["interface"].clone()).collect();
    assert_eq!((at, &added["dns"]["search"][0]), (vec![json!(0), json!(3), json!(3)], &json!("a.b")));
    assert_eq!(added["routes"].as_array().unwrap().len(), 3);
    config["prevResult"] = added;
    let failure = node.fails(108, "CHECK", ("c1", &pod.path()), &config);
    assert_eq!(
        failure["details"], "the pod lacks the route to 192.0.2.0/24",
        "what the other plugin reported and did not make"
    );
}

/// cni:A3, cni:D4, cni:L4, cni:C1: before Debian's tuning and portmap plugins, as libcni chains them.
#[test]
fn plugins_of_others_take_our_result_and_ours_checks_theirs() {
    let (node, pod) = (Node::new(), Pod::new());
    let added = node.add("c1", &pod, &json!({"cniVersion": "1.0.0"}));
    let mut tuning = json!({"cniVersion": "1.0.0", "name": "pods", "type": "tuning", "mac": "02:00:00:00:00:77", "mtu": 1400,
        "dataDir": node.folder().join("tuning"), "prevResult": serde_json::from_str::<Value>(&added).unwrap()});
    let run = |command: &str, config: &Value| {
        let plugin = Invocation::foreign("/usr/lib/cni/tuning").env("CNI_PATH", "/usr/lib/cni");
        let call = node.call_by(plugin, command, ("c1", &pod.path()), &json!({}));
        let output = call.input(config.to_string()).run(&node.namespace).unwrap();
        assert!(output.status.success(), "{command}: {}{}", output.stdout, output.stderr);
        output.stdout
    };
    let chained: Value = serde_json::from_str(&run("ADD", &tuning)).unwrap();
    assert_eq!(chained["interfaces"][2]["mac"], "02:00:00:00:00:77");
    node.succeeds("CHECK", ("c1", &pod.path()), &json!({"cniVersion": "1.0.0", "prevResult": chained}));
    tuning["prevResult"] = chained.clone();
    run("CHECK", &tuning);
    run("DEL", &tuning);
    node.del("c1", &pod.path(), &json!({"cniVersion": "1.0.0", "prevResult": chained}));
    assert_eq!((node.host_links().len(), node.leases().len()), (0, 0));
}

/// cni:A4: on an interface of another plugin, too.
#[test]
fn settings_of_which_one_is_refused_stay_as_they_were() {
    let (node, pod) = (Node::new(), Pod::new());
    let previous = made_by_another(&pod);
    let before = setting(&pod.namespace, "net/core/somaxconn");
    let sysctl = json!({"net.core.somaxconn": 777, "net.ipv4.nothing": 1});
    node.fails(
        5,
        "ADD",
        ("c1", &pod.path()),
        &json!({"ipam": null, "sysctl": sysctl, "prevResult": previous}),
    );
    assert_eq!(setting(&pod.namespace, "net/core/somaxconn"), before);
}

#[test]
fn our_own_interface_is_tuned() {
    let (node, pod) = (Node::new(), Pod::new());
    node.add("c1", &pod, &json!({"txQLen": 77, "allmulti": true, "promisc": false}));
    let eth0 = &pod.ip(&["-d", "link", "show", "eth0"])[0];
    assert_eq!((&eth0["txqlen"], &eth0["promiscuity"]), (&json!(77), &json!(0)));
    assert_eq!(eth0["allmulti"].as_u64().unwrap_or(1), 1, "{eth0}");
    assert!(eth0["flags"].as_array().unwrap().contains(&json!("ALLMULTI")), "{eth0}");
}

/// Our own interface takes settings, too, and a key of the node is none of them.
#[test]
fn settings_of_the_pod_are_made_and_refused() {
    let (node, pod) = (Node::new(), Pod::new());
    let config = json!({"sysctl": {"net.ipv6.conf.IFNAME.accept_ra": "2", "net.ipv4.ip_local_port_range": "2000 3000"}});
    let mut checked = config.clone();
    checked["prevResult"] = serde_json::from_str(&node.add("c1", &pod, &config)).unwrap();
    assert_eq!(setting(&pod.namespace, "net/ipv6/conf/eth0/accept_ra"), "2");
    assert_eq!(setting(&pod.namespace, "net/ipv4/ip_local_port_range"), "2000\t3000");
    node.succeeds("CHECK", ("c1", &pod.path()), &checked);
    let late = Pod::new();
    node.fails(7, "ADD", ("c2", &late.path()), &json!({"sysctl": {"kernel.panic": 1}}));
    let failure = node.fails(5, "ADD", ("c2", &late.path()), &json!({"sysctl": {"net.ipv4.nothing": 1}}));
    assert_eq!(
        (&failure["msg"], node.leases().len(), node.host_links().len()),
        (&json!("set /proc/sys/net/ipv4/nothing to 1"), 1, 1)
    );
    assert_eq!(late.ip(&["link"]).as_array().unwrap().len(), 1);
}

/// cni:O1: a configuration that neither gives addresses nor comes after one that did.
#[test]
fn without_addresses_and_without_an_earlier_plugin_there_is_nothing_to_do() {
    let node = Node::new();
    let failure = node.fails(7, "ADD", ("c1", &Pod::new().path()), &json!({"ipam": null}));
    assert!(failure["msg"].as_str().unwrap().starts_with("ipam: it is missing"), "{failure}");
}
