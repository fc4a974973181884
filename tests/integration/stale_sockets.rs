//! Clients that keep a connected UDP socket, while their endpoint goes: with Services at the socket, no packet could tell.

use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Server, Transport};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

type Outcomes = Result<(), Box<dyn Error>>;

const PORT: u16 = 53;
const TARGET: u16 = 5353;
const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), PORT);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10)), PORT);
/// How long a client waits for an answer before it asks again, as resolvers do; here it is short, so that an endpoint that is
/// not there costs little.
const AGAIN: Duration = Duration::from_millis(200);

/// A node with a client, another pod, and two DNS servers.
struct Stage {
    _proxy: Proxy,
    manifests: Manifests,
    _servers: Vec<Server>,
    dns: Vec<Pod>,
    client: Pod,
    lab: Lab,
}

impl Stage {
    /// With a Service whose one endpoint is the first server.
    fn new() -> Result<Self, Box<dyn Error>> {
        let lab = Lab::with_sockets(&["node-1"])?;
        let node = lab.node("node-1")?;
        let client = node.pod("client")?;
        let dns = vec![node.pod("dns-1")?, node.pod("dns-2")?];
        let server = |pod: &Pod| Server::start(pod.namespace(), pod.name(), Transport::Udp, TARGET);
        let servers = dns.iter().map(server).collect::<Result<_, _>>()?;
        let manifests = Manifests::of(node)?;
        let dns_service = over_udp(service("dns", &[V4.ip(), V6.ip()], PORT, TARGET), "/spec/ports/0");
        manifests.put("service.json", &dns_service.to_string())?;
        put_endpoint(&manifests, &dns[0])?;
        let proxy = Proxy::start_with(node, &["--manifests", &manifests.folder(), "-v", "4"])?;
        proxy.ready(node)?;
        proxy.serves_sockets()?;
        Ok(Self { _proxy: proxy, manifests, _servers: servers, dns, client, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }
}

fn over_udp(mut object: Value, port: &str) -> Value {
    if let Some(port) = object.pointer_mut(port) {
        port["protocol"] = json!("UDP");
    }
    object
}

fn put_endpoint(manifests: &Manifests, pod: &Pod) -> Outcomes {
    for (name, ipv6) in [("endpoints-4.json", false), ("endpoints-6.json", true)] {
        let of_family: Vec<IpAddr> =
            pod.addresses().iter().copied().filter(|ip| ip.is_ipv6() == ipv6).collect();
        let endpoints = over_udp(slice("dns", "node-1", &of_family, TARGET), "/ports/0");
        manifests.put(name, &endpoints.to_string())?;
    }
    Ok(())
}

/// A client that connects once and keeps its socket.
struct Resolver {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Resolver {
    fn connect(inside: &Namespace, to: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let open = || -> io::Result<UdpSocket> {
            let any: IpAddr =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(AGAIN))?;
            Ok(socket)
        };
        Ok(Self { socket: inside.enter(open)??, to })
    }

    /// Who answers.
    fn ask(&self) -> io::Result<String> {
        let mut buffer = [0; 64];
        self.socket.send(b"?")?;
        let size = self.socket.recv(&mut buffer)?;
        let answer = String::from_utf8_lossy(&buffer[..size]).into_owned();
        Ok(answer.split(' ').next().unwrap_or_default().to_owned())
    }
}

/// Asks until the socket is closed.
fn end(resolver: &Resolver) -> Outcomes {
    Ok(eventually("the socket is closed", PATIENCE, || match resolver.ask() {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Ok(()),
        other => Err(format!("{other:?}")),
    })?)
}

/// ebpf:6.4: its first part, that stale sockets are found by what was told and not by looking through each namespace, and its second,
/// that they are closed at once, in pods and on the node, for all that died.
#[test]
fn a_connected_socket_is_closed_when_its_endpoint_goes_and_the_next_one_is_right() -> Outcomes {
    let stage = Stage::new()?;
    let node = stage.node()?.namespace();
    let (pod, v4, v6) = (stage.client.namespace(), V4, V6);
    let clients = [Resolver::connect(pod, v4)?, Resolver::connect(pod, v6)?, Resolver::connect(node, v4)?];
    for client in &clients {
        assert_eq!(client.ask()?, "dns-1");
        assert_eq!(client.socket.peer_addr()?, client.to);
    }
    put_endpoint(&stage.manifests, &stage.dns[1])?;
    // Who waits for an answer is woken.
    for client in &clients {
        client.socket.set_read_timeout(Some(PATIENCE))?;
        let woken = client.socket.recv(&mut [0; 64]).map_err(|error| error.kind());
        assert_eq!(woken, Err(ErrorKind::ConnectionAborted), "{}", client.to);
    }
    for (inside, to) in [(pod, v4), (pod, v6), (node, v4)] {
        assert_eq!(Resolver::connect(inside, to)?.ask()?, "dns-2");
    }
    Ok(())
}

#[test]
fn a_socket_that_never_asked_a_service_is_left_alone() -> Outcomes {
    let stage = Stage::new()?;
    let pod = stage.client.namespace();
    let direct = Resolver::connect(pod, SocketAddr::new(stage.dns[0].addresses()[0], TARGET))?;
    let served = Resolver::connect(pod, V4)?;
    assert_eq!((direct.ask()?, served.ask()?), ("dns-1".to_owned(), "dns-1".to_owned()));
    put_endpoint(&stage.manifests, &stage.dns[1])?;
    end(&served)?;
    assert_eq!(direct.ask()?, "dns-1");
    Ok(())
}

/// What a socket was told before does not count once it is connected to something else.
#[test]
fn a_socket_that_left_its_service_is_left_alone() -> Outcomes {
    let stage = Stage::new()?;
    let pod = stage.client.namespace();
    let (left, served) = (Resolver::connect(pod, V4)?, Resolver::connect(pod, V4)?);
    assert_eq!((left.ask()?, served.ask()?), ("dns-1".to_owned(), "dns-1".to_owned()));
    left.socket.connect(SocketAddr::new(stage.dns[1].addresses()[0], TARGET))?;
    put_endpoint(&stage.manifests, &stage.dns[1])?;
    end(&served)?;
    assert_eq!(left.ask()?, "dns-2");
    Ok(())
}

/// ebpf:6.4: its last part.
#[test]
fn an_unconnected_socket_goes_on_with_the_next_endpoint() -> Outcomes {
    let stage = Stage::new()?;
    let socket = stage.client.namespace().enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    let ask = || -> Result<String, Box<dyn Error>> {
        let mut buffer = [0; 64];
        socket.send_to(b"?", V4)?;
        let (size, from) = socket.recv_from(&mut buffer)?;
        assert_eq!(from, V4);
        Ok(String::from_utf8_lossy(&buffer[..size]).split(' ').next().unwrap_or_default().to_owned())
    };
    assert_eq!((ask()?, ask()?), ("dns-1".to_owned(), "dns-1".to_owned()));
    put_endpoint(&stage.manifests, &stage.dns[1])?;
    eventually("the next endpoint", PATIENCE, || match ask() {
        Ok(name) if name == "dns-2" => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    Ok(())
}

/// ebpf:6.4: the measure is printed and not judged: from the change of the objects to the first right answer of a client that keeps
/// its socket, over all clients.
#[test]
fn the_time_to_the_first_right_answer_is_told() -> Outcomes {
    const CLIENTS: usize = 100;
    let stage = Stage::new()?;
    let pod = stage.client.namespace();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = Resolver::connect(pod, V4)?;
        assert_eq!(client.ask()?, "dns-1");
        clients.push(client);
    }
    let changed = Instant::now();
    put_endpoint(&stage.manifests, &stage.dns[1])?;
    let mut times = Vec::new();
    for client in clients {
        end(&client)?;
        let again = Resolver::connect(pod, V4)?;
        assert_eq!(again.ask()?, "dns-2");
        times.push(changed.elapsed());
    }
    times.sort();
    let [median, p99] = [CLIENTS / 2, CLIENTS * 99 / 100].map(|at| times[at]);
    println!("first right answer of {CLIENTS} clients one after the other: median {median:?}, p99 {p99:?}");
    Ok(())
}
