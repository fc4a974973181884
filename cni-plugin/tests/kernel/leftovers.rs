//! What pods leave that are gone without a DEL, and what links remember of those that live.

use crate::node::{Node, Pod};
use crate::site::{Site, ports};
use heddle_cni::hostports::HostPorts;
use heddle_cni::hostports::restore::Missing;
use heddle_cni::ipam::{Held, Owner};
use heddle_cni::leftovers::{Dead, Network};
use heddle_cni::node::Node as Kernel;
use heddle_cni::ranges::{RangeSet, Written};
use heddle_cni::store::{Store, boot_id};
use heddle_tests::patience::{PATIENCE, eventually};
use std::collections::BTreeSet;

/// Runs on the node what its agent runs.
fn on<T: Send>(node: &Node, work: impl FnOnce(&mut Kernel, Network<'_>) -> T + Send) -> T {
    let leases = node.folder();
    let inside = || work(&mut Kernel::open().unwrap(), Network { name: "pods", leases: &leases });
    node.namespace.enter(inside).unwrap()
}

fn dead(node: &Node) -> BTreeSet<Dead> {
    on(node, |kernel, network| network.find_dead(kernel).unwrap())
}

fn described(dead: &BTreeSet<Dead>) -> Vec<String> {
    dead.iter().map(ToString::to_string).collect()
}

/// A lease of another program's pod, whose link is none of ours.
fn import(node: &Node, container: &str, address: &str) {
    let range = |subnet: &str| vec![Written { subnet: Some(subnet.to_owned()), ..Written::default() }];
    let sets = RangeSet::read_all(&[range("10.244.1.0/24"), range("fd00:244:1::/64")]).unwrap();
    let held = Held {
        owner: Owner::new(container, "eth0"),
        addresses: vec![address.parse().unwrap()],
        foreign: true,
    };
    let mut store = Store::open(&node.folder(), "pods", &boot_id().unwrap()).unwrap();
    assert_eq!(store.adopt(&sets, &[held]).unwrap(), []);
}

/// cni:#8, cni:#10: a pod that is gone without a DEL is known by its link; one that lives, or came from another plugin, is not.
#[test]
fn what_has_no_link_is_dead_and_nothing_else_is() {
    let site = Site::new();
    let node = &site.node;
    let (lives, dies) = (Pod::new(), Pod::new());
    node.add("lives", &lives, &ports(&[(8080, 80, "tcp", "")]));
    node.add("dies", &dies, &ports(&[(8081, 80, "tcp", ""), (8082, 80, "udp", "")]));
    import(node, "of-another", "10.244.1.77");
    assert_eq!(dead(node), BTreeSet::new());
    drop(dies);
    let found = eventually("the links of a pod that is gone", PATIENCE, || {
        let found = dead(node);
        if found.len() == 2 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    let found = found.unwrap();
    assert_eq!(
        described(&found),
        [
            "addresses 10.244.1.3, fd00:244:1::3 of container dies interface eth0",
            "host ports of pods/dies/eth0 default/dies"
        ]
    );
    let buried = |kernel: &mut Kernel, network: Network<'_>| {
        found.iter().map(|dead| network.bury(kernel, dead).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(on(node, buried), [true, true]);
    assert_eq!(node.leases(), ["lives/eth0", "of-another/eth0"]);
    assert!(site.elements().iter().all(|element| element.contains("pods/lives/eth0")));
    assert_eq!(dead(node), BTreeSet::new());
}

/// Between a look and what follows from it, a pod may have come to life.
#[test]
fn what_lives_after_all_is_not_buried() {
    let site = Site::new();
    let node = &site.node;
    let pod = Pod::new();
    node.add("c1", &pod, &ports(&[(8080, 80, "tcp", "")]));
    let link = node.host_links().remove(0);
    let before = site.elements();
    let early = [
        Dead::Lease { owner: Owner::new("c1", "eth0"), addresses: vec![] },
        Dead::Ports { link, owner: String::new() },
    ];
    for dead in &early {
        assert!(!on(node, |kernel, network| network.bury(kernel, dead).unwrap()), "{dead:?}");
    }
    assert_eq!((node.leases(), site.elements()), (vec!["c1/eth0".to_owned()], before));
}

fn missing(node: &Node) -> Missing {
    on(node, |kernel, _| HostPorts::open().unwrap().find_missing(kernel).unwrap())
}

/// Who flushes the ruleset takes the ports of all pods; their links remember them, in words that go with the pod.
#[test]
fn links_remember_the_ports_of_their_pods() {
    let site = Site::new();
    let node = &site.node;
    let (one, two, without) = (Pod::new(), Pod::new(), Pod::new());
    node.add("one", &one, &ports(&[(8080, 80, "tcp", ""), (53, 53, "udp", crate::site::NODE[0])]));
    node.add("two", &two, &ports(&[(8081, 80, "tcp", "")]));
    node.add("without", &without, &serde_json::json!({}));
    let before = site.elements();
    assert_eq!(missing(node), Missing::default());
    site.nft(&["flush", "ruleset"]);
    let lost = missing(node);
    assert!(lost.broken && lost.pods.len() == 2, "{lost:?}");
    on(node, |kernel, _| {
        let mut ports = HostPorts::open().unwrap();
        for (note, claims) in &lost.pods {
            ports.claim(kernel, (claims, note)).unwrap();
        }
    });
    assert_eq!((site.elements(), missing(node)), (before, Missing::default()));
    site.nft(&["delete", "element", "ip", "heddle-hostports", "ports", "{ tcp . 8081 }"]);
    let lost = missing(node);
    let notes: Vec<_> = lost.pods.keys().map(|note| note.split_once(' ').unwrap().1).collect();
    assert_eq!((lost.broken, notes), (false, vec!["pods/two/eth0 default/two"]));
    node.del("two", &two.path(), &serde_json::json!({}));
    assert_eq!(missing(node), Missing::default());
}
