//! The steps of the VXLAN device.

use crate::overlay::Overlay;
use crate::seen::Device;
use heddle_netlink::link::{LinkIndex, Mac};
use heddle_netlink::neighbour::Neighbour;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// What to do with the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayStep {
    /// Make it, without addresses and neighbours: those need its number, and follow after another look.
    Make(Overlay),
    /// Remove it, and with it all routes that leave by it.
    Remove(LinkIndex),
    /// Give it this Ethernet address and this MTU.
    Tune(LinkIndex, Mac, u32),
    /// Set it to work.
    SetUp(LinkIndex),
    /// Leave checksums of what it carries to the hardware, or do not.
    Offload(LinkIndex, bool),
    /// Give it an address.
    Address(LinkIndex, IpNetwork),
    /// Take an address away.
    NoAddress(LinkIndex, IpNetwork),
    /// Say who a next hop is.
    Neighbour(Neighbour),
    /// Forget a next hop.
    NoNeighbour(Neighbour),
}

/// What comes before routes use the device, and what goes after they have left it.
pub(super) fn steps(have: Option<&Device>, want: Option<&Overlay>) -> (Vec<OverlayStep>, Vec<OverlayStep>) {
    match (have, want) {
        (None, None) => (Vec::new(), Vec::new()),
        (Some(device), None) => (Vec::new(), vec![OverlayStep::Remove(device.link)]),
        (None, Some(want)) => (vec![OverlayStep::Make(want.clone())], Vec::new()),
        (Some(device), Some(want)) if device.can_become(want) => changes(device, want),
        (Some(device), Some(want)) => {
            (vec![OverlayStep::Remove(device.link), OverlayStep::Make(want.clone())], Vec::new())
        }
    }
}

fn changes(device: &Device, want: &Overlay) -> (Vec<OverlayStep>, Vec<OverlayStep>) {
    let (link, have) = (device.link, device);
    let neighbour = |(address, mac): (&IpAddr, &Mac)| Neighbour { link, address: *address, mac: *mac };
    let mut first = Vec::new();
    if (have.mac, have.mtu) != (want.mac, want.mtu) {
        first.push(OverlayStep::Tune(link, want.mac, want.mtu));
    }
    if !device.up {
        first.push(OverlayStep::SetUp(link));
    }
    if have.offload.is_some_and(|on| on != want.offload) {
        first.push(OverlayStep::Offload(link, want.offload));
    }
    first.extend(want.addresses.difference(&have.addresses).map(|it| OverlayStep::Address(link, *it)));
    let missing = want.neighbours.iter().filter(|(address, mac)| have.neighbours.get(address) != Some(mac));
    first.extend(missing.map(|it| OverlayStep::Neighbour(neighbour(it))));
    let strange = have.addresses.difference(&want.addresses).map(|it| OverlayStep::NoAddress(link, *it));
    let gone = have.neighbours.iter().filter(|(address, _)| !want.neighbours.contains_key(address));
    (first, strange.chain(gone.map(|it| OverlayStep::NoNeighbour(neighbour(it)))).collect())
}
