//! Sockets of this network namespace: listing those that are connected, closing some (`linux/sock_diag.h`, `linux/inet_diag.h`).
//!
//! It knows addresses and the kernel's cookie of a socket, and nothing of whose it is. Invariant: [`Open::close`] closes the socket with
//! that cookie, or none.

use crate::message::{ACK, Batch, DUMP, Reply};
use crate::socket::{Error, Socket};
use crate::{Errno, Protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `SOCK_DIAG_BY_FAMILY`
const LIST: u16 = 20;
/// `SOCK_DESTROY` (4.5; with `CONFIG_INET_DIAG_DESTROY`)
const DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `1 << TCP_ESTABLISHED`: a connected UDP socket counts as one, too. `1 << TCP_SYN_SENT`: one that waits for an answer.
const CONNECTED: u32 = 1 << 1 | 1 << 2;
/// Size of `struct inet_diag_sockid`.
const ID: usize = 48;
/// Where it begins in a request (`inet_diag_req_v2`) and in an answer (`inet_diag_msg`).
const ID_IN_REQUEST: usize = 8;
const ID_IN_ANSWER: usize = 4;

/// A connected socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its own address.
    pub local: SocketAddr,
    /// Whom it is connected to.
    pub remote: SocketAddr,
    /// The number by which the kernel and its programs know it; never used again while the kernel runs.
    pub cookie: u64,
    family: u8,
    protocol: u8,
    id: [u8; ID],
}

impl Open {
    fn read(reply: Reply<'_>, protocol: u8) -> Option<Self> {
        let family = *reply.body.first()?;
        let id: [u8; ID] = reply.body.get(ID_IN_ANSWER..ID_IN_ANSWER + ID)?.try_into().ok()?;
        let half = |at: usize| Some(u32::from_ne_bytes(id.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            local: end(&id, family, (0, 4))?,
            remote: end(&id, family, (2, 20))?,
            cookie: u64::from(half(40)?) | u64::from(half(44)?) << 32,
            family,
            protocol,
            id,
        })
    }

    /// Closes it for whoever has it: the next call fails with `ECONNABORTED`. Returns false where there is no such socket any more.
    ///
    /// # Errors
    /// When the kernel refuses, mostly since it cannot close sockets of others (`EOPNOTSUPP`).
    pub fn close(&self, socket: &mut Socket) -> Result<bool, Error> {
        let mut batch = Batch::new();
        batch.push(DESTROY, ACK, &request((self.family, self.protocol), &self.id), |_| ());
        match socket.request(&mut batch) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A port, and an address that is IPv4 in a socket of IPv4, and in one of IPv6 if it is mapped.
fn end(id: &[u8; ID], family: u8, (port, address): (usize, usize)) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*id.get(port)?, *id.get(port + 1)?]);
    let address: IpAddr = if family == AF_INET {
        let octets: [u8; 4] = id.get(address..address + 4)?.try_into().ok()?;
        Ipv4Addr::from(octets).into()
    } else {
        let octets: [u8; 16] = id.get(address..address + 16)?.try_into().ok()?;
        Ipv6Addr::from(octets).to_canonical()
    };
    Some(SocketAddr::new(address, port))
}

fn request((family, protocol): (u8, u8), id: &[u8; ID]) -> [u8; ID_IN_REQUEST + ID] {
    let mut request = [0; ID_IN_REQUEST + ID];
    (request[0], request[1]) = (family, protocol);
    request[4..8].copy_from_slice(&CONNECTED.to_ne_bytes());
    request[ID_IN_REQUEST..].copy_from_slice(id);
    request
}

/// Lists the connected sockets of a protocol that are wanted.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list(
    socket: &mut Socket,
    protocol: Protocol,
    wanted: impl Fn(&Open) -> bool,
) -> Result<Vec<Open>, Error> {
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut batch = Batch::new();
        batch.push(LIST, DUMP, &request((family, protocol.number()), &[0; ID]), |_| ());
        all.extend(socket.dump(&mut batch, |found: &mut Vec<Open>, reply| {
            found.extend(Open::read(reply, protocol.number()).filter(|open| wanted(open)));
        })?);
    }
    Ok(all)
}
