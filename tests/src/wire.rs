//! Links, addresses and routes of the lab's own wiring.
//!
//! It is not how heddle's programs set up links: this is the cable and the switch that stand in a data centre. It
//! works in the namespace in which it was opened, and knows nothing of nodes and pods.

use heddle_netlink::message::{ACK, CREATE, EXCL, Writer};
use heddle_netlink::{Batch, Error, Family, Socket};
use ipnetwork::IpNetwork;
use rustix::net::{AddressFamily, SocketType, netdevice};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// No duplicate address detection: the lab gives each address once, and a test must not wait for it.
const IFA_F_NODAD: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const IFF_UP: u32 = 1;

/// A netlink socket in one namespace.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
}

impl Wire {
    /// Opens it in the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Family::Route)? })
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn up(&mut self, link: &str) -> Result<(), Error> {
        self.one(RTM_SETLINK, 0, &link_header(IFF_UP), |w| w.put_str(IFLA_IFNAME, link))
    }

    /// Makes a bridge that is up. Its address is fixed: else it changes with the ports, and neighbours remember it.
    ///
    /// # Errors
    /// When a link of that name exists.
    pub fn bridge(&mut self, name: &str, mac: [u8; 6]) -> Result<(), Error> {
        self.one(RTM_NEWLINK, CREATE | EXCL, &link_header(IFF_UP), |w| {
            w.put_str(IFLA_IFNAME, name);
            w.put(IFLA_ADDRESS, &mac);
            w.nest(IFLA_LINKINFO, |w| w.put_str(IFLA_INFO_KIND, "bridge"));
        })
    }

    /// Makes a pair of links that are up: `here` on the bridge in this namespace, `there` in the other.
    ///
    /// # Errors
    /// When a link of either name exists.
    pub fn cable(
        &mut self,
        here: &str,
        bridge: &str,
        there: &str,
        other: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let bridge = index_of(bridge)?;
        let other = u32::try_from(other.as_raw_fd()).expect("an open descriptor is not negative");
        self.one(RTM_NEWLINK, CREATE | EXCL, &link_header(IFF_UP), |w| {
            w.put_str(IFLA_IFNAME, here);
            w.put_u32(IFLA_MASTER, bridge);
            w.nest(IFLA_LINKINFO, |w| {
                w.put_str(IFLA_INFO_KIND, "veth");
                w.nest(IFLA_INFO_DATA, |w| {
                    w.nest(VETH_INFO_PEER, |w| {
                        w.raw(&link_header(0));
                        w.put_str(IFLA_IFNAME, there);
                        w.put_u32(IFLA_NET_NS_FD, other);
                    });
                });
            });
        })
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// When the link is missing or has the address.
    pub fn address(&mut self, link: &str, address: IpNetwork) -> Result<(), Error> {
        let mut header = vec![family(address.ip()), address.prefix(), IFA_F_NODAD, 0];
        header.extend_from_slice(&index_of(link)?.to_ne_bytes());
        self.one(RTM_NEWADDR, CREATE | EXCL, &header, |w| {
            put_ip(w, IFA_LOCAL, address.ip());
            put_ip(w, IFA_ADDRESS, address.ip());
        })
    }

    /// Sends what is for `to` by way of `via`, which a link of this namespace must reach.
    ///
    /// # Errors
    /// When the route exists or `via` is not reached directly.
    pub fn route(&mut self, to: IpNetwork, via: IpAddr) -> Result<(), Error> {
        let mut header = vec![family(via), to.prefix(), 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST];
        header.extend_from_slice(&[0; 4]);
        self.one(RTM_NEWROUTE, CREATE | EXCL, &header, |w| {
            if to.prefix() > 0 {
                put_ip(w, RTA_DST, to.network());
            }
            put_ip(w, RTA_GATEWAY, via);
        })
    }

    fn one(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        write: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.push(kind, flags | ACK, header, write);
        self.socket.request(&mut batch)
    }
}

/// `struct ifinfomsg` of any link, with flags to set.
fn link_header(flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn index_of(link: &str) -> Result<u32, Error> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(|e| Error::Open(io::Error::from(e)))?;
    netdevice::name_to_index(&socket, link).map_err(|e| Error::Open(io::Error::from(e)))
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    u8::try_from(family.as_raw()).expect("both families are below 256")
}

fn put_ip(writer: &mut Writer<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => writer.put(kind, &ip.octets()),
        IpAddr::V6(ip) => writer.put(kind, &ip.octets()),
    }
}
