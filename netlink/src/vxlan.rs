//! The device at this end of VXLAN tunnels, in collect-metadata ("external") mode.
//!
//! It has no tunnels: each packet brings its own, from the route that led it here ([`crate::route::Tunnel`]). Neither has
//! it a table of Ethernet addresses, nor a link below it: which way the outer packets take is the node's own routes' affair.
//! Numbers are those of `linux/if_link.h`.

use crate::link::{
    IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, Mac,
    RTM_NEWLINK, header,
};
use crate::message::{ACK, Attributes, Batch, CREATE, EXCL};
use crate::socket::{Error, Socket};
use rustix::io::Errno;

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
/// `IFLA_INFO_KIND` of these devices.
pub(crate) const KIND: &str = "vxlan";

/// A VXLAN device to be made, and set to work.
///
/// A device of which the kernel could not be sure what a packet is for is refused, and then there is none: `EEXIST` when
/// the name is taken, or another device in this mode has the port; `EADDRINUSE` when anything else has it, another VXLAN
/// device or a program. (A device that is down has no port, and is refused as it is set up.)
///
/// It receives on all addresses of both families, and drops what comes over IPv6 without a UDP checksum, as RFC 6935 wants.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address. Never left to the kernel: systemd's `MACAddressPolicy=persistent` rewrites addresses that were not
    /// chosen by the one who made the link.
    pub mac: Mac,
    /// Largest inner packet in bytes. The kernel holds it against nothing, since there is no link below, and it does not
    /// follow one: outer packets that are too large for their way are cut in pieces or lost.
    pub mtu: u32,
    /// UDP port, at both ends of the tunnels.
    pub port: u16,
}

impl Vxlan<'_> {
    /// Asks for the device.
    pub fn create(&self, batch: &mut Batch) -> u32 {
        batch.push(RTM_NEWLINK, CREATE | EXCL | ACK, &header(0, IFF_UP, IFF_UP), |w| {
            w.put_str(IFLA_IFNAME, self.name);
            w.put(IFLA_ADDRESS, &self.mac.0);
            w.put_u32(IFLA_MTU, self.mtu);
            w.nest(IFLA_LINKINFO, |w| {
                w.put_str(IFLA_INFO_KIND, KIND);
                w.nest(IFLA_INFO_DATA, |w| {
                    w.put_u8(IFLA_VXLAN_COLLECT_METADATA, 1);
                    w.put_u8(IFLA_VXLAN_LEARNING, 0);
                    w.put(IFLA_VXLAN_PORT, &self.port.to_be_bytes());
                });
            });
        })
    }
}

/// What a VXLAN device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanKind {
    /// Number of its virtual network; 0 in collect-metadata mode, where each packet has its own.
    pub id: u32,
    /// UDP port on which it receives.
    pub port: u16,
    /// It is in collect-metadata mode.
    pub metadata: bool,
    /// It learns from packets behind which host an Ethernet address is.
    pub learning: bool,
}

impl VxlanKind {
    /// Reads the nest of a VXLAN device.
    pub(crate) fn read(data: Attributes<'_>) -> Option<Self> {
        let on = |kind| data.get(kind).is_some_and(|value| value == [1]);
        let port = data.get(IFLA_VXLAN_PORT)?.try_into().ok()?;
        Some(Self {
            id: data.get_u32(IFLA_VXLAN_ID).unwrap_or(0),
            port: u16::from_be_bytes(port),
            metadata: on(IFLA_VXLAN_COLLECT_METADATA),
            learning: on(IFLA_VXLAN_LEARNING),
        })
    }
}

/// Whether the kernel has VXLAN. Nothing is made: the kernel is asked for a device with a name that no link can have, which
/// it refuses (`EINVAL`) after it has looked for the kind, and loaded its module where there is one.
///
/// # Errors
/// When the kernel refuses for another reason.
pub fn is_supported(socket: &mut Socket) -> Result<bool, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_NEWLINK, CREATE | EXCL | ACK, &header(0, 0, 0), |w| {
        w.put_str(IFLA_IFNAME, "/");
        w.nest(IFLA_LINKINFO, |w| {
            w.put_str(IFLA_INFO_KIND, KIND);
            w.nest(IFLA_INFO_DATA, |w| w.put_u8(IFLA_VXLAN_COLLECT_METADATA, 1));
        });
    });
    match socket.request(&mut batch) {
        Ok(()) => Err(Error::Malformed { what: "a refusal of a device named \"/\"" }),
        Err(e) if e.errno() == Some(Errno::INVAL) => Ok(true),
        Err(e) if e.errno() == Some(Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
    }
}
