//! Routes, and the tunnels that they lead into.
//!
//! Invariant: a request names its table and protocol always, so that what heddle made can be told from what others
//! made. Numbers are those of `linux/rtnetlink.h`.

use crate::address::{INET, family, put_ip, read_ip};
use crate::link::LinkIndex;
use crate::message::{ACK, Attributes, Batch, CREATE, DUMP, EXCL, REPLACE, Reply, Writer};
use crate::socket::{Error, Socket};
use ipnetwork::IpNetwork;
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod tunnel;

pub use tunnel::Tunnel;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTN_UNICAST: u8 = 1;
/// `RTNH_F_ONLINK`.
const ONLINK: u32 = 4;
const RTM_LENGTH: usize = 12;

/// `RT_TABLE_MAIN`.
pub const TABLE_MAIN: u32 = 254;
/// `RT_SCOPE_UNIVERSE`: beyond a gateway.
pub const SCOPE_UNIVERSE: u8 = 0;
/// `RT_SCOPE_LINK`: on the link itself.
pub const SCOPE_LINK: u8 = 253;
/// `RTPROT_BOOT`: set while the network comes up, and owned by nobody afterwards.
pub const PROTOCOL_BOOT: u8 = 3;

/// Routes of the node that heddle made and takes away again: 'h', a number that neither the kernel nor a routing daemon
/// in iproute2's list uses.
pub const PROTOCOL_HEDDLE: u8 = 104;

/// Routes to other nodes' pods, made and taken away by heddle-node: 'n', a number that neither the kernel nor a routing
/// daemon in iproute2's list uses.
pub const PROTOCOL_HEDDLE_NODE: u8 = 110;
/// `RTPROT_RA`: learnt from a router's announcement.
pub const PROTOCOL_RA: u8 = 9;

/// A route for one destination, with at most one next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNetwork,
    /// The next hop; none when the destination is on the link. That of an IPv4 route may be of IPv6 (Linux 5.2), not the
    /// other way round.
    pub gateway: Option<IpAddr>,
    /// The next hop is on the link whatever other routes say of it.
    pub onlink: bool,
    /// The link to leave by.
    pub link: LinkIndex,
    /// The address that the node's own packets come from, where nobody has chosen another; it must be the node's. The kernel
    /// drops an IPv4 route together with this address.
    pub source: Option<IpAddr>,
    /// The routing table.
    pub table: u32,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// How far away the destination is; IPv6 ignores it.
    pub scope: u8,
    /// Which route is taken when several fit: the lowest. The kernel's own default when absent.
    pub priority: Option<u32>,
    /// Largest packet on this route in bytes.
    pub mtu: Option<u32>,
    /// Segment size announced to TCP peers, in bytes.
    pub advmss: Option<u32>,
    /// The tunnel that its packets are put into by the link.
    pub encap: Option<Tunnel>,
    /// Its packets are put into something that [`encap`](Self::encap) cannot say. It is only ever read, and makes such a
    /// route another one than any that was written here.
    pub opaque: bool,
}

impl Route {
    /// A route in the main table, its scope from whether there is a gateway, and the rest at the kernel's defaults.
    pub fn new(to: IpNetwork, gateway: Option<IpAddr>, link: LinkIndex) -> Self {
        let scope = if gateway.is_some() { SCOPE_UNIVERSE } else { SCOPE_LINK };
        let (table, protocol) = (TABLE_MAIN, PROTOCOL_BOOT);
        Self {
            to,
            gateway,
            onlink: false,
            link,
            source: None,
            table,
            protocol,
            scope,
            priority: None,
            mtu: None,
            advmss: None,
            encap: None,
            opaque: false,
        }
    }

    /// Asks for the route; it fails with `EEXIST` when there is one with this destination, table and priority.
    pub fn add(&self, batch: &mut Batch) -> u32 {
        self.push(batch, RTM_NEWROUTE, CREATE | EXCL)
    }

    /// Asks for the route, in the place of one with this destination, table and priority, wherever that one leads. Of IPv6,
    /// one with a gateway takes the place of one with a gateway first.
    pub fn replace(&self, batch: &mut Batch) -> u32 {
        self.push(batch, RTM_NEWROUTE, CREATE | REPLACE)
    }

    /// Asks for its removal; it fails with `ESRCH` when there is none. A route of IPv6 goes whatever its tunnel is, one of
    /// IPv4 only with this tunnel.
    pub fn delete(&self, batch: &mut Batch) -> u32 {
        self.push(batch, RTM_DELROUTE, 0)
    }

    /// Reads an `RTM_NEWROUTE` message; `None` when it is something else, or a route that no packet leaves by.
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        let [family, length, _, _, table, protocol, scope, kind] = *reply.body.first_chunk()?;
        if reply.kind != RTM_NEWROUTE || kind != RTN_UNICAST {
            return None;
        }
        let attributes = reply.attributes(RTM_LENGTH);
        let everywhere: IpAddr =
            if family == INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let to = attributes.get(RTA_DST).map_or(Some(everywhere), read_ip)?;
        let metrics = attributes.get_nest(RTA_METRICS);
        // The kernel says there too whether there is a carrier, among others.
        let flags = u32::from_ne_bytes(reply.body.get(8..RTM_LENGTH)?.try_into().ok()?);
        let (tunnelled, encap) = Tunnel::read(attributes);
        Some(Self {
            to: IpNetwork::new(to, length).ok()?,
            gateway: read_gateway(attributes),
            onlink: flags & ONLINK != 0,
            link: LinkIndex(attributes.get_u32(RTA_OIF)?),
            source: attributes.get(RTA_PREFSRC).and_then(read_ip),
            table: attributes.get_u32(RTA_TABLE).unwrap_or(u32::from(table)),
            protocol,
            scope,
            priority: attributes.get_u32(RTA_PRIORITY),
            mtu: metrics.and_then(|m| m.get_u32(RTAX_MTU)),
            advmss: metrics.and_then(|m| m.get_u32(RTAX_ADVMSS)),
            encap,
            opaque: tunnelled && encap.is_none(),
        })
    }

    fn push(&self, batch: &mut Batch, kind: u16, flags: u16) -> u32 {
        batch.push(kind, flags | ACK, &self.header(), |w| {
            put_ip(w, RTA_DST, self.to.network());
            if let Some(gateway) = self.gateway {
                self.put_gateway(w, gateway);
            }
            w.put_u32(RTA_OIF, self.link.0);
            if let Some(source) = self.source {
                put_ip(w, RTA_PREFSRC, source);
            }
            w.put_u32(RTA_TABLE, self.table);
            if let Some(priority) = self.priority {
                w.put_u32(RTA_PRIORITY, priority);
            }
            let metrics = [(RTAX_MTU, self.mtu), (RTAX_ADVMSS, self.advmss)];
            if metrics.iter().any(|(_, value)| value.is_some()) {
                w.nest(RTA_METRICS, |w| {
                    metrics.iter().filter_map(|(k, v)| Some((*k, (*v)?))).for_each(|(k, v)| w.put_u32(k, v));
                });
            }
            if let Some(tunnel) = self.encap {
                tunnel.put(w);
            }
        })
    }

    fn header(&self) -> [u8; RTM_LENGTH] {
        // The header has eight bits for the table; `RTA_TABLE` is what counts.
        let table = u8::try_from(self.table).unwrap_or(0);
        let [a, b, c, d] = if self.onlink { ONLINK } else { 0 }.to_ne_bytes();
        let to = self.to;
        [family(to.ip()), to.prefix(), 0, 0, table, self.protocol, self.scope, RTN_UNICAST, a, b, c, d]
    }

    fn put_gateway(&self, w: &mut Writer<'_>, gateway: IpAddr) {
        if gateway.is_ipv4() == self.to.is_ipv4() {
            return put_ip(w, RTA_GATEWAY, gateway);
        }
        let mut via = u16::from(family(gateway)).to_ne_bytes().to_vec();
        match gateway {
            IpAddr::V4(ip) => via.extend(ip.octets()),
            IpAddr::V6(ip) => via.extend(ip.octets()),
        }
        w.put(RTA_VIA, &via);
    }
}

/// The next hop, of the route's own family or of the other one (`struct rtvia`: a family, then an address).
fn read_gateway(attributes: Attributes<'_>) -> Option<IpAddr> {
    let via = || attributes.get(RTA_VIA)?.get(2..);
    read_ip(attributes.get(RTA_GATEWAY).or_else(via)?)
}

/// Lists the routes of both families and all tables that lead to one link each.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETROUTE, DUMP, &[0; RTM_LENGTH], |_| ());
    socket.dump(&mut batch, |found: &mut Vec<Route>, reply| found.extend(Route::read(reply)))
}

/// How the kernel says that there is no way: no route; one that is `unreachable`, `prohibit` or `blackhole`; a kernel
/// without that address family.
const NO_ROUTE: &[Errno] =
    &[Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::INVAL, Errno::OPNOTSUPP];

/// Asks through which link a packet to this address would leave; `None` when there is no route.
///
/// # Errors
/// When the kernel refuses for another reason than that there is no route.
pub fn fetch_link_towards(socket: &mut Socket, to: IpAddr) -> Result<Option<LinkIndex>, Error> {
    let prefix = if to.is_ipv4() { 32 } else { 128 };
    let mut header = [0; RTM_LENGTH];
    (header[0], header[1]) = (family(to), prefix);
    let mut batch = Batch::new();
    batch.push(RTM_GETROUTE, ACK, &header, |w| put_ip(w, RTA_DST, to));
    let mut link = None;
    let asked = socket.transact(&mut batch, |reply| {
        if reply.kind == RTM_NEWROUTE {
            link = reply.attributes(RTM_LENGTH).get_u32(RTA_OIF).map(LinkIndex);
        }
    });
    match asked.map_err(|e| (e.errno(), e)) {
        Ok(()) => Ok(link),
        Err((Some(errno), _)) if NO_ROUTE.contains(&errno) => Ok(None),
        Err((_, e)) => Err(e),
    }
}
