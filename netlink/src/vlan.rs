//! VLANs of a bridge and of its ports.
//!
//! It says what a bridge lets pass where; the ports themselves are [`link`]'s. Invariant: nothing here
//! makes or removes a bridge or a port. Numbers are those of `linux/if_bridge.h`, `linux/if_link.h` and `linux/if_vlan.h`.

use crate::link::{
    self, IFF_UP, IFLA_EXT_MASK, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO,
    LinkIndex, RTM_GETLINK, RTM_NEWLINK,
};
use crate::message::{ACK, Attributes, Batch, CREATE, DUMP, EXCL, Reply, Writer};
use crate::socket::{Error, Socket};
use rustix::io::Errno;
use std::collections::BTreeMap;

const RTM_DELLINK: u16 = 17;
const RTM_SETLINK: u16 = 19;
const AF_BRIDGE: u8 = 7;
const IFINFOMSG: usize = 16;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_BRIDGE_FLAGS: u16 = 0;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_VLAN_PROTOCOL: u16 = 8;
const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;
const IFLA_VLAN_ID: u16 = 1;
/// `BRIDGE_FLAGS_MASTER`: the link is meant as a port.
const MASTER: u16 = 1;
/// `BRIDGE_FLAGS_SELF`: the link is meant as the bridge.
const SELF: u16 = 2;
const PVID: u16 = 1 << 1;
const UNTAGGED: u16 = 1 << 2;
const RANGE_BEGIN: u16 = 1 << 3;
const RANGE_END: u16 = 1 << 4;
/// `RTEXT_FILTER_BRVLAN_COMPRESSED`: neighbouring VLANs of one kind come as a range.
const WITH_VLANS: u32 = 1 << 2;
/// The highest number of a VLAN (IEEE 802.1Q keeps 4095).
pub const ID_MAX: u16 = 4094;

/// What a bridge does with VLANs. A kernel without `CONFIG_BRIDGE_VLAN_FILTERING` says [`on`](Self::on) alone, and never
/// true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Frames pass only between ports of one VLAN.
    pub on: bool,
    /// The VLAN that a new port gets by itself; 0 for none.
    pub default: u16,
}

impl Filter {
    /// Reads the nest of a bridge.
    pub(crate) fn read(data: Attributes<'_>) -> Option<Self> {
        let default = data.get(IFLA_BR_VLAN_DEFAULT_PVID)?.try_into().ok()?;
        Some(Self { on: data.get(IFLA_BR_VLAN_FILTERING)? == [1], default: u16::from_ne_bytes(default) })
    }
}

/// How frames of a VLAN look at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagging {
    /// Frames that come without a tag belong to this VLAN.
    pub pvid: bool,
    /// Frames leave without their tag.
    pub untagged: bool,
}

impl Tagging {
    /// The port's end knows nothing of VLANs.
    pub const ACCESS: Self = Self { pvid: true, untagged: true };
    /// Frames have their tags in both directions.
    pub const TRUNK: Self = Self { pvid: false, untagged: false };

    fn flags(self) -> u16 {
        (if self.pvid { PVID } else { 0 }) | (if self.untagged { UNTAGGED } else { 0 })
    }
}

/// VLANs that follow each other, all with one tagging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lowest number.
    pub first: u16,
    /// The highest number, perhaps the same; a kernel takes no range with [`Tagging::pvid`].
    pub last: u16,
    /// How their frames look.
    pub tagging: Tagging,
}

impl Range {
    fn put(self, w: &mut Writer<'_>) {
        let flags = self.tagging.flags();
        if self.first == self.last {
            return put_vlan(w, flags, self.first);
        }
        put_vlan(w, flags | RANGE_BEGIN, self.first);
        put_vlan(w, flags | RANGE_END, self.last);
    }
}

/// A `bridge_vlan_info`.
fn put_vlan(w: &mut Writer<'_>, flags: u16, id: u16) {
    let ([a, b], [c, d]) = (flags.to_ne_bytes(), id.to_ne_bytes());
    w.put(IFLA_BRIDGE_VLAN_INFO, &[a, b, c, d]);
}

/// Makes a bridge tell VLANs apart.
pub fn filter(batch: &mut Batch, bridge: LinkIndex) -> u32 {
    batch.push(RTM_NEWLINK, ACK, &link::header(bridge.0, 0, 0), |w| {
        w.nest(IFLA_LINKINFO, |w| {
            w.put_str(IFLA_INFO_KIND, "bridge");
            w.nest(IFLA_INFO_DATA, |w| w.put_u8(IFLA_BR_VLAN_FILTERING, 1));
        });
    })
}

/// Lets these VLANs pass at a port; a VLAN that does already gets the new tagging.
pub fn add(batch: &mut Batch, port: LinkIndex, ranges: &[Range]) -> u32 {
    change(batch, RTM_SETLINK, (port, MASTER), ranges)
}

/// Lets these VLANs pass no longer at a port; those that do not are a success.
pub fn remove(batch: &mut Batch, port: LinkIndex, ranges: &[Range]) -> u32 {
    change(batch, RTM_DELLINK, (port, MASTER), ranges)
}

/// Lets these VLANs pass between a bridge and its node.
pub fn add_to_bridge(batch: &mut Batch, bridge: LinkIndex, ranges: &[Range]) -> u32 {
    change(batch, RTM_SETLINK, (bridge, SELF), ranges)
}

fn change(batch: &mut Batch, kind: u16, (link, meant): (LinkIndex, u16), ranges: &[Range]) -> u32 {
    batch.push(kind, ACK, &header(link.0), |w| {
        w.nest(IFLA_AF_SPEC, |w| {
            w.put_u16(IFLA_BRIDGE_FLAGS, meant);
            ranges.iter().for_each(|range| range.put(w));
        });
    })
}

fn header(index: u32) -> [u8; IFINFOMSG] {
    let mut bytes = link::header(index, 0, 0);
    bytes[0] = AF_BRIDGE;
    bytes
}

/// A link that has the frames of one VLAN of a bridge without their tags; it is set to work.
#[derive(Clone, Copy, Debug)]
pub struct VlanLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// The bridge.
    pub bridge: LinkIndex,
    /// The VLAN.
    pub id: u16,
}

impl VlanLink<'_> {
    /// Asks for the link; it fails with `EEXIST` when the name is taken or the bridge has one for the VLAN.
    pub fn create(&self, batch: &mut Batch) -> u32 {
        batch.push(RTM_NEWLINK, CREATE | EXCL | ACK, &link::header(0, IFF_UP, IFF_UP), |w| {
            w.put_str(IFLA_IFNAME, self.name);
            w.put_u32(IFLA_LINK, self.bridge.0);
            w.nest(IFLA_LINKINFO, |w| {
                w.put_str(IFLA_INFO_KIND, "vlan");
                w.nest(IFLA_INFO_DATA, |w| w.put_u16(IFLA_VLAN_ID, self.id));
            });
        })
    }
}

/// Whether bridges of this kernel know VLANs. Nothing is made: the kernel is asked for a bridge with a name that no link
/// can have (`EINVAL`), and with a VLAN protocol that is none, which a kernel that knows VLANs finds before
/// (`EPROTONOSUPPORT`; since Linux 4.3). The rest of a kernel's answer says nothing about it, where no bridge exists yet.
///
/// # Errors
/// When the kernel refuses for another reason, such as that it has no bridges.
pub fn is_supported(socket: &mut Socket) -> Result<bool, Error> {
    let mut batch = Batch::new();
    put_probe(&mut batch);
    match socket.request(&mut batch) {
        Ok(()) => Err(Error::Malformed { what: "a refusal of a bridge named \"/\"" }),
        Err(e) if e.errno() == Some(Errno::PROTONOSUPPORT) => Ok(true),
        Err(e) if e.errno() == Some(Errno::INVAL) => Ok(false),
        Err(e) => Err(e),
    }
}

fn put_probe(batch: &mut Batch) -> u32 {
    batch.push(RTM_NEWLINK, CREATE | EXCL | ACK, &link::header(0, 0, 0), |w| {
        w.put_str(IFLA_IFNAME, "/");
        w.nest(IFLA_LINKINFO, |w| {
            w.put_str(IFLA_INFO_KIND, "bridge");
            w.nest(IFLA_INFO_DATA, |w| w.put_u16(IFLA_BR_VLAN_PROTOCOL, 0));
        });
    })
}

/// The VLANs that pass at a port, each with its tagging; none when the kernel knows no VLANs.
///
/// # Errors
/// As [`Socket::dump`].
pub fn fetch(socket: &mut Socket, port: LinkIndex) -> Result<BTreeMap<u16, Tagging>, Error> {
    let mut batch = Batch::new();
    // The kernel lists the ports of all bridges or none.
    batch.push(RTM_GETLINK, DUMP, &header(0), |w| w.put_u32(IFLA_EXT_MASK, WITH_VLANS));
    socket.dump(&mut batch, |found: &mut BTreeMap<_, _>, reply| found.extend(read(reply, port)))
}

/// What one message of the list says about a port.
fn read(reply: Reply<'_>, port: LinkIndex) -> BTreeMap<u16, Tagging> {
    let index = reply.body.get(4..8).map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
    if reply.kind != RTM_NEWLINK || index != Some(port.0.to_ne_bytes()) {
        return BTreeMap::new();
    }
    let (mut found, mut begun) = (BTreeMap::new(), None);
    let spec = reply.attributes(IFINFOMSG).get_nest(IFLA_AF_SPEC);
    for (kind, value) in spec.into_iter().flatten() {
        let (IFLA_BRIDGE_VLAN_INFO, &[a, b, c, d]) = (kind, value) else { continue };
        let (flags, id) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        if flags & RANGE_BEGIN != 0 {
            begun = Some(id);
            continue;
        }
        let first = begun.take().filter(|_| flags & RANGE_END != 0).unwrap_or(id);
        let tagging = Tagging { pvid: flags & PVID != 0, untagged: flags & UNTAGGED != 0 };
        found.extend((first..=id).map(|id| (id, tagging)));
    }
    found
}

#[cfg(test)]
mod tests;
