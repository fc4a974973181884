//! Pods that are left out of serving at sockets by their label: their connections are packets that nftables translates, which the
//! node's connection tracking shows; those of all others are not.

use heddle_netlink::conntrack::{self, Destination, Filter, Flow};
use heddle_netlink::{Family, Socket};
use heddle_tests::cluster::Cluster;
use heddle_tests::lab::{Lab, Node, Pod, Underlay};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy, says, status};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

type Outcomes = Result<(), Box<dyn Error>>;

const NODE: &str = "node-1";
const PORT: u16 = 80;
const TARGET: u16 = 8080;
const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), PORT);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10)), PORT);

/// A Service with a port of TCP and one of UDP, and its one endpoint.
fn objects(web: &Pod) -> Vec<Value> {
    let both = |mut object: Value, ports: &str| {
        let ports = object.pointer_mut(ports).and_then(Value::as_array_mut).expect("it has ports");
        let mut udp = ports[0].clone();
        (udp["name"], udp["protocol"]) = (json!("udp"), json!("UDP"));
        ports.push(udp);
        object
    };
    let endpoints = |ipv6: bool| {
        let of_family: Vec<IpAddr> =
            web.addresses().iter().copied().filter(|ip| ip.is_ipv6() == ipv6).collect();
        both(slice("web", NODE, &of_family, TARGET), "/ports")
    };
    let front = both(service("web", &[V4.ip(), V6.ip()], PORT, TARGET), "/spec/ports");
    vec![front, endpoints(false), endpoints(true)]
}

fn pod_object(name: &str, addresses: &[IpAddr], sockets: &str) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": "default", "name": name, "labels": { "heddle.dev/sockets": sockets } },
        "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "main" }] },
        "status": { "phase": "Running", "podIPs": addresses },
    })
}

/// The one endpoint: it takes connections and datagrams when the test says so.
struct Web {
    tcp: TcpListener,
    udp: UdpSocket,
    pod: Pod,
}

impl Web {
    fn on(node: &Node) -> Result<Self, Box<dyn Error>> {
        let pod = node.pod("web")?;
        let any = (Ipv6Addr::UNSPECIFIED, TARGET);
        let open = || Ok::<_, io::Error>((TcpListener::bind(any)?, UdpSocket::bind(any)?));
        let (tcp, udp) = pod.namespace().enter(open)??;
        udp.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { tcp, udp, pod })
    }

    /// A connection from there, and which client the endpoint sees.
    fn connect(&self, from: &Namespace, to: SocketAddr) -> Result<(Connection, IpAddr), Box<dyn Error>> {
        let client = from.enter(|| TcpStream::connect_timeout(&to, PATIENCE))??;
        assert_eq!(client.peer_addr()?, to);
        let (server, seen) = self.tcp.accept()?;
        [&client, &server].into_iter().try_for_each(|stream| stream.set_read_timeout(Some(PATIENCE)))?;
        Ok((Connection { client, server }, seen.ip().to_canonical()))
    }

    /// A datagram there and one back.
    fn exchange(&self, client: &UdpSocket) -> Outcomes {
        let mut buffer = [0; 8];
        client.send_to(b"?", V4)?;
        let (_, from) = self.udp.recv_from(&mut buffer)?;
        self.udp.send_to(b"!", from)?;
        assert_eq!(client.recv_from(&mut buffer)?, (1, V4));
        Ok(())
    }
}

/// Both ends of a connection.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// Something there, and something back.
    fn talk(&mut self) -> Outcomes {
        let mut buffer = [0; 1];
        self.client.write_all(b"?")?;
        self.server.read_exact(&mut buffer)?;
        self.server.write_all(b"!")?;
        Ok(self.client.read_exact(&mut buffer)?)
    }
}

/// The flows to the Services that the node tracks from this port.
fn tracked(
    node: &Node,
    (protocol, to, from): (u8, SocketAddr, SocketAddr),
) -> Result<Vec<Flow>, Box<dyn Error>> {
    let filter = Filter { destination: Destination::Address(to.ip()), protocol, port: Some(PORT) };
    let list = || {
        let from_there = |flow: &Flow| flow.original.source.port() == from.port();
        conntrack::list(&mut Socket::open(Family::Netfilter)?, &filter, from_there)
    };
    Ok(node.namespace().enter(list)??)
}

/// Whether packets of the connection are translated on the node.
fn is_translated(node: &Node, connection: &Connection) -> Result<bool, Box<dyn Error>> {
    let (from, to) = (connection.client.local_addr()?, connection.client.peer_addr()?);
    Ok(!tracked(node, (6, to, from))?.is_empty())
}

/// Connects from a pod until its packets are translated, or are not.
fn comes_to(node: &Node, (web, pod): (&Web, &Pod), translated: bool) -> Result<Connection, Box<dyn Error>> {
    let mut last = None;
    eventually(&format!("translated packets of {}: {translated}", pod.name()), PATIENCE, || {
        let (connection, _) = web.connect(pod.namespace(), V4).map_err(|error| error.to_string())?;
        let is = is_translated(node, &connection).map_err(|error| error.to_string())?;
        last = Some(connection);
        if is == translated { Ok(()) } else { Err(format!("translated: {is}")) }
    })?;
    Ok(last.ok_or("no connection")?)
}

/// A node with two clients and an endpoint.
struct Stage {
    proxy: Proxy,
    manifests: Manifests,
    web: Web,
    mesh: Pod,
    plain: Pod,
    lab: Lab,
}

impl Stage {
    fn new(left_out: bool) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::with_sockets(&[NODE])?;
        let node = lab.node(NODE)?;
        let (mesh, plain, web) = (node.pod("mesh")?, node.pod("plain")?, Web::on(node)?);
        let manifests = Manifests::of(node)?;
        for (number, object) in objects(&web.pod).iter().enumerate() {
            manifests.put(&format!("{number}.json"), &object.to_string())?;
        }
        if left_out {
            manifests.put("mesh.json", &pod_object("mesh", mesh.addresses(), "off").to_string())?;
        }
        let proxy = Proxy::start_with(node, &["--manifests", &manifests.folder(), "-v", "4"])?;
        proxy.ready(node)?;
        proxy.serves_sockets()?;
        Ok(Self { proxy, manifests, web, mesh, plain, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node(NODE)?)
    }

    fn label(&self, sockets: &str) -> Outcomes {
        let object = pod_object("mesh", self.mesh.addresses(), sockets);
        Ok(self.manifests.put("mesh.json", &object.to_string())?)
    }

    fn comes_to(&self, pod: &Pod, translated: bool) -> Result<Connection, Box<dyn Error>> {
        comes_to(self.node()?, (&self.web, pod), translated)
    }
}

/// From its first connection on: the label is known before the first program runs.
#[test]
fn a_labelled_pod_is_served_by_packets_and_the_others_at_their_sockets() -> Outcomes {
    let stage = Stage::new(true)?;
    let node = stage.node()?;
    for (pod, translated) in [(&stage.mesh, true), (&stage.plain, false)] {
        for to in [V4, V6] {
            let (mut connection, seen) = stage.web.connect(pod.namespace(), to)?;
            connection.talk()?;
            assert!(pod.addresses().contains(&seen), "{} is seen as {seen}", pod.name());
            assert_eq!(is_translated(node, &connection)?, translated, "{} to {to}", pod.name());
        }
    }
    let (connection, _) = stage.web.connect(node.namespace(), V4)?;
    assert!(!is_translated(node, &connection)?, "the node itself is not left out");
    Ok(())
}

/// ebpf:6.7: its part about sockets, changed while the pod runs.
#[test]
fn a_label_counts_for_new_connections_and_leaves_established_ones_alone() -> Outcomes {
    let stage = Stage::new(false)?;
    let node = stage.node()?;
    let mut at_socket = stage.comes_to(&stage.mesh, false)?;
    stage.label("off")?;
    let mut by_packets = stage.comes_to(&stage.mesh, true)?;
    stage.comes_to(&stage.plain, false)?;
    at_socket.talk()?;
    assert_eq!(at_socket.client.peer_addr()?, V4, "what a socket was told is known on");
    stage.label("on")?;
    stage.comes_to(&stage.mesh, false)?;
    stage.label("off")?;
    stage.comes_to(&stage.mesh, true)?;
    stage.manifests.remove("mesh.json")?;
    stage.comes_to(&stage.mesh, false)?;
    for connection in [&mut at_socket, &mut by_packets] {
        connection.talk()?;
    }
    assert!(is_translated(node, &by_packets)? && !is_translated(node, &at_socket)?);
    Ok(())
}

#[test]
fn an_unconnected_udp_socket_follows_the_label_with_its_next_datagram() -> Outcomes {
    let stage = Stage::new(false)?;
    let node = stage.node()?;
    let client = stage.mesh.namespace().enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    client.set_read_timeout(Some(PATIENCE))?;
    let from = client.local_addr()?;
    // What an earlier datagram left is forgotten before each.
    let is_translated = || -> Result<bool, Box<dyn Error>> {
        let before = tracked(node, (17, V4, from))?;
        node.namespace().enter(|| conntrack::forget(&mut Socket::open(Family::Netfilter)?, &before))??;
        stage.web.exchange(&client)?;
        Ok(!tracked(node, (17, V4, from))?.is_empty())
    };
    assert!(!is_translated()?);
    for (label, translated) in [("off", true), ("on", false), ("off", true)] {
        stage.label(label)?;
        eventually(&format!("datagrams with {label}"), PATIENCE, || match is_translated() {
            Ok(is) if is == translated => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    Ok(())
}

#[test]
fn a_pod_that_is_known_before_its_namespace_is_left_out_once_it_is_there() -> Outcomes {
    let stage = Stage::new(false)?;
    let address: IpAddr = "10.244.1.77".parse()?;
    stage.manifests.put("late.json", &pod_object("late", &[address], "off").to_string())?;
    stage.proxy.logs("no network namespace of a pod has 10.244.1.77")?;
    let node = stage.node()?;
    says(
        node,
        "left out   10.244.1.77; not all of them yet: no network namespace of a pod has 10.244.1.77\n",
    )?;
    let late = node.pod_at("late", &[address])?;
    stage.comes_to(&late, true)?;
    stage.proxy.logs("all pods that are to be left out are")?;
    says(node, "left out   10.244.1.77\n")?;
    stage.manifests.remove("late.json")?;
    stage.comes_to(&late, false)?;
    assert!(!status(node)?.contains("left out "), "nobody is any more");
    Ok(())
}

#[test]
fn a_pod_on_the_nodes_network_is_served_and_that_is_said() -> Outcomes {
    let stage = Stage::new(false)?;
    let node = stage.node()?;
    let mut host = pod_object("host", &node.addresses(), "off");
    host["spec"]["hostNetwork"] = json!(true);
    stage.manifests.put("host.json", &host.to_string())?;
    stage.proxy.logs("is not possible with spec.hostNetwork")?;
    let (connection, _) = stage.web.connect(node.namespace(), V4)?;
    assert!(!is_translated(node, &connection)?);
    Ok(())
}

/// A node that follows the API server, with two clients and an endpoint.
struct Following {
    web: Web,
    mesh: Pod,
    plain: Pod,
    cluster: Cluster,
}

impl Following {
    fn new() -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::new(Underlay::flat(&[NODE]).with_sockets(), &[])?;
        let node = cluster.node(NODE)?;
        let (mesh, plain, web) = (node.pod("mesh")?, node.pod("plain")?, Web::on(node)?);
        let stage = Self { web, mesh, plain, cluster };
        objects(&stage.web.pod).into_iter().try_for_each(|object| stage.apply(object))?;
        stage.apply(pod_object("mesh", stage.mesh.addresses(), "off"))?;
        Ok(stage)
    }

    fn apply(&self, object: Value) -> Outcomes {
        Ok(self.cluster.api.apply(object).map(drop).map_err(|refusal| format!("{refusal:?}"))?)
    }

    fn serve_sockets(&mut self) -> Result<&Proxy, Box<dyn Error>> {
        self.cluster.start_proxy(NODE)?;
        let proxy = self.cluster.proxy(NODE).ok_or("no proxy")?;
        proxy.ready(self.cluster.node(NODE)?)?;
        proxy.serves_sockets()?;
        Ok(proxy)
    }

    fn comes_to(&self, pod: &Pod, translated: bool) -> Outcomes {
        comes_to(self.cluster.node(NODE)?, (&self.web, pod), translated).map(drop)
    }
}

/// A pod of another node, and one without the label, have the other client's addresses here: whoever heard of one would leave it
/// out.
#[test]
fn the_api_server_tells_of_labelled_pods_of_this_node_alone() -> Outcomes {
    let mut stage = Following::new()?;
    let mut elsewhere = pod_object("elsewhere", stage.plain.addresses(), "off");
    elsewhere["spec"]["nodeName"] = json!("node-2");
    stage.apply(elsewhere)?;
    stage.apply(pod_object("plain", stage.plain.addresses(), "on"))?;
    stage.serve_sockets()?;
    stage.comes_to(&stage.mesh, true)?;
    stage.comes_to(&stage.plain, false)?;
    for (label, translated) in [("off", true), ("on", false)] {
        stage.apply(pod_object("plain", stage.plain.addresses(), label))?;
        stage.comes_to(&stage.plain, translated)?;
    }
    stage.cluster.api.delete("pods", "default", "mesh").map_err(|refusal| format!("{refusal:?}"))?;
    stage.comes_to(&stage.mesh, false)
}

#[test]
fn without_the_right_to_see_pods_all_are_served_at_sockets_and_that_is_said() -> Outcomes {
    let mut stage = Following::new()?;
    stage.cluster.api.forbid(Some("pods"));
    stage.serve_sockets()?.logs("no right to watch pods")?;
    stage.comes_to(&stage.mesh, false)
}
