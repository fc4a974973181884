//! Links (network interfaces): veth pairs, bridges and their ports.
//!
//! Requests are written into a [`Batch`]; what they mean together is the caller's. It sets only what is asked for: a
//! field left at `None` is not sent, so that the kernel's default or present value stays. Invariant: both ends of a
//! veth pair come into being in their final namespace, since moving a link afterwards costs the kernel an
//! `rcu_barrier` under its one big lock (measured: 11–20 ms instead of 0.5, and no two moves run at once).
//!
//! Numbers are those of `linux/if_link.h` and `linux/rtnetlink.h`.

pub use crate::bridge::Bridge;
pub use crate::mac::{BadMac, Mac};

use crate::bridge;
use crate::message::{ACK, CREATE, DUMP, EXCL};
use crate::message::{Attributes, Batch, Reply, Writer};
use crate::socket::{Error, Socket};
use crate::vlan::Filter;
use crate::vxlan::{self, VxlanKind};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(crate) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
const RTM_NEWLINKPROP: u16 = 108;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
pub(crate) const IFLA_EXT_MASK: u16 = 29;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
/// `RTEXT_FILTER_SKIP_STATS`: a link is asked for its state; its counters are two thirds of the answer.
const SKIP_STATS: u32 = 1 << 3;
pub(crate) const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
pub(crate) const IFF_PROMISC: u32 = 0x100;
const IFINFOMSG: usize = 16;

/// Longest link name in bytes (`IFNAMSIZ` less its terminating zero).
pub const NAME_MAX: usize = 15;
/// Longest further name in bytes (`ALTIFNAMSIZ` less its terminating zero).
pub const FURTHER_NAME_MAX: usize = 127;
/// Longest alias in bytes (`IFALIASZ` less its terminating zero).
pub const ALIAS_MAX: usize = 255;

/// The kernel's number of a link inside one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(pub u32);

/// What the kernel says about a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; none on links that have none.
    pub mac: Option<Mac>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Set to work (`IFF_UP`), whether or not there is a carrier.
    pub up: bool,
    /// The loopback link.
    pub loopback: bool,
    /// Takes packets that are addressed to others (`IFF_PROMISC`).
    pub promiscuous: bool,
    /// Which driver made it ("veth", "bridge", …); none on physical links.
    pub kind: Option<String>,
    /// The bridge or bond that it is a port of.
    pub master: Option<LinkIndex>,
    /// The link that it stands on or, for an end of a veth pair, the other end; the number counts in that one's namespace.
    pub peer: Option<LinkIndex>,
    /// Free text for people.
    pub alias: Option<String>,
    /// What its bridge does there, when it is a port of one.
    pub port: Option<Port>,
    /// A bridge hands the traffic between its ports to the IPv4 and IPv6 rules of nf_tables and iptables
    /// (`br_netfilter`); `None` when it is no bridge or the kernel was built without that.
    pub netfilter: Option<bool>,
    /// What it does with VLANs; `None` when it is no bridge or the kernel knows no VLANs on bridges.
    pub vlans: Option<Filter>,
    /// What it does as a VXLAN device; `None` when it is something else.
    pub vxlan: Option<VxlanKind>,
}

impl Link {
    /// Reads an `RTM_NEWLINK` message; `None` when it is something else.
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        if reply.kind != RTM_NEWLINK {
            return None;
        }
        let attributes = reply.attributes(IFINFOMSG);
        let flags = header_u32(reply, 8)?;
        let nest = attributes.get_nest(IFLA_LINKINFO);
        let data = nest.and_then(|n| n.get_nest(IFLA_INFO_DATA));
        let kind = nest.and_then(|n| n.get_str(IFLA_INFO_KIND));
        Some(Self {
            index: LinkIndex(header_u32(reply, 4)?),
            name: attributes.get_str(IFLA_IFNAME)?.to_owned(),
            mac: attributes.get(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).map(Mac),
            mtu: attributes.get_u32(IFLA_MTU)?,
            up: flags & IFF_UP != 0,
            loopback: flags & IFF_LOOPBACK != 0,
            promiscuous: flags & IFF_PROMISC != 0,
            kind: kind.map(str::to_owned),
            master: attributes.get_u32(IFLA_MASTER).map(LinkIndex),
            peer: attributes.get_u32(IFLA_LINK).map(LinkIndex),
            alias: attributes.get_str(IFLA_IFALIAS).map(str::to_owned),
            port: nest.and_then(|n| n.get_nest(IFLA_INFO_SLAVE_DATA)).and_then(Port::read),
            netfilter: data.and_then(bridge::calls_netfilter),
            vlans: data.and_then(Filter::read),
            vxlan: data.filter(|_| kind == Some(vxlan::KIND)).and_then(VxlanKind::read),
        })
    }
}

fn header_u32(reply: Reply<'_>, at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(reply.body.get(at..at + 4)?.try_into().ok()?))
}

/// How a request says which link it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// By number: it cannot hit a link that took the name meanwhile.
    Index(LinkIndex),
    /// By name, its first or a further one: it saves asking for the number.
    Name(&'a str),
}

impl Which<'_> {
    fn index(self) -> u32 {
        match self {
            Self::Index(LinkIndex(index)) => index,
            Self::Name(_) => 0,
        }
    }

    fn put(self, w: &mut Writer<'_>) {
        if let Self::Name(name) = self {
            w.put_str(if name.len() > NAME_MAX { IFLA_ALT_IFNAME } else { IFLA_IFNAME }, name);
        }
    }
}

pub(crate) fn header(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG] {
    let mut bytes = [0; IFINFOMSG];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// A veth pair to be made: this end here, set to work, its peer in another namespace.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Name of this end.
    pub name: &'a str,
    /// Address of this end. Never left to the kernel: systemd's `MACAddressPolicy=persistent` rewrites addresses
    /// that were not chosen by the one who made the link.
    pub mac: Mac,
    /// Largest packet of both ends in bytes; the kernel's 1500 when absent.
    pub mtu: Option<u32>,
    /// The bridge that this end becomes a port of.
    pub master: Option<LinkIndex>,
    /// The other end.
    pub peer: Peer<'a>,
}

/// The far end of a [`Veth`]. It is born down: the kernel refuses to bring it up in the same message (ENOTCONN).
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its name in its namespace.
    pub name: &'a str,
    /// Its address.
    pub mac: Mac,
    /// The network namespace in which it is born.
    pub namespace: BorrowedFd<'a>,
}

impl Veth<'_> {
    /// Asks for the pair; it fails with `EEXIST` when either name is taken in its namespace.
    pub fn create(&self, batch: &mut Batch) -> u32 {
        batch.push(RTM_NEWLINK, CREATE | EXCL | ACK, &header(0, IFF_UP, IFF_UP), |w| {
            w.put_str(IFLA_IFNAME, self.name);
            self.put_common(w, self.mac);
            if let Some(LinkIndex(master)) = self.master {
                w.put_u32(IFLA_MASTER, master);
            }
            w.nest(IFLA_LINKINFO, |w| {
                w.put_str(IFLA_INFO_KIND, "veth");
                w.nest(IFLA_INFO_DATA, |w| w.nest(VETH_INFO_PEER, |w| self.put_peer(w)));
            });
        })
    }

    fn put_common(&self, w: &mut Writer<'_>, mac: Mac) {
        w.put(IFLA_ADDRESS, &mac.0);
        if let Some(mtu) = self.mtu {
            w.put_u32(IFLA_MTU, mtu);
        }
    }

    fn put_peer(&self, w: &mut Writer<'_>) {
        w.raw(&header(0, 0, 0));
        w.put_str(IFLA_IFNAME, self.peer.name);
        self.put_common(w, self.peer.mac);
        w.put(IFLA_NET_NS_FD, &self.peer.namespace.as_raw_fd().to_ne_bytes());
    }
}

/// What a bridge does at one of its ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Frames may leave by the port through which they came.
    pub hairpin: bool,
    /// The port exchanges no frames with other isolated ports.
    pub isolated: bool,
}

impl Port {
    /// Reads the nest of a port; `None` when it is that of another kind of master.
    fn read(data: Attributes<'_>) -> Option<Self> {
        let on = |kind| data.get(kind).map(|value| value == [1]);
        Some(Self { hairpin: on(IFLA_BRPORT_MODE)?, isolated: on(IFLA_BRPORT_ISOLATED)? })
    }
}

/// What is changed about a link that exists; the kernel does not take these when it makes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// Free text for people, at most [`ALIAS_MAX`] bytes.
    pub alias: Option<&'a str>,
    /// What its bridge does there.
    pub port: Option<Port>,
}

impl Change<'_> {
    /// Asks for the change.
    pub fn apply(self, batch: &mut Batch, link: Which<'_>) -> u32 {
        batch.push(RTM_NEWLINK, ACK, &header(link.index(), 0, 0), |w| {
            link.put(w);
            if let Some(alias) = self.alias {
                w.put(IFLA_IFALIAS, alias.as_bytes());
            }
            if let Some(port) = self.port {
                w.nest(IFLA_LINKINFO, |w| {
                    w.put_str(IFLA_INFO_SLAVE_KIND, "bridge");
                    w.nest(IFLA_INFO_SLAVE_DATA, |w| {
                        w.put_u8(IFLA_BRPORT_MODE, u8::from(port.hairpin));
                        w.put_u8(IFLA_BRPORT_ISOLATED, u8::from(port.isolated));
                    });
                });
            }
        })
    }
}

/// Gives a link further names, each at most [`FURTHER_NAME_MAX`] bytes. It fails with `EEXIST` when a link of the
/// namespace has one of them, as its first or a further name, and with `EOPNOTSUPP` before Linux 5.5.
pub fn add_names(batch: &mut Batch, link: Which<'_>, names: &[String]) -> u32 {
    batch.push(RTM_NEWLINKPROP, ACK | CREATE | EXCL, &header(link.index(), 0, 0), |w| {
        link.put(w);
        w.nest(IFLA_PROP_LIST, |w| names.iter().for_each(|name| w.put_str(IFLA_ALT_IFNAME, name)));
    })
}

/// Sets a link to work.
pub fn set_up(batch: &mut Batch, link: Which<'_>) -> u32 {
    batch.push(RTM_NEWLINK, ACK, &header(link.index(), IFF_UP, IFF_UP), |w| link.put(w))
}

/// Makes a link take packets that are addressed to others.
pub fn set_promiscuous(batch: &mut Batch, link: Which<'_>) -> u32 {
    batch.push(RTM_NEWLINK, ACK, &header(link.index(), IFF_PROMISC, IFF_PROMISC), |w| link.put(w))
}

/// Removes a link, and with one end of a veth pair the other.
pub fn delete(batch: &mut Batch, link: Which<'_>) -> u32 {
    batch.push(RTM_DELLINK, ACK, &header(link.index(), 0, 0), |w| link.put(w))
}

/// Asks for one link; `None` when there is none.
///
/// # Errors
/// When the kernel refuses for another reason than that the link is missing.
pub fn fetch(socket: &mut Socket, link: Which<'_>) -> Result<Option<Link>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETLINK, ACK, &header(link.index(), 0, 0), |w| {
        link.put(w);
        w.put_u32(IFLA_EXT_MASK, SKIP_STATS);
    });
    let mut found = None;
    match socket.transact(&mut batch, |reply| found = Link::read(reply).or(found.take())) {
        Ok(()) => Ok(found),
        Err(e) if e.errno() == Some(Errno::NODEV) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Lists all links.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list_all(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETLINK, DUMP, &header(0, 0, 0), |w| w.put_u32(IFLA_EXT_MASK, SKIP_STATS));
    socket.dump(&mut batch, |found: &mut Vec<Link>, reply| found.extend(Link::read(reply)))
}

/// Lists the links of one kind ("veth", …).
///
/// # Errors
/// As [`Socket::dump`].
pub fn list(socket: &mut Socket, kind: &str) -> Result<Vec<Link>, Error> {
    list_by(socket, kind, |_| ()).map(|all| all.into_iter().map(|(link, ())| link).collect())
}

/// The same with their further names.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list_named(socket: &mut Socket, kind: &str) -> Result<Vec<(Link, Vec<String>)>, Error> {
    list_by(socket, kind, |attributes| {
        let names = attributes.get_nest(IFLA_PROP_LIST).into_iter().flatten();
        let names = names.filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
        names
            .filter_map(|(_, name)| Some(CStr::from_bytes_until_nul(name).ok()?.to_str().ok()?.to_owned()))
            .collect()
    })
}

fn list_by<T>(
    socket: &mut Socket,
    kind: &str,
    more: impl Fn(Attributes<'_>) -> T,
) -> Result<Vec<(Link, T)>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETLINK, DUMP, &header(0, 0, 0), |w| {
        w.put_u32(IFLA_EXT_MASK, SKIP_STATS);
        w.nest(IFLA_LINKINFO, |w| w.put_str(IFLA_INFO_KIND, kind));
    });
    let all = socket.dump(&mut batch, |found: &mut Vec<(Link, T)>, reply| {
        found.extend(Link::read(reply).map(|link| (link, more(reply.attributes(IFINFOMSG)))));
    })?;
    // A kernel without strict checking (before 4.20) ignores the filter.
    Ok(all.into_iter().filter(|(link, _)| link.kind.as_deref() == Some(kind)).collect())
}
