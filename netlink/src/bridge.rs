//! Bridges: making one, and whether what goes from port to port passes the node's rules.
//!
//! Numbers are those of `linux/if_link.h`.

use crate::link::{
    ALIAS_MAX, IFF_UP, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND,
    IFLA_LINKINFO, IFLA_MTU, Link, LinkIndex, Mac, RTM_NEWLINK, header,
};
use crate::message::{ACK, Attributes, Batch, CREATE, EXCL, Writer};

const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;

/// The alias of a bridge whose frames are let pass by the rules on purpose, by one who takes it back. Others that need them there
/// leave such a bridge alone.
pub const PASSING: &str =
    "heddle-proxy serves sockets: between ports of this bridge nothing passes the node's rules";
const _: () = assert!(PASSING.len() <= ALIAS_MAX);

/// A bridge to be made, and set to work.
#[derive(Clone, Copy, Debug)]
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address. When it is not given, the bridge takes the lowest address of its ports, another one each time
    /// that a port comes or goes, and its neighbours lose it until their caches expire.
    pub mac: Mac,
    /// Largest packet in bytes; the kernel follows the ports when absent.
    pub mtu: Option<u32>,
}

impl Bridge<'_> {
    /// Asks for the bridge; it fails with `EEXIST` when the name is taken.
    pub fn create(&self, batch: &mut Batch) -> u32 {
        batch.push(RTM_NEWLINK, CREATE | EXCL | ACK, &header(0, IFF_UP, IFF_UP), |w| {
            w.put_str(IFLA_IFNAME, self.name);
            w.put(IFLA_ADDRESS, &self.mac.0);
            if let Some(mtu) = self.mtu {
                w.put_u32(IFLA_MTU, mtu);
            }
            put_netfilter(w, true);
        })
    }
}

/// Whether the alias of a bridge says that its frames pass by the rules on purpose.
pub fn is_passing(bridge: &Link) -> bool {
    bridge.alias.as_deref() == Some(PASSING)
}

/// Makes a bridge hand the traffic between its ports to the IPv4 and IPv6 rules, as [`Link::netfilter`] says.
pub fn call_netfilter(batch: &mut Batch, bridge: LinkIndex) -> u32 {
    batch.push(RTM_NEWLINK, ACK, &header(bridge.0, 0, 0), |w| put_netfilter(w, true))
}

/// Makes a bridge let frames pass by the rules, or not any more; its alias says it, in the same step. Where
/// `net.bridge.bridge-nf-call-iptables` or `-ip6tables` is 1, all bridges hand that family over whatever they are told.
pub fn let_pass(batch: &mut Batch, bridge: LinkIndex, passing: bool) -> u32 {
    batch.push(RTM_NEWLINK, ACK, &header(bridge.0, 0, 0), |w| {
        w.put(IFLA_IFALIAS, if passing { PASSING.as_bytes() } else { &[] });
        put_netfilter(w, !passing);
    })
}

fn put_netfilter(w: &mut Writer<'_>, calls: bool) {
    w.nest(IFLA_LINKINFO, |w| {
        w.put_str(IFLA_INFO_KIND, "bridge");
        w.nest(IFLA_INFO_DATA, |w| {
            w.put_u8(IFLA_BR_NF_CALL_IPTABLES, u8::from(calls));
            w.put_u8(IFLA_BR_NF_CALL_IP6TABLES, u8::from(calls));
        });
    });
}

pub(crate) fn calls_netfilter(data: Attributes<'_>) -> Option<bool> {
    Some(data.get(IFLA_BR_NF_CALL_IPTABLES)? == [1] && data.get(IFLA_BR_NF_CALL_IP6TABLES)? == [1])
}
