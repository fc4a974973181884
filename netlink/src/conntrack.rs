//! The kernel's connection tracking: listing flows and forgetting some of them.
//!
//! It knows protocols that have ports, and of a flow only where it goes and who answers. Nothing here changes a flow or
//! makes one. Invariant: [`forget`] removes only flows with the kernel's number of a listed one. One that took its place has
//! another number, unless it has its memory too (`nf_ct_get_id` hashes the pointer and the addresses).
//!
//! Numbers are those of `linux/netfilter/nfnetlink_conntrack.h`.

use crate::address::{family, put_ip, read_ip};
use crate::message::{Attributes, Batch, DUMP, Reply, Writer};
use crate::socket::{Error, Socket};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};

/// `NFNL_SUBSYS_CTNETLINK`, in the upper byte of a message's kind.
const SUBSYSTEM: u16 = 1 << 8;
const CT_NEW: u16 = SUBSYSTEM;
const CT_GET: u16 = SUBSYSTEM | 1;
const CT_DELETE: u16 = SUBSYSTEM | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_STATUS_MASK: u16 = 26;
/// `TCP_CONNTRACK_TIME_WAIT`; the only one beyond it is `TCP_CONNTRACK_CLOSE`.
const TIME_WAIT: u8 = 7;
/// `IPS_DST_NAT`
const DESTINATION_TRANSLATED: u32 = 1 << 5;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// The bits of `CTA_FILTER_ORIG_FLAGS`, which no public header names: `net/netfilter/nf_internals.h` has them.
const FILTER_IP_DST: u32 = 1 << 1;
const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;
const NFGENMSG: usize = 4;
/// Removals in one system call. Each may be answered by an error, and all answers of a call must fit the socket's
/// receive buffer (208 KiB by default, and an error takes up to 1 KiB of it).
const CHUNK: usize = 128;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Who sends.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

/// A tracked flow. Without address translation, `reply` is `original` turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The IP protocol's number.
    pub protocol: u8,
    /// The first packet, as it came in.
    pub original: Tuple,
    /// The packets that answer it, as they come in.
    pub reply: Tuple,
    /// The kernel's number for the flow: a hash.
    pub id: u32,
    /// The conntrack zone of its first packet; 0 where nobody has made zones.
    pub zone: u16,
}

/// Which flows are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    /// The address of `original.destination`.
    pub destination: Destination,
    /// The IP protocol's number.
    pub protocol: u8,
    /// The port of `original.destination`.
    pub port: Option<u16>,
}

/// The address part of a [`Filter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// Every IPv4 address.
    AnyV4,
    /// Every IPv6 address.
    AnyV6,
    /// This one.
    Address(IpAddr),
}

impl Filter {
    /// Asks for the flows; more may come than match. Kernels before 5.8 do not know filters and list the family's whole
    /// table. An IPv6 address is not asked for: up to 6.18 (where it was tried) the kernel then sends all flows but those to
    /// that address.
    pub fn request(&self, batch: &mut Batch) -> u32 {
        let v4 = match self.destination {
            Destination::Address(IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        let address_flag = if v4.is_some() { FILTER_IP_DST } else { 0 };
        let port_flag = if self.port.is_some() { FILTER_PROTO_DST_PORT } else { 0 };
        batch.push(CT_GET, DUMP, &header(self.family()), |w| {
            w.nest(CTA_TUPLE_ORIG, |w| {
                if let Some(address) = v4 {
                    w.nest(CTA_TUPLE_IP, |w| w.put(CTA_IP_V4_DST, &address.octets()));
                }
                w.nest(CTA_TUPLE_PROTO, |w| {
                    w.put_u8(CTA_PROTO_NUM, self.protocol);
                    if let Some(port) = self.port {
                        w.put(CTA_PROTO_DST_PORT, &port.to_be_bytes());
                    }
                });
            });
            let flags = FILTER_PROTO_NUM | address_flag | port_flag;
            w.nest(CTA_FILTER, |w| w.put_u32(CTA_FILTER_ORIG_FLAGS, flags));
        })
    }

    /// True for the flows that it asks for.
    pub fn matches(&self, flow: &Flow) -> bool {
        let destination = flow.original.destination;
        let address = match self.destination {
            Destination::AnyV4 => destination.is_ipv4(),
            Destination::AnyV6 => destination.is_ipv6(),
            Destination::Address(address) => destination.ip() == address,
        };
        address && flow.protocol == self.protocol && self.port.is_none_or(|port| destination.port() == port)
    }

    fn family(&self) -> u8 {
        match self.destination {
            Destination::AnyV4 => family(IpAddr::from([0; 4])),
            Destination::AnyV6 => family(IpAddr::from([0; 16])),
            Destination::Address(address) => family(address),
        }
    }
}

impl Flow {
    /// Reads a listed or notified flow; `None` when it is something else or its protocol has no ports.
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        if reply.kind != CT_NEW {
            return None;
        }
        let attributes = reply.attributes(NFGENMSG);
        let original = attributes.get_nest(CTA_TUPLE_ORIG)?;
        // A zone that holds in one direction only is part of that direction's tuple.
        let zone = attributes.get(CTA_ZONE).or_else(|| original.get(CTA_TUPLE_ZONE));
        Some(Self {
            protocol: *original.get_nest(CTA_TUPLE_PROTO)?.get(CTA_PROTO_NUM)?.first()?,
            original: Tuple::read(original)?,
            reply: Tuple::read(attributes.get_nest(CTA_TUPLE_REPLY)?)?,
            id: attributes.get_be32(CTA_ID)?,
            zone: zone.and_then(|zone| zone.try_into().ok()).map_or(0, u16::from_be_bytes),
        })
    }

    /// Asks for the flow's removal; it fails with `ENOENT` when there is none with these addresses and this number, and
    /// with `EBUSY` while a flowtable has it.
    pub fn delete(&self, batch: &mut Batch) -> u32 {
        batch.push(CT_DELETE, 0, &header(family(self.original.source.ip())), |w| {
            w.nest(CTA_TUPLE_ORIG, |w| self.original.write(self.protocol, w));
            w.put_be32(CTA_ID, self.id);
            if self.zone != 0 {
                w.put(CTA_ZONE, &self.zone.to_be_bytes());
            }
        })
    }
}

impl Tuple {
    fn read(attributes: Attributes<'_>) -> Option<Self> {
        let (ip, ports) = (attributes.get_nest(CTA_TUPLE_IP)?, attributes.get_nest(CTA_TUPLE_PROTO)?);
        let end = |v4, v6, port| {
            let port = u16::from_be_bytes(ports.get(port)?.try_into().ok()?);
            Some(SocketAddr::new(read_ip(ip.get(v4).or_else(|| ip.get(v6))?)?, port))
        };
        Some(Self {
            source: end(CTA_IP_V4_SRC, CTA_IP_V6_SRC, CTA_PROTO_SRC_PORT)?,
            destination: end(CTA_IP_V4_DST, CTA_IP_V6_DST, CTA_PROTO_DST_PORT)?,
        })
    }

    fn write(&self, protocol: u8, w: &mut Writer<'_>) {
        let (source, destination) = (self.source.ip(), self.destination.ip());
        w.nest(CTA_TUPLE_IP, |w| {
            put_ip(w, by_family(source, CTA_IP_V4_SRC, CTA_IP_V6_SRC), source);
            put_ip(w, by_family(destination, CTA_IP_V4_DST, CTA_IP_V6_DST), destination);
        });
        w.nest(CTA_TUPLE_PROTO, |w| {
            w.put_u8(CTA_PROTO_NUM, protocol);
            w.put(CTA_PROTO_SRC_PORT, &self.source.port().to_be_bytes());
            w.put(CTA_PROTO_DST_PORT, &self.destination.port().to_be_bytes());
        });
    }
}

fn by_family(address: IpAddr, v4: u16, v6: u16) -> u16 {
    if address.is_ipv4() { v4 } else { v6 }
}

/// `nfgenmsg`.
fn header(family: u8) -> [u8; NFGENMSG] {
    [family, 0, 0, 0]
}

/// Lists the flows that pass the filter and that `wanted` says yes to; no others are kept in memory, since a table may
/// hold a million.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list(
    socket: &mut Socket,
    filter: &Filter,
    wanted: impl Fn(&Flow) -> bool,
) -> Result<Vec<Flow>, Error> {
    let mut batch = Batch::new();
    filter.request(&mut batch);
    socket.dump(&mut batch, |found: &mut Vec<Flow>, reply| {
        // The kernel may be too old to have filtered.
        found.extend(Flow::read(reply).filter(|flow| filter.matches(flow) && wanted(flow)));
    })
}

/// How many flows whose destination is translated `wanted` says yes to, of both families, without TCP connections that have ended. Kernels
/// before 5.15 list all others, too, which are not counted.
///
/// # Errors
/// As [`Socket::dump`].
pub fn count_translated(socket: &mut Socket, wanted: impl Fn(&Flow) -> bool) -> Result<usize, Error> {
    let mut batch = Batch::new();
    batch.push(CT_GET, DUMP, &header(0), |w| {
        w.put_be32(CTA_STATUS, DESTINATION_TRANSLATED);
        w.put_be32(CTA_STATUS_MASK, DESTINATION_TRANSLATED);
    });
    socket.dump(&mut batch, |count: &mut usize, reply| {
        let flow = Flow::read(reply).filter(|flow| flow.reply.source != flow.original.destination);
        *count += usize::from(!has_ended(reply) && flow.is_some_and(|flow| wanted(&flow)));
    })
}

fn has_ended(reply: Reply<'_>) -> bool {
    let about = reply.attributes(NFGENMSG).get_nest(CTA_PROTOINFO);
    let state = about.and_then(|about| about.get_nest(CTA_PROTOINFO_TCP)?.get(CTA_PROTOINFO_TCP_STATE));
    state.is_some_and(|state| state.first().is_some_and(|state| *state >= TIME_WAIT))
}

/// Removes every flow of the socket's namespace, of both families.
///
/// # Errors
/// As [`Socket::request`].
pub fn flush(socket: &mut Socket) -> Result<(), Error> {
    let mut batch = Batch::new();
    // No family and no tuple: all of them.
    batch.push(CT_DELETE, 0, &header(0), |_| ());
    socket.request(&mut batch)
}

/// Removes flows and returns how many there still were. It goes on after a refusal.
///
/// # Errors
/// [`Error::Refused`] with what was refused for another reason than that the flow is gone.
pub fn forget(socket: &mut Socket, flows: &[Flow]) -> Result<usize, Error> {
    let (mut forgotten, mut refused) = (0, Vec::new());
    for chunk in flows.chunks(CHUNK) {
        let mut batch = Batch::new();
        for flow in chunk {
            flow.delete(&mut batch);
        }
        let refusals = match socket.request(&mut batch) {
            Ok(()) => Vec::new(),
            Err(Error::Refused { refusals }) => refusals,
            Err(error) => return Err(error),
        };
        forgotten += chunk.len() - refusals.len();
        refused.extend(refusals.into_iter().filter(|refusal| refusal.errno != Errno::NOENT));
    }
    if refused.is_empty() { Ok(forgotten) } else { Err(Error::Refused { refusals: refused }) }
}
