//! Host ports: who reaches a pod by a port of its node, and who is left alone.

use crate::node::{Pod, addresses, setting};
use crate::site::{NODE, OUTSIDE, SECOND, Site, answer, ask, ports};
use heddle_tests::traffic::{Outcome, Server, Transport};
use serde_json::{Value, json};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

fn both(host: u16, container: u16) -> Value {
    ports(&[(host, container, "tcp", ""), (host, container, "udp", "")])
}

fn servers(pod: &Pod, name: &str, port: u16) -> Vec<Server> {
    TRANSPORTS
        .iter()
        .map(|transport| Server::start(&pod.namespace, name, *transport, port).unwrap())
        .collect()
}

/// cni:2.4: from everywhere, in both families; only where an answer could not come back otherwise is the client's address
/// another one.
#[test]
fn a_port_is_reached_from_outside_the_node_and_every_pod() {
    for mode in ["bridge", "ptp"] {
        let site = Site::new();
        let (web, other) = (Pod::new(), Pod::new());
        let mut keys = both(8080, 80);
        keys["mode"] = json!(mode);
        let mine = addresses(&site.node.add("web", &web, &keys));
        let theirs = addresses(&site.node.add("other", &other, &json!({"mode": mode})));
        let _servers = servers(&web, "web", 80);
        for (family, transport) in [0, 1].into_iter().flat_map(|f| TRANSPORTS.map(|t| (f, t))) {
            let (address, to) = (NODE[family], (NODE[family], 8080));
            let outside: IpAddr = OUTSIDE[family].parse().unwrap();
            assert_eq!(answer(&site.outside, transport, to), ("web".to_owned(), outside));
            assert_eq!(answer(&other.namespace, transport, to), ("web".to_owned(), theirs[family]));
            assert_eq!(
                answer(&site.node.namespace, transport, to),
                ("web".to_owned(), address.parse().unwrap())
            );
            let (itself, source) = answer(&web.namespace, transport, to);
            assert_eq!((itself.as_str(), source == mine[family]), ("web", false), "{mode} {source}");
        }
        for transport in TRANSPORTS {
            assert_eq!(answer(&site.node.namespace, transport, ("127.0.0.1", 8080)).0, "web", "{mode}");
            assert_eq!(answer(&site.node.namespace, transport, ("127.1.2.3", 8080)).0, "web", "{mode}");
        }
        // Nothing can be translated to or from ::1: refused at once is better than a wait.
        assert_eq!(ask(&site.node.namespace, Transport::Tcp, ("::1", 8080)), Outcome::Refused);
    }
}

/// cni:#16: hostPorts with a hostIP, and ports of addresses that are not the node's.
#[test]
fn other_addresses_are_left_alone() {
    let site = Site::new();
    let (one, all) = (Pod::new(), Pod::new());
    let bound = [(8080, 80, "tcp", SECOND[0]), (8080, 80, "tcp", SECOND[1]), (8081, 80, "tcp", "127.0.0.1")];
    site.node.add("one", &one, &ports(&bound));
    site.node.add("all", &all, &ports(&[(9090, 80, "tcp", "")]));
    let _one = servers(&one, "one", 80);
    let _all = servers(&all, "all", 80);
    let _elsewhere = Server::start(&site.outside, "elsewhere", Transport::Tcp, 9090).unwrap();
    for family in [0, 1] {
        assert_eq!(answer(&site.outside, Transport::Tcp, (SECOND[family], 8080)).0, "one");
        assert_eq!(ask(&site.outside, Transport::Tcp, (NODE[family], 8080)), Outcome::Refused);
        for from in [&site.node.namespace, &one.namespace, &all.namespace] {
            assert_eq!(answer(from, Transport::Tcp, (OUTSIDE[family], 9090)).0, "elsewhere");
        }
    }
    assert_eq!(answer(&site.node.namespace, Transport::Tcp, ("127.0.0.1", 8081)).0, "one");
    assert_eq!(ask(&site.outside, Transport::Tcp, (NODE[0], 8081)), Outcome::Refused);
    site.node.del("all", &all.path(), &json!({}));
    assert_eq!(ask(&site.outside, Transport::Tcp, (NODE[0], 9090)), Outcome::Refused);
    assert_eq!(site.elements().iter().filter(|element| element.contains("/all/")).count(), 0);
}

/// The setting that lets the node use 127.0.0.1 would let neighbours reach what listens there alone (CVE-2020-8558).
#[test]
fn nobody_else_reaches_the_nodes_loopback_addresses() {
    let site = Site::new();
    let (web, stranger) = (Pod::new(), Pod::new());
    site.node.add("web", &web, &both(8080, 80));
    site.node.add("stranger", &stranger, &json!({}));
    assert_eq!(setting(&site.node.namespace, "net/ipv4/conf/cni0/route_localnet"), "1");
    let _private = Server::start(&site.node.namespace, "private", Transport::Tcp, 9000).unwrap();
    stranger.namespace.sysctl("ipv4/conf/all/route_localnet", "1").unwrap();
    stranger.ip(&["address", "del", "127.0.0.1/8", "dev", "lo"]);
    stranger.ip(&["route", "add", "127.0.0.1/32", "via", "10.244.1.1"]);
    assert_eq!(ask(&stranger.namespace, Transport::Tcp, ("127.0.0.1", 9000)), Outcome::Timeout);
    // The proof that it is the guard: without it, the stranger is answered.
    site.nft(&["flush", "chain", "ip", "heddle-hostports", "guard"]);
    assert_eq!(answer(&stranger.namespace, Transport::Tcp, ("127.0.0.1", 9000)).0, "private");
    site.node.add("next", &Pod::new(), &both(8081, 80));
    assert_eq!(ask(&stranger.namespace, Transport::Tcp, ("127.0.0.1", 9000)), Outcome::Timeout);
}

/// A client that keeps its socket, and so its flow.
struct Talker(UdpSocket);

impl Talker {
    fn new(site: &Site, to: (&str, u16)) -> Self {
        let any = if to.0.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = site.outside.enter(|| UdpSocket::bind(any)).unwrap().unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        Self(socket)
    }

    fn hears(&self) -> Option<String> {
        let mut answer = [0; 64];
        self.0.send(b"who?").ok()?;
        let length = self.0.recv(&mut answer).ok()?;
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        text.split(' ').next().map(str::to_owned)
    }
}

/// cni:#15: the flow of a client that goes on sending finds the new pod, after a pod and after nobody.
#[test]
fn a_udp_client_that_goes_on_reaches_the_next_pod_at_once() {
    for address in NODE {
        let site = Site::new();
        let talker = Talker::new(&site, (address, 5353));
        assert_eq!(talker.hears(), None, "refused, and the flow is remembered");
        for name in ["first", "second", "third"] {
            let pod = Pod::new();
            site.node.add(name, &pod, &ports(&[(5353, 53, "udp", "")]));
            let _server = Server::start(&pod.namespace, name, Transport::Udp, 53).unwrap();
            assert_eq!(talker.hears().as_deref(), Some(name), "{address}");
            site.node.del(name, &pod.path(), &json!({}));
        }
    }
}

/// The table is for people, too, and nothing that nft 1.0.6 chokes on; with a pod in it, it is what the repository shows.
#[test]
fn nft_lists_the_table_and_takes_it_back() {
    let site = Site::new();
    site.node.add("c1", &Pod::new(), &ports(&[(8080, 80, "tcp", ""), (53, 53, "udp", SECOND[0])]));
    let listed = site.nft(&["list", "ruleset"]);
    assert_eq!(site.nft(&["list", "table", "ip", "heddle-hostports"]), include_str!("hostports.nft"));
    site.nft(&["flush", "ruleset"]);
    let file = site.node.file("ruleset", &listed);
    site.nft(&["-f", &file.display().to_string()]);
    assert_eq!(site.nft(&["list", "ruleset"]), listed);
}

/// cni:A3: a chain's interface is another plugin's; its ports are ours all the same.
#[test]
fn ports_lead_to_an_interface_of_another_plugin() {
    let site = Site::new();
    let pod = Pod::new();
    let path = pod.path();
    site.node.ip(&["link", "add", "other0", "type", "veth", "peer", "eth0", "netns", &path]);
    site.node.ip(&["link", "set", "other0", "up"]);
    site.node.ip(&["address", "add", "10.9.0.1/24", "dev", "other0"]);
    pod.ip(&["link", "set", "eth0", "up"]);
    pod.ip(&["address", "add", "10.9.0.2/24", "dev", "eth0"]);
    pod.ip(&["route", "add", "default", "via", "10.9.0.1"]);
    site.node.namespace.sysctl("ipv4/ip_forward", "1").unwrap();
    let mut keys = ports(&[(8080, 80, "tcp", "")]);
    keys["prevResult"] = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24", "interface": 0}],
        "interfaces": [{"name": "eth0", "sandbox": path}]});
    site.node.add("c1", &pod, &keys);
    let _server = Server::start(&pod.namespace, "web", Transport::Tcp, 80).unwrap();
    assert_eq!(answer(&site.outside, Transport::Tcp, (NODE[0], 8080)).0, "web");
    assert_eq!(answer(&site.node.namespace, Transport::Tcp, ("127.0.0.1", 8080)).0, "web");
    site.node.succeeds("CHECK", ("c1", &path), &keys);
    site.node.del("c1", &path, &keys);
    assert_eq!(site.elements().len(), 0);
}
