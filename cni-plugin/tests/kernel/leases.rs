//! What becomes of addresses when the folder with the leases is lost, full, damaged or not writable.

use crate::node::{Node, Pod, addresses};
use heddle_tests::process::Invocation;
use heddle_tests::scratch::Scratch;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;

/// A configuration whose leases are in this folder.
fn kept_in(scratch: &Scratch) -> Value {
    json!({"ipam": {"type": "heddle", "subnet": "10.1.0.0/16", "dataDir": scratch.path()}})
}

/// cni:6.2 (truncated or zeroed state), cni:#8, cni:#9: the kernel says whose an address is, so that none is
/// given twice; and what was lost is given again once its pod is gone.
#[test]
fn addresses_of_pods_that_live_are_not_given_again_when_the_table_is_lost() {
    let losses: [fn(&Node); 4] = [
        |node| fs::remove_dir_all(node.table().parent().unwrap()).unwrap(),
        |node| fs::write(node.table(), "").unwrap(),
        |node| fs::write(node.table(), vec![0; fs::read(node.table()).unwrap().len()]).unwrap(),
        |node| File::options().write(true).open(node.table()).unwrap().set_len(100_000).unwrap(),
    ];
    for lose in losses {
        let node = Node::new();
        let pods: Vec<_> = (0..4).map(|_| Pod::new()).collect();
        let mut all = BTreeSet::new();
        all.extend(addresses(&node.add("c0", &pods[0], &json!({}))));
        all.extend(addresses(&node.add("c1", &pods[1], &json!({}))));
        lose(&node);
        all.extend(addresses(&node.add("c2", &pods[2], &json!({}))));
        assert_eq!((all.len(), node.leases()), (6, vec!["c2/eth0".to_owned()]));
        node.del("c0", &pods[0].path(), &json!({}));
        let small = json!({"ipam": {"type": "heddle", "subnet": "10.244.1.0/24", "rangeEnd": "10.244.1.2"}});
        assert_eq!(addresses(&node.add("c3", &pods[3], &small)), ["10.244.1.2".parse::<IpAddr>().unwrap()]);
    }
}

#[test]
fn a_wanted_address_whose_lease_was_lost_is_refused_with_its_holder() {
    let node = Node::new();
    let (one, two) = (Pod::new(), Pod::new());
    node.add("c1", &one, &json!({}));
    fs::remove_file(node.table()).unwrap();
    let wanted = json!({"args": {"cni": {"ips": ["10.244.1.2"]}}});
    let failure = node.fails(101, "ADD", ("c2", &two.path()), &wanted);
    assert_eq!(failure["msg"], "address 10.244.1.2 is held by container c1");
    assert_eq!((node.leases().len(), node.host_links().len()), (0, 1));
}

#[test]
fn a_link_is_found_by_the_addresses_of_its_pod() {
    let (node, pod) = (Node::new(), Pod::new());
    node.add("c1", &pod, &json!({}));
    for name in ["pods:10.244.1.2", "pods:fd00:244:1::2"] {
        assert_eq!(node.ip(&["link", "show", name])[0]["ifname"], json!(node.host_links()[0]));
    }
}

/// Two processes may come to the same address at the same moment, each with a table of its own: the kernel decides.
#[test]
fn two_links_never_have_the_same_address() {
    let (node, pod) = (Node::new(), Pod::new());
    node.add("c1", &pod, &json!({}));
    let names = ["pods:10.9.9.9".to_owned(), "pods:10.244.1.2".to_owned()];
    node.ip(&["link", "add", "other", "type", "veth", "peer", "end"]);
    let refused = node.namespace.enter(|| {
        let mut socket = heddle_netlink::Socket::open(heddle_netlink::Family::Route).unwrap();
        let mut batch = heddle_netlink::Batch::new();
        heddle_netlink::link::add_names(&mut batch, heddle_netlink::link::Which::Name("other"), &names);
        socket.request(&mut batch).unwrap_err().errno()
    });
    assert_eq!(refused.unwrap(), Some(heddle_netlink::Errno::EXIST));
}

/// cni:6.2 (ENOSPC), cni:A4, cni:D1: code 5 and nothing left; a DEL needs no block.
#[test]
fn on_a_full_disk_add_fails_with_nothing_left_and_del_works() {
    let (node, scratch) = (Node::new(), Scratch::of_size(1 << 20).unwrap());
    let (one, two) = (Pod::new(), Pod::new());
    let config = kept_in(&scratch);
    let mut filler = File::create(scratch.path().join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let failure = node.fails(5, "ADD", ("c1", &one.path()), &config);
    assert!(failure["details"].as_str().unwrap().contains("No space left on device"), "{failure}");
    assert_eq!((node.host_links().len(), one.ip(&["link"]).as_array().unwrap().len()), (0, 1));
    drop(filler);
    fs::remove_file(scratch.path().join("filler")).unwrap();
    node.add("c1", &one, &config);
    let mut filler = File::create(scratch.path().join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    node.del("c1", &one.path(), &config);
    node.del("c1", &one.path(), &config);
    assert_eq!(addresses(&node.add("c2", &two, &config)), ["10.1.0.3".parse::<IpAddr>().unwrap()]);
}

/// cni:6.2 (read-only state folder).
#[test]
fn in_a_read_only_folder_add_fails_with_nothing_left() {
    let (node, scratch) = (Node::new(), Scratch::new().unwrap());
    let (one, two) = (Pod::new(), Pod::new());
    let config = kept_in(&scratch);
    node.add("c1", &one, &config);
    scratch.make_read_only().unwrap();
    let failure = node.fails(5, "ADD", ("c2", &two.path()), &config);
    assert!(failure["details"].as_str().unwrap().contains("Read-only file system"), "{failure}");
    assert_eq!((node.host_links().len(), two.ip(&["link"]).as_array().unwrap().len()), (1, 1));
    node.del("c2", &two.path(), &config);
    node.fails(5, "DEL", ("c1", &one.path()), &config);
    assert_eq!(node.host_links().len(), 0, "all that can be done is done");
}

/// cni:E6: an id of any length that the environment takes, told apart by its last byte.
#[test]
fn containers_with_very_long_ids_are_told_apart() {
    let node = Node::new();
    let ids = ["x", "y"].map(|end| format!("{}{end}", "a".repeat(100_000)));
    let pods = ids.each_ref().map(|_| Pod::new());
    for (id, pod) in ids.iter().zip(&pods) {
        node.add(id, pod, &json!({"args": {}}));
    }
    assert_eq!((node.leases().len(), node.host_links().len()), (2, 2));
    let valid = json!([{"containerID": ids[1], "ifname": "eth0"}]);
    node.gc(&json!({"cni.dev/valid-attachments": valid}));
    assert_eq!((node.leases().len(), node.host_links().len()), (1, 1));
    node.del(&ids[1], &pods[1].path(), &json!({}));
    assert_eq!((node.leases().len(), node.host_links().len()), (0, 0));
}

#[test]
fn excluded_addresses_and_the_order_of_ranges_are_kept() {
    let node = Node::new();
    let ranges = json!([[{"subnet": "10.1.0.0/29", "exclude": ["10.1.0.2/31", "10.1.0.5", "10.1.0.6"]},
        {"subnet": "10.1.1.0/24"}]]);
    let config = json!({"isDefaultGateway": false, "ipam": {"type": "heddle", "ranges": ranges}});
    let pods: Vec<_> = (0..2).map(|_| Pod::new()).collect();
    let given: Vec<_> =
        pods.iter().zip(["c1", "c2"]).flat_map(|(pod, id)| addresses(&node.add(id, pod, &config))).collect();
    assert_eq!(given, ["10.1.0.4", "10.1.1.2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    let wrong =
        json!({"ipam": {"type": "heddle", "ranges": [[{"subnet": "10.1.0.0/29"}]], "exclude": ["10.1.0.4"]}});
    let failure = node.fails(7, "ADD", ("c3", "/x"), &wrong);
    assert_eq!(failure["msg"], "ipam.exclude: write it into the range that it is about");
}

/// A node changes over with pods that run: the reference plugin gave the addresses, and we take them back.
#[test]
fn leases_of_host_local_are_taken_over_in_one_step() {
    let (node, pod) = (Node::new(), Pod::new());
    let folder = node.folder().join("host-local");
    let theirs = json!({"cniVersion": "1.0.0", "name": "pods", "type": "host-local", "ipam": {"type": "host-local",
        "dataDir": folder, "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:1::/64"}]]}});
    for container in ["old1", "old2"] {
        let host_local = Invocation::foreign("/usr/lib/cni/host-local")
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/usr/lib/cni")
            .input(theirs.to_string());
        let output = host_local.run(&node.namespace).unwrap();
        assert!(output.status.success(), "{}{}", output.stdout, output.stderr);
    }
    fs::write(folder.join("pods/10.244.1.99"), "").unwrap();
    let ours = node.config(&json!({}));
    let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "other"}, ours]});
    let file = node.file("10-heddle.conflist", &list.to_string());
    let import = || {
        let arguments = ["import-host-local", "--config", file.to_str().unwrap(), "--from"];
        node.program().args(arguments).args([folder.join("pods")]).run(&node.namespace).unwrap()
    };
    let said = import().stdout;
    assert!(said.contains("leases taken over: 2, known already: 0\n"), "{said}");
    assert!(said.contains("skipped the file 10.244.1.99: it is empty\n"), "{said}");
    assert!(import().stdout.contains("leases taken over: 0, known already: 2\n"));
    let new = addresses(&node.add("new", &pod, &json!({})));
    assert_eq!(new, ["10.244.1.4", "fd00:244:1::4"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    node.del("old1", "", &json!({}));
    assert_eq!(node.leases(), ["new/eth0", "old2/eth0"]);
}

#[test]
fn people_are_told_what_the_program_takes() {
    let node = Node::new();
    let told = |arguments: &[&str]| node.program().args(arguments).run(&node.namespace).unwrap();
    let help = told(&["--help"]);
    assert!(help.status.success() && help.stdout.contains("heddle-cni import-host-local"));
    for wrong in
        [&["bogus"][..], &["import-host-local", "--config"], &["import-host-local", "--config", "/nowhere"]]
    {
        let output = told(wrong);
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), ""), "{wrong:?}");
        assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
    }
}
