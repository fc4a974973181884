//! UDP clients that keep their port, while the real `heddle-proxy` follows endpoints that come and go.

use heddle_netlink::conntrack::{self, Destination, Filter, Flow};
use heddle_netlink::{Family, Socket};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Server, Transport};
use serde_json::{Value, json};
use std::error::Error;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

type Outcomes = Result<(), Box<dyn Error>>;

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 53);
const TARGET: u16 = 5353;
const NODE_PORT: u16 = 30_053;

/// A node with a client and two DNS servers, and a host outside.
struct Stage {
    _proxy: Proxy,
    manifests: Manifests,
    _servers: Vec<Server>,
    webs: Vec<Pod>,
    client: Pod,
    lab: Lab,
}

impl Stage {
    /// With a Service whose one endpoint is the first server.
    fn new() -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let node = lab.node("node-1")?;
        let client = node.pod_at("client", &["10.244.1.10".parse()?])?;
        let webs = vec![
            node.pod_at("dns-1", &["10.244.1.11".parse()?])?,
            node.pod_at("dns-2", &["10.244.1.12".parse()?])?,
        ];
        let server = |pod: &Pod| Server::start(pod.namespace(), pod.name(), Transport::Udp, TARGET);
        let servers = webs.iter().map(server).collect::<Result<_, _>>()?;
        let manifests = Manifests::of(node)?;
        let mut dns = service("dns", &[VIP.ip()], VIP.port(), TARGET);
        dns["spec"]["type"] = json!("NodePort");
        dns["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
        manifests.put("service.json", &over_udp(dns, "/spec/ports/0").to_string())?;
        put_endpoint(&manifests, &webs[0])?;
        let proxy = Proxy::start(node, &manifests)?;
        proxy.ready(node)?;
        Ok(Self { _proxy: proxy, manifests, _servers: servers, webs, client, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    /// The node's UDP flows to a port.
    fn flows(&self, port: u16) -> Result<Vec<Flow>, Box<dyn Error>> {
        let filter = Filter { destination: Destination::AnyV4, protocol: 17, port: Some(port) };
        let list = || conntrack::list(&mut Socket::open(Family::Netfilter)?, &filter, |_| true);
        Ok(self.node()?.namespace().enter(list)??)
    }
}

fn over_udp(mut object: Value, port: &str) -> Value {
    if let Some(port) = object.pointer_mut(port) {
        port["protocol"] = json!("UDP");
    }
    object
}

fn put_endpoint(manifests: &Manifests, pod: &Pod) -> Outcomes {
    let endpoints = over_udp(slice("dns", "node-1", pod.addresses(), TARGET), "/ports/0");
    Ok(manifests.put("endpoints.json", &endpoints.to_string())?)
}

/// A client that keeps its port.
struct Client {
    socket: UdpSocket,
}

impl Client {
    fn new(inside: &Namespace, to: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let socket = inside.enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 40_000))?;
            socket.connect(to)?;
            Ok::<_, std::io::Error>(socket)
        })??;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self { socket })
    }

    /// Asks until this server answers.
    fn is_answered_by(&self, name: &str) -> Outcomes {
        eventually(&format!("an answer of {name}"), PATIENCE, || match self.ask() {
            Ok(line) if line.starts_with(name) => Ok(()),
            Ok(line) => Err(line),
            Err(error) => Err(error.to_string()),
        })?;
        Ok(())
    }

    /// One question; no answer at all is one of the answers.
    fn ask(&self) -> Result<String, std::io::Error> {
        let mut answer = [0; 256];
        let received = self.socket.send(b"who answers?\n").and_then(|_| self.socket.recv(&mut answer));
        match received {
            Ok(len) => Ok(String::from_utf8_lossy(&answer[..len]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok("nobody".into()),
            Err(error) => Err(error),
        }
    }
}

/// kp:F1, kp:F3
#[test]
fn a_client_that_keeps_its_port_gets_the_endpoint_that_replaced_its_own() -> Outcomes {
    let stage = Stage::new()?;
    let node_port = SocketAddr::new(stage.node()?.addresses()[0], NODE_PORT);
    for (from, to) in [(stage.client.namespace(), VIP), (stage.lab.outside(), node_port)] {
        let client = Client::new(from, to)?;
        put_endpoint(&stage.manifests, &stage.webs[0])?;
        client.is_answered_by("dns-1")?;
        put_endpoint(&stage.manifests, &stage.webs[1])?;
        client.is_answered_by("dns-2")?;
    }
    Ok(())
}

/// kp:F3: neither the port of a Service nor that of a node port is ours on another host.
#[test]
fn flows_to_the_same_ports_of_other_hosts_stay() -> Outcomes {
    let stage = Stage::new()?;
    let outside = stage.lab.outside_addresses()[0];
    let mut others = Vec::new();
    for port in [VIP.port(), NODE_PORT] {
        let _server = Server::start(stage.lab.outside(), "other", Transport::Udp, port)?;
        let client = Client::new(stage.client.namespace(), SocketAddr::new(outside, port))?;
        client.is_answered_by("other")?;
        drop(client);
        others.extend(stage.flows(port)?);
    }
    assert_eq!(others.len(), 2);
    let node_port = SocketAddr::new(stage.node()?.addresses()[0], NODE_PORT);
    let clients = [Client::new(stage.client.namespace(), VIP)?, Client::new(stage.lab.outside(), node_port)?];
    clients.iter().try_for_each(|client| client.is_answered_by("dns-1"))?;
    put_endpoint(&stage.manifests, &stage.webs[1])?;
    // Their own flows are others by then, so both ports have been looked through.
    clients.iter().try_for_each(|client| client.is_answered_by("dns-2"))?;
    let left = [stage.flows(VIP.port())?, stage.flows(NODE_PORT)?].concat();
    assert!(others.iter().all(|flow| left.contains(flow)), "{others:?} of {left:?}");
    Ok(())
}
