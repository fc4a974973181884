//! Addresses on links.
//!
//! Invariant: an IPv6 address is usable as soon as the request is acked, since it is added without duplicate address
//! detection. Who adds one through this module has chosen it so that there is no other.
//!
//! Numbers are those of `linux/if_addr.h`.

use crate::link::LinkIndex;
use crate::message::{ACK, Batch, CREATE, DUMP, EXCL, Reply};
use crate::socket::{Error, Family, Socket};
use ipnetwork::{IpNetwork, Ipv4Network};
use std::net::IpAddr;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 0x02;
const IFADDRMSG: usize = 8;
/// `AF_INET` and `AF_INET6` as rtnetlink's headers hold them.
pub(crate) const INET: u8 = 2;
pub(crate) const INET6: u8 = 10;

/// `AF_INET` or `AF_INET6`, as the headers of rtnetlink hold it.
pub(crate) fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { INET } else { INET6 }
}

/// The bytes of an address, as attributes hold it.
pub(crate) fn put_ip(w: &mut crate::message::Writer<'_>, kind: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => w.put(kind, &ip.octets()),
        IpAddr::V6(ip) => w.put(kind, &ip.octets()),
    }
}

/// The address in an attribute; `None` when it has another length than an address of either family.
pub(crate) fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

/// An address with the length of its subnet's prefix, on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link that has it.
    pub link: LinkIndex,
    /// The address, host bits and all, and its prefix length.
    pub address: IpNetwork,
}

impl Address {
    /// Asks for the address; it fails with `EEXIST` when the link has it already.
    pub fn add(&self, batch: &mut Batch) -> u32 {
        batch.push(RTM_NEWADDR, CREATE | EXCL | ACK, &self.header(), |w| {
            put_ip(w, IFA_LOCAL, self.address.ip());
            put_ip(w, IFA_ADDRESS, self.address.ip());
            if let Some(broadcast) = self.broadcast() {
                put_ip(w, IFA_BROADCAST, broadcast);
            }
        })
    }

    /// Asks for its removal; it fails with `EADDRNOTAVAIL` when the link does not have it.
    pub fn delete(&self, batch: &mut Batch) -> u32 {
        batch.push(RTM_DELADDR, ACK, &self.header(), |w| {
            put_ip(w, IFA_LOCAL, self.address.ip());
            put_ip(w, IFA_ADDRESS, self.address.ip());
        })
    }

    fn header(&self) -> [u8; IFADDRMSG] {
        let ip = self.address.ip();
        let flags = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
        header(family(ip), self.address.prefix(), flags, self.link)
    }

    /// The kernel leaves it out when it is not given (as `ip address add` shows), unlike for classful ioctl users.
    fn broadcast(&self) -> Option<IpAddr> {
        match self.address {
            IpNetwork::V4(v4) if v4.prefix() < 31 => Some(Ipv4Network::broadcast(&v4).into()),
            _ => None,
        }
    }

    /// Reads an `RTM_NEWADDR` message; `None` when it is something else.
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        if reply.kind != RTM_NEWADDR {
            return None;
        }
        let attributes = reply.attributes(IFADDRMSG);
        // On point-to-point links `IFA_ADDRESS` is the other side; IPv6 gives `IFA_LOCAL` only there.
        let ip = read_ip(attributes.get(IFA_LOCAL).or_else(|| attributes.get(IFA_ADDRESS))?)?;
        let index = u32::from_ne_bytes(reply.body.get(4..8)?.try_into().ok()?);
        Some(Self { link: LinkIndex(index), address: IpNetwork::new(ip, *reply.body.get(1)?).ok()? })
    }
}

fn header(family: u8, prefix: u8, flags: u8, LinkIndex(link): LinkIndex) -> [u8; IFADDRMSG] {
    let [a, b, c, d] = link.to_ne_bytes();
    [family, prefix, flags, 0, a, b, c, d]
}

/// Lists the addresses of one link, of both families.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list(socket: &mut Socket, link: LinkIndex) -> Result<Vec<Address>, Error> {
    let all = dump(socket, link)?;
    // A kernel without strict checking (before 4.20) ignores the filter.
    Ok(all.into_iter().filter(|address| address.link == link).collect())
}

/// Lists the addresses of all links, of both families.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list_all(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    dump(socket, LinkIndex(0))
}

/// The addresses of a link; link 0 stands for all of them.
fn dump(socket: &mut Socket, link: LinkIndex) -> Result<Vec<Address>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETADDR, DUMP, &header(0, 0, 0, link), |_| ());
    socket.dump(&mut batch, |found: &mut Vec<Address>, reply| found.extend(Address::read(reply)))
}

/// `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR`.
const GROUPS: [u32; 2] = [5, 9];

/// Follows the addresses of all links.
///
/// It lists them again whenever the kernel says that some of them changed, and so cannot lose one: there are hundreds, and
/// they seldom change.
#[derive(Debug)]
pub struct Follower {
    notices: Socket,
    requests: Socket,
}

impl Follower {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// As [`Socket::open`] and [`Socket::subscribe`].
    pub fn open() -> Result<Self, Error> {
        let mut notices = Socket::open(Family::Route)?;
        GROUPS.into_iter().try_for_each(|group| notices.subscribe(group))?;
        Ok(Self { notices, requests: Socket::open(Family::Route)? })
    }

    /// The addresses now. A change after this ends the next [`wait`](Self::wait).
    ///
    /// # Errors
    /// As [`Socket::dump`].
    pub fn list(&mut self) -> Result<Vec<Address>, Error> {
        list_all(&mut self.requests)
    }

    /// Waits until addresses change.
    ///
    /// # Errors
    /// As [`Socket::listen`].
    pub fn wait(&mut self) -> Result<(), Error> {
        // Whatever it is: notices that were lost are one too.
        self.notices.listen(|_| ()).map(drop)
    }
}
