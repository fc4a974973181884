//! Pods from their first request to nothing left.
//!
//! Everything is asked for as kubelet does, through CRI. Looked at is what is there afterwards: in the pod, on the node,
//! among the leases, and what is left when the pods are gone.

use heddle_cni::store::{Store, boot_id};
use heddle_tests::containerd::{Containerd, Cri, HOME, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::process::Invocation;
use heddle_tests::traffic::{self, Server, Transport};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

struct Node {
    namespace: Namespace,
    containerd: Containerd,
}

impl Node {
    fn start() -> Self {
        Self::with(|_| {})
    }

    /// With the configuration that ships, changed.
    fn with(change: impl FnOnce(&mut Value)) -> Self {
        let namespace = Namespace::new("node").unwrap();
        let plugins = [
            ("heddle-cni", Path::new(env!("CARGO_BIN_EXE_heddle-cni"))),
            ("loopback", Path::new(env!("CARGO_BIN_EXE_heddle-cni"))),
        ];
        let mut list: Value = serde_json::from_str(include_str!("../../../conf/10-heddle.conflist")).unwrap();
        list["plugins"][0]["ipam"]["dataDir"] = json!(format!("{HOME}/leases"));
        change(&mut list["plugins"][0]);
        let containerd = Containerd::start(&namespace, &plugins, &list).unwrap();
        Self { namespace, containerd }
    }

    /// A running pod: its id, its namespace and its addresses.
    fn run(&self, cri: &mut Cri, name: &str) -> (String, Namespace, Vec<IpAddr>) {
        self.run_pod(cri, &Pod::new(name))
    }

    fn run_pod(&self, cri: &mut Cri, pod: &Pod) -> (String, Namespace, Vec<IpAddr>) {
        let id = cri.run(pod).unwrap();
        cri.start_container(&id, pod).unwrap();
        let status = cri.status(&id).unwrap();
        assert!(status.ready, "{status:?}");
        let namespace = Namespace::existing(&pod.name, &self.containerd.path(&status.namespace)).unwrap();
        (id, namespace, status.addresses)
    }

    fn links(&self) -> Vec<String> {
        let output = Invocation::foreign("ip").args(["-j", "link"]).run(&self.namespace).unwrap();
        let links: Value = serde_json::from_str(&output.stdout).unwrap();
        let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("hdl")).collect()
    }

    fn leases(&self) -> usize {
        let folder = self.containerd.path(&format!("{HOME}/leases"));
        let store = Store::open_existing(&folder, "heddle", &boot_id().unwrap()).unwrap();
        store.map_or(0, |mut store| store.holders().unwrap().len())
    }

    /// Nothing of any pod is left: addresses, links, namespaces, processes.
    fn is_clean(&self, cri: &mut Cri) {
        assert_eq!((cri.pods().unwrap(), self.leases(), self.links()), (Vec::new(), 0, Vec::new()));
        let namespaces = std::fs::read_dir(self.containerd.path("/run/netns")).unwrap().count();
        assert_eq!((namespaces, self.containerd.others().unwrap()), (0, Vec::new()));
    }
}

fn reaches(from: &Namespace, to: IpAddr) {
    let outcome = traffic::tcp(from, SocketAddr::new(to, 8080)).unwrap();
    assert_eq!(outcome.endpoint(), Some("server"), "{to}: {outcome:?}");
}

/// cni:1.9, cni:L2, cni:L6, cni:E8: pods of both families that reach each other, across a restart of containerd; gone
/// with all that was theirs.
#[test]
fn pods_of_containerd_reach_each_other_and_leave_nothing() {
    let node = Node::start();
    let mut cri = node.containerd.cri().unwrap();
    let (one, here, mine) = node.run(&mut cri, "one");
    let (two, there, theirs) = node.run(&mut cri, "two");
    assert_eq!((mine.len(), theirs.len(), node.leases(), node.links().len()), (2, 2, 2, 2));
    assert!(mine[0].is_ipv4() && mine[1].is_ipv6(), "the primary address is the first IPv4 one: {mine:?}");
    let _server = Server::start(&there, "server", Transport::Tcp, 8080).unwrap();
    theirs.iter().for_each(|address| reaches(&here, *address));
    node.containerd.restart().unwrap();
    let mut cri = node.containerd.cri().unwrap();
    assert_eq!(cri.status(&two).unwrap().addresses, theirs);
    theirs.iter().for_each(|address| reaches(&node.namespace, *address));
    let (three, beside, _) = node.run(&mut cri, "three");
    theirs.iter().for_each(|address| reaches(&beside, *address));
    for id in [one, two, three] {
        cri.stop(&id).unwrap();
        cri.stop(&id).unwrap();
        cri.remove(&id).unwrap();
    }
    node.is_clean(&mut cri);
}

/// cni:1.9, cni:1.11, cni:#11: the namespace is gone before the pod is stopped, as after a reboot.
#[test]
fn a_pod_whose_namespace_is_gone_is_stopped() {
    let node = Node::start();
    let mut cri = node.containerd.cri().unwrap();
    let (id, namespace, _) = node.run(&mut cri, "one");
    let status = cri.status(&id).unwrap();
    node.containerd.lose_namespace(&status.namespace).unwrap_or_else(|e| panic!("{e}: {status:?}"));
    drop(namespace);
    cri.stop(&id).unwrap();
    cri.remove(&id).unwrap();
    node.is_clean(&mut cri);
}

/// cni:1.9, cni:1.11: the plugin's file is away while the pod is to be stopped; kubelet asks again, and containerd is a
/// new one meanwhile.
#[test]
fn a_stop_that_failed_is_tried_again() {
    let node = Node::start();
    let mut cri = node.containerd.cri().unwrap();
    let (id, ..) = node.run(&mut cri, "one");
    let file = node.containerd.path(&format!("{HOME}/bin/heddle-cni"));
    std::fs::rename(&file, file.with_extension("away")).unwrap();
    let failure = cri.stop(&id).unwrap_err().to_string();
    assert!(failure.contains("heddle-cni"), "{failure}");
    assert_eq!((node.leases(), node.links().len()), (1, 1));
    node.containerd.restart().unwrap();
    std::fs::rename(file.with_extension("away"), &file).unwrap();
    let mut cri = node.containerd.cri().unwrap();
    cri.stop(&id).unwrap();
    cri.remove(&id).unwrap();
    node.is_clean(&mut cri);
}

/// cni:1.11, cni:A6: a pod for which there is no address fails with our words and leaves nothing, each time; it works
/// once there is room.
#[test]
fn a_pod_without_an_address_leaves_nothing_until_there_is_room() {
    let node = Node::with(|plugin| plugin["ipam"]["ranges"] = json!([[{"subnet": "10.1.0.0/30"}]]));
    let mut cri = node.containerd.cri().unwrap();
    let (first, ..) = node.run(&mut cri, "first");
    for attempt in 0..3 {
        let failure = cri.run(&Pod::new(&format!("late-{attempt}"))).unwrap_err().to_string();
        assert!(failure.contains("no address left in range set 10.1.0.1-10.1.0.2"), "{failure}");
        assert_eq!((node.leases(), node.links().len()), (1, 1));
    }
    cri.stop(&first).unwrap();
    cri.remove(&first).unwrap();
    let (late, ..) = node.run(&mut cri, "late");
    cri.stop(&late).unwrap();
    for id in cri.pods().unwrap() {
        cri.stop(&id).unwrap();
        cri.remove(&id).unwrap();
    }
    node.is_clean(&mut cri);
}

/// cni:1.11, cni:P1, cni:#21: sandboxes are made and removed at once, while the plugin is replaced by renaming.
#[test]
fn sandboxes_are_made_at_once_while_the_plugin_is_replaced() {
    let node = Node::start();
    let lives = |number: usize, mut cri: Cri| {
        let ids: Vec<_> = (0..3).map(|i| cri.run(&Pod::new(&format!("pod-{number}-{i}"))).unwrap()).collect();
        for id in ids {
            cri.stop(&id).unwrap();
            cri.remove(&id).unwrap();
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|number| {
                let cri = node.containerd.cri().unwrap();
                scope.spawn(move || lives(number, cri))
            })
            .collect();
        let file = node.containerd.path(&format!("{HOME}/bin/heddle-cni"));
        while all.iter().any(|thread| !thread.is_finished()) {
            std::fs::copy(env!("CARGO_BIN_EXE_heddle-cni"), file.with_extension("new")).unwrap();
            std::fs::rename(file.with_extension("new"), &file).unwrap();
        }
    });
    node.is_clean(&mut node.containerd.cri().unwrap());
}

/// cni:1.6, cni:#17: containerd spells the keys of a port with capital letters; the next pod with that port is refused
/// until the first one is gone.
#[test]
fn a_port_of_the_node_leads_to_the_pod_until_it_stops() {
    let node = Node::start();
    let mut cri = node.containerd.cri().unwrap();
    let asking = |name: &str| Pod { ports: vec![(8088, 8080)], ..Pod::new(name) };
    let (first, inside, _) = node.run_pod(&mut cri, &asking("first"));
    let (client, beside, _) = node.run(&mut cri, "client");
    let _server = Server::start(&inside, "server", Transport::Tcp, 8080).unwrap();
    let port: SocketAddr = "10.244.0.1:8088".parse().unwrap();
    assert_eq!(traffic::tcp(&beside, port).unwrap().endpoint(), Some("server"));
    let failure = cri.run(&asking("second")).unwrap_err().to_string();
    assert!(failure.contains("8088"), "{failure}");
    cri.stop(&first).unwrap();
    assert_eq!(traffic::tcp(&beside, port).unwrap().endpoint(), None);
    let (second, ..) = node.run_pod(&mut cri, &asking("second"));
    [first, client, second].iter().for_each(|id| cri.stop(id).unwrap());
    cri.pods().unwrap().iter().for_each(|id| cri.remove(id).unwrap());
    node.is_clean(&mut cri);
}
