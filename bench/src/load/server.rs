//! The sockets of the side that answers.
//!
//! TCP has one listener for every address that the host has. UDP has a socket for each address: one for all of them would answer
//! from the host's first address, and a client that asked another one would hear nothing.

use crate::Failure;
use crate::load::PATIENCE;
use heddle_tests::namespace::Namespace;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::sockopt;
use rustix::time::Timespec;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

/// Sockets that are looked at in one call.
const READY: usize = 64;
/// What a socket may keep: room for everything that is on its way at once.
const ROOM: usize = 1 << 20;

/// Everything that a host answers on.
#[derive(Debug)]
pub struct Server {
    /// For TCP.
    pub listener: TcpListener,
    /// For UDP.
    pub hearer: Hearer,
}

impl Server {
    /// Opens this port in a namespace, for UDP at these addresses.
    ///
    /// # Errors
    /// When the port is taken, or an address is not there.
    pub fn open(inside: &Namespace, port: u16, addresses: &[IpAddr]) -> Result<Self, Failure> {
        let listener = inside.enter(|| TcpListener::bind(("0.0.0.0", port)))??;
        sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { listener, hearer: Hearer::open(inside, port, addresses)? })
    }
}

/// UDP sockets, one for each address.
#[derive(Debug)]
pub struct Hearer {
    sockets: Vec<UdpSocket>,
    epoll: OwnedFd,
}

impl Hearer {
    fn open(inside: &Namespace, port: u16, addresses: &[IpAddr]) -> Result<Self, Failure> {
        let bind = |ip: &IpAddr| UdpSocket::bind((*ip, port));
        let sockets = inside.enter(|| addresses.iter().map(bind).collect::<io::Result<Vec<_>>>())??;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (number, socket) in (0..).zip(&sockets) {
            socket.set_nonblocking(true)?;
            sockopt::set_socket_recv_buffer_size_force(socket, ROOM)?;
            epoll::add(&epoll, socket, EventData::new_u64(number), EventFlags::IN)?;
        }
        Ok(Self { sockets, epoll })
    }

    /// Hears so many datagrams, and hands each to `heard` with the socket that it came to.
    ///
    /// # Errors
    /// When one is missing.
    pub fn hear(
        &self,
        count: u32,
        mut heard: impl FnMut(&UdpSocket, &[u8], SocketAddr) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut left = count;
        let mut datagram = [0; 2048];
        while left > 0 {
            for socket in self.ready()? {
                // As long as something is there: a call to look costs as much as one to read.
                while left > 0 {
                    match socket.recv_from(&mut datagram) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        read => {
                            let (size, from) = read?;
                            heard(socket, &datagram[..size], from)?;
                            left -= 1;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn ready(&self) -> io::Result<impl Iterator<Item = &UdpSocket>> {
        let limit = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let mut events: Vec<Event> = Vec::with_capacity(READY);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&limit))?;
        if events.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let number = |event: Event| usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
        Ok(events.into_iter().filter_map(move |event| self.sockets.get(number(event))))
    }
}
