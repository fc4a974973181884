//! Proof that sockets are served: some of our own connect to reserved addresses and must end at our own receivers.
//!
//! Every socket is bound to the loopback device and to its address. So what is not led to a receiver is refused by the kernel or
//! ends on that device, and no packet leaves the node.

use super::error::Unable;
use super::plan::Leads;
use super::sys;
use crate::frontends::{Endpoint, Frontend, IpFamily, Place};
use crate::model::Protocol;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// An address that is nobody's: the dummy address (RFC 7600), and the discard prefix (RFC 6666).
const RESERVED: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)), IpAddr::V4(Ipv4Addr::LOCALHOST)),
    (IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)),
];
/// The port that is connected to.
const PORT: u16 = 1;
/// Nothing leaves the host, so this is long.
const WAIT: Duration = Duration::from_millis(500);

/// Receivers of one family.
#[derive(Debug)]
struct Receivers {
    reserved: SocketAddr,
    loopback: IpAddr,
    tcp: TcpListener,
    udp: UdpSocket,
}

/// The receivers.
#[derive(Debug)]
pub struct Probe {
    families: Vec<Receivers>,
}

impl Probe {
    /// Opens them in this network namespace, in the families that it has.
    ///
    /// # Errors
    /// When there is no loopback address of IPv4, mostly since the device is down.
    pub fn open() -> Result<Self, Unable> {
        let mut families = Vec::new();
        for (reserved, loopback) in RESERVED {
            match Receivers::open(reserved, loopback) {
                Ok(receivers) => families.push(receivers),
                Err(source) if loopback.is_ipv4() => {
                    return Err(Unable::new(
                        format!("listen on {loopback} to prove that sockets are served"),
                        source,
                    ));
                }
                Err(_) => {}
            }
        }
        Ok(Self { families })
    }

    /// What the maps are to have besides Services.
    pub fn frontends(&self) -> Vec<(Frontend, Leads)> {
        let of = |receivers: &Receivers| -> io::Result<[(Frontend, Leads); 2]> {
            let one = |protocol, to: SocketAddr| {
                let endpoint = Endpoint { address: to.ip(), port: to.port(), local: true };
                let frontend =
                    Frontend { place: Place::Address(receivers.reserved.ip()), protocol, port: PORT };
                let endpoints = [endpoint].into();
                (frontend, Leads { endpoints, affinity: None, refuses: false, not_for_pods: false })
            };
            let (tcp, udp) = (receivers.tcp.local_addr()?, receivers.udp.local_addr()?);
            Ok([one(Protocol::Tcp, tcp), one(Protocol::Udp, udp)])
        };
        self.families.iter().filter_map(|receivers| of(receivers).ok()).flatten().collect()
    }

    /// Connects, sends and hears in every family.
    ///
    /// # Errors
    /// What did not work.
    pub fn check(&self) -> Result<(), Unable> {
        for receivers in &self.families {
            let family = IpFamily::of(receivers.loopback);
            let failed = |protocol| {
                move |source| {
                    Unable::new(format!("reach a Service from a socket ({family}, {protocol})"), source)
                }
            };
            receivers.tcp().map_err(failed("TCP"))?;
            receivers.udp().map_err(failed("UDP"))?;
        }
        Ok(())
    }
}

impl Receivers {
    fn open(reserved: IpAddr, loopback: IpAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind((loopback, 0))?;
        tcp.set_nonblocking(true)?;
        let udp = UdpSocket::bind((loopback, 0))?;
        udp.set_read_timeout(Some(WAIT))?;
        Ok(Self { reserved: SocketAddr::new(reserved, PORT), loopback, tcp, udp })
    }

    fn socket(&self, kind: SocketType) -> io::Result<OwnedFd> {
        let family = if self.loopback.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        sys::keep_on_loopback(socket.as_fd())?;
        set_socket_timeout(&socket, Timeout::Send, Some(WAIT))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(WAIT))?;
        rustix::net::bind(&socket, &SocketAddr::new(self.loopback, 0))?;
        Ok(socket)
    }

    fn tcp(&self) -> io::Result<()> {
        let socket = self.socket(SocketType::STREAM)?;
        rustix::net::connect(&socket, &self.reserved).map_err(unanswered)?;
        let stream = TcpStream::from(socket);
        is(stream.peer_addr()?, self.reserved)?;
        let own = stream.local_addr()?;
        // Those of earlier tries may wait, too.
        while let Ok((accepted, from)) = self.tcp.accept() {
            drop(accepted);
            if from == own {
                return Ok(());
            }
        }
        Err(io::Error::other("it ended elsewhere"))
    }

    fn udp(&self) -> io::Result<()> {
        let socket = UdpSocket::from(self.socket(SocketType::DGRAM)?);
        let (own, mut buffer) = (socket.local_addr()?, [0; 8]);
        let word = u64::from(own.port()).to_ne_bytes();
        socket.send_to(&word, self.reserved)?;
        loop {
            let (_, from) = self.udp.recv_from(&mut buffer).map_err(unanswered)?;
            if from == own && buffer == word {
                break;
            }
        }
        self.udp.send_to(&word, own)?;
        is(socket.recv_from(&mut buffer).map_err(unanswered)?.1, self.reserved)
    }
}

/// What the kernel says of a socket that waited as long as it may.
fn unanswered(error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    let waited = [Errno::INPROGRESS, Errno::AGAIN].map(|errno| Some(errno.raw_os_error()));
    if waited.contains(&error.raw_os_error()) { io::Error::other("nobody answers") } else { error }
}

fn is(found: SocketAddr, wanted: SocketAddr) -> io::Result<()> {
    if found == wanted { Ok(()) } else { Err(io::Error::other(format!("{found} answers for {wanted}"))) }
}
