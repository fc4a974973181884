//! The tunnel that a route puts its packets into (lightweight tunnels, `linux/lwtunnel.h`).
//!
//! Not the device that does it: that is a link in collect-metadata mode ([`crate::vxlan`]), to which the route leads.
//! Invariant: what is read back is equal to what was written, and a tunnel of which the kernel says more is not read as one.

use crate::address::{put_ip, read_ip};
use crate::message::{Attributes, Writer};
use std::net::IpAddr;

const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
/// `LWTUNNEL_ENCAP_IP` and `LWTUNNEL_ENCAP_IP6`: the family of the outer packet. Their attributes have the same numbers.
const OVER_V4: u16 = 2;
const OVER_V6: u16 = 4;
const LWTUNNEL_IP_ID: u16 = 1;
const LWTUNNEL_IP_DST: u16 = 2;
const LWTUNNEL_IP_FLAGS: u16 = 6;
const LWTUNNEL_IP_PAD: u16 = 7;
/// `TUNNEL_CSUM`.
const CHECKSUM: u16 = 1;

/// Where a route's packets go inside of other packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Number of the virtual network; VXLAN has 24 bits for it.
    pub id: u32,
    /// Destination of the outer packet, of either family whatever the route's.
    pub to: IpAddr,
    /// The outer packet has a UDP checksum. A receiver drops what comes over IPv6 without one, unless it was told not to.
    pub checksum: bool,
}

impl Tunnel {
    pub(super) fn put(self, w: &mut Writer<'_>) {
        w.put_u16(RTA_ENCAP_TYPE, over(self.to));
        w.nest(RTA_ENCAP, |w| {
            w.put_be64(LWTUNNEL_IP_ID, self.id.into());
            put_ip(w, LWTUNNEL_IP_DST, self.to);
            if self.checksum {
                w.put(LWTUNNEL_IP_FLAGS, &CHECKSUM.to_be_bytes());
            }
        });
    }

    /// Reads a route's attributes: whether it has a tunnel of any kind, and the tunnel when there is no more to say of it.
    pub(super) fn read(route: Attributes<'_>) -> (bool, Option<Self>) {
        match route.get(RTA_ENCAP_TYPE) {
            None => (false, None),
            Some(kind) => (true, route.get_nest(RTA_ENCAP).and_then(|nest| read(kind, nest))),
        }
    }
}

fn over(to: IpAddr) -> u16 {
    if to.is_ipv4() { OVER_V4 } else { OVER_V6 }
}

fn read(kind: &[u8], nest: Attributes<'_>) -> Option<Tunnel> {
    let id = u64::from_be_bytes(nest.get(LWTUNNEL_IP_ID)?.try_into().ok()?);
    let to = read_ip(nest.get(LWTUNNEL_IP_DST)?)?;
    let flags = nest.get(LWTUNNEL_IP_FLAGS).map_or(Some([0; 2]), |flags| flags.try_into().ok())?;
    let flags = u16::from_be_bytes(flags);
    // Source, time to live and class come as zeros when nobody asked for them.
    let said = [LWTUNNEL_IP_ID, LWTUNNEL_IP_DST, LWTUNNEL_IP_FLAGS, LWTUNNEL_IP_PAD];
    let more = { nest }.any(|(kind, value)| !said.contains(&kind) && value.iter().any(|byte| *byte != 0));
    if more || flags & !CHECKSUM != 0 || kind != over(to).to_ne_bytes() {
        return None;
    }
    Some(Tunnel { id: u32::try_from(id).ok()?, to, checksum: flags == CHECKSUM })
}
