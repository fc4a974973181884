//! Steps of our device, asked of the kernel one by one: all but the first are few, and a refusal is known by its step.

use super::{Failure, Netlink, unless};
use crate::diff::OverlayStep;
use crate::overlay::DEVICE;
use heddle_netlink::address::Address;
use heddle_netlink::link::{self, LinkIndex, Which};
use heddle_netlink::tuning::Tuning;
use heddle_netlink::vxlan::Vxlan;
use heddle_netlink::{Batch, Errno, Socket, features};

/// What ethtool calls the checksums that a link leaves to the hardware, of both families.
const CHECKSUMS: &str = "tx-checksum-ip-generic";

/// Whether a link leaves checksums to the hardware; none where the kernel cannot say.
pub(super) fn offload(socket: &mut Socket, link: LinkIndex) -> Result<Option<bool>, heddle_netlink::Error> {
    features::is_on(socket, Which::Index(link), CHECKSUMS)
}

impl Netlink {
    pub(super) fn change_overlay(&mut self, step: &OverlayStep) -> Result<(), Failure> {
        let mut batch = Batch::new();
        if let Some((what, is_so)) = put(step, &mut batch) {
            return unless(self.routes.request(&mut batch), is_so, || what);
        }
        let OverlayStep::Offload(link, on) = step else { return Ok(()) };
        let done = features::set(&mut self.features, Which::Index(*link), CHECKSUMS, *on);
        unless(done.map(drop), Some(Errno::NODEV), || format!("set {CHECKSUMS} of {DEVICE}"))
    }
}

/// Writes a step. Returns what it is, and which refusal says that it is so already; none for what rtnetlink cannot say.
fn put(step: &OverlayStep, batch: &mut Batch) -> Option<(String, Option<Errno>)> {
    let address = |link: &LinkIndex, address| Address { link: *link, address };
    let (what, is_so) = match step {
        OverlayStep::Offload(..) => return None,
        OverlayStep::Make(overlay) => {
            let device = Vxlan { name: DEVICE, mac: overlay.mac, mtu: overlay.mtu, port: overlay.port };
            device.create(batch);
            (format!("make the VXLAN device {DEVICE} on UDP port {}", overlay.port), None)
        }
        OverlayStep::Remove(link) => {
            link::delete(batch, Which::Index(*link));
            (format!("remove the VXLAN device {DEVICE}"), Some(Errno::NODEV))
        }
        OverlayStep::Tune(link, mac, mtu) => {
            Tuning { mac: Some(*mac), mtu: Some(*mtu), ..Tuning::default() }.apply(batch, *link);
            (format!("give {DEVICE} the MTU {mtu} and the address {mac}"), Some(Errno::NODEV))
        }
        OverlayStep::SetUp(link) => {
            link::set_up(batch, Which::Index(*link));
            (format!("set {DEVICE} to work"), Some(Errno::NODEV))
        }
        OverlayStep::Address(link, ip) => {
            address(link, *ip).add(batch);
            (format!("give {DEVICE} the address {ip}"), Some(Errno::EXIST))
        }
        OverlayStep::NoAddress(link, ip) => {
            address(link, *ip).delete(batch);
            (format!("take the address {ip} from {DEVICE}"), Some(Errno::ADDRNOTAVAIL))
        }
        OverlayStep::Neighbour(neighbour) => {
            neighbour.replace(batch);
            (format!("say who {} is on {DEVICE}", neighbour.address), Some(Errno::NODEV))
        }
        OverlayStep::NoNeighbour(neighbour) => {
            neighbour.delete(batch);
            (format!("forget {} on {DEVICE}", neighbour.address), Some(Errno::NOENT))
        }
    };
    Some((what, is_so))
}
