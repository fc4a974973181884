//! Connections that stay, and UDP sockets that go on talking.

use super::{DNS, KEPT, Outcomes};
use heddle_tests::lab::Pod;
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::{PATIENCE, eventually};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

/// The port of endpoints that keep connections.
pub(crate) const PORT: u16 = 9000;

/// Where connections end that are kept: one listener in each endpoint.
pub(crate) struct Listeners(Vec<TcpListener>);

/// Connections through a Service with both of their ends, a connected UDP socket, and one that is not.
pub(crate) struct Held {
    connections: Vec<[TcpStream; 2]>,
    connected: UdpSocket,
    unconnected: UdpSocket,
    /// Which endpoint each of the two talks to.
    names: [String; 2],
}

impl Listeners {
    pub(crate) fn open(webs: &[Pod]) -> Result<Self, Box<dyn Error>> {
        let listen = |pod: &Pod| -> Result<TcpListener, Box<dyn Error>> {
            let listener = pod.namespace().enter(|| TcpListener::bind(("0.0.0.0", PORT)))??;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        Ok(Self(webs.iter().map(listen).collect::<Result<_, _>>()?))
    }

    pub(crate) fn hold(&self, from: &Namespace, count: usize) -> Result<Held, Box<dyn Error>> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let client = from.enter(|| TcpStream::connect_timeout(&KEPT, PATIENCE))??;
            client.set_read_timeout(Some(PATIENCE))?;
            let served = self.other_end(client.local_addr()?)?;
            connections.push([client, served]);
        }
        let [connected, unconnected] = from.enter(|| -> io::Result<_> {
            let sockets = [UdpSocket::bind("0.0.0.0:0")?, UdpSocket::bind("0.0.0.0:0")?];
            sockets[0].connect(DNS)?;
            Ok(sockets)
        })??;
        let mut held = Held { connections, connected, unconnected, names: Default::default() };
        held.names = held.ask()?;
        held.goes_on()?;
        Ok(held)
    }

    /// Nobody else connects at the same time.
    fn other_end(&self, of: SocketAddr) -> Result<TcpStream, Box<dyn Error>> {
        let (accepted, peer) = eventually("the other end of a connection", PATIENCE, || {
            let accepted = self.0.iter().find_map(|listener| listener.accept().ok());
            accepted.ok_or_else(|| "nobody came".to_owned())
        })?;
        // A port that packets were translated for a moment ago is given another number by the kernel.
        assert_eq!(peer.ip(), of.ip(), "an endpoint sees the client's own address");
        accepted.set_nonblocking(false)?;
        accepted.set_read_timeout(Some(PATIENCE))?;
        Ok(accepted)
    }
}

impl Held {
    /// Whoever answers each UDP socket. One that is connected was told an endpoint, and may see its address.
    fn ask(&self) -> Result<[String; 2], Box<dyn Error>> {
        self.connected.send(b"who?")?;
        let (connected, _) = answer(&self.connected)?;
        self.unconnected.send_to(b"who?", DNS)?;
        let (unconnected, from) = answer(&self.unconnected)?;
        assert_eq!(from, DNS, "the source of an answer");
        Ok([connected, unconnected])
    }

    /// All connections talk.
    pub(crate) fn connections_go_on(&mut self) -> Outcomes {
        for [client, served] in &mut self.connections {
            exchange(client, served)?;
            exchange(served, client)?;
        }
        Ok(())
    }

    /// All of them talk, and what is connected to whom it talked before.
    pub(crate) fn goes_on(&mut self) -> Outcomes {
        self.connections_go_on()?;
        assert_eq!(self.ask()?[0], self.names[0]);
        Ok(())
    }

    /// The same, and the socket that is not connected talks to whom it talked before, too.
    pub(crate) fn goes_on_as_before(&mut self) -> Outcomes {
        assert_eq!(self.ask()?, self.names);
        self.goes_on()
    }

    /// Whoever has a connection to this endpoint is told that it is gone, and nobody else.
    pub(crate) fn only_those_of_end(&mut self, endpoint: IpAddr) -> Outcomes {
        for [client, served] in &mut self.connections {
            if served.local_addr()?.ip() == endpoint {
                let told = client.read(&mut [0; 4]).map_err(|error| error.kind());
                assert_eq!(told, Err(ErrorKind::ConnectionAborted));
            } else {
                exchange(client, served)?;
            }
        }
        Ok(())
    }

    /// How many of them this endpoint has.
    pub(crate) fn of(&self, endpoint: IpAddr) -> usize {
        let ends = self.connections.iter().filter_map(|[_, served]| served.local_addr().ok());
        ends.filter(|end| end.ip() == endpoint).count()
    }

    /// A connected UDP socket hears the Service answer, as one does that is not.
    pub(crate) fn answers_come_from_the_service(&self) -> Outcomes {
        self.connected.send(b"who?")?;
        assert_eq!(answer(&self.connected)?.1, DNS);
        Ok(())
    }

    /// It connects to an endpoint itself, and hears that.
    pub(crate) fn leaves_the_service(&self, endpoint: SocketAddr) -> Outcomes {
        self.connected.connect(endpoint)?;
        assert_eq!(self.connected.peer_addr()?, endpoint);
        self.connected.send(b"who?")?;
        assert_eq!(answer(&self.connected)?.1, endpoint);
        Ok(())
    }

    /// Whoever asks a socket for its peer is told the Service.
    pub(crate) fn shows_services(&self) -> Outcomes {
        assert_eq!(self.connected.peer_addr()?, DNS);
        for [client, _] in &self.connections {
            assert_eq!(client.peer_addr()?, KEPT);
        }
        Ok(())
    }
}

fn answer(socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut answer = [0; 64];
    let (len, from) = socket.recv_from(&mut answer)?;
    Ok((String::from_utf8_lossy(&answer[..len]).into_owned(), from))
}

fn exchange(one: &mut TcpStream, other: &mut TcpStream) -> io::Result<()> {
    let mut heard = [0; 4];
    one.write_all(b"word")?;
    other.read_exact(&mut heard)?;
    assert_eq!(&heard, b"word");
    Ok(())
}
