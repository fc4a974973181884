//! VLANs on the node's bridge, where the kernel has them.
//!
//! It does not decide who gets which. Invariant: no port but the one that is named changes its VLANs; what all pods of a
//! bridge share (that it tells VLANs apart, and the links of its gateways) stays, as the bridge does.

use super::{Node, skip_duplicate_search};
use crate::apply::{Error, refused};
use crate::config::vlan::Vlans;
use heddle_netlink::link::{self, Link, LinkIndex, Which};
use heddle_netlink::vlan::{self, Filter, Range, Tagging, VlanLink};
use heddle_netlink::{Batch, Errno};
use std::collections::BTreeMap;

impl Node {
    /// Whether bridges of this kernel know VLANs; nothing is made to find out.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn has_vlans(&mut self) -> Result<bool, Error> {
        let asked = vlan::is_supported(&mut self.socket);
        asked.map_err(refused("ask the kernel for VLANs on bridges".to_owned()))
    }

    /// Makes the bridge tell VLANs apart. Ports that are there already are all in the bridge's default VLAN, and stay so.
    pub(crate) fn filter_vlans(&mut self, bridge: &Link) -> Result<(), Error> {
        if bridge.vlans.is_some_and(|filter| filter.on) {
            return Ok(());
        }
        let mut batch = Batch::new();
        vlan::filter(&mut batch, bridge.index);
        self.request(&mut batch, || format!("make bridge {} tell VLANs apart", bridge.name))
    }

    /// Finds or makes the link that has the frames of one VLAN, and lets them pass from the bridge to the node.
    pub(crate) fn vlan_link(&mut self, bridge: &Link, name: &str, id: u16) -> Result<Link, Error> {
        let found = match self.find_vlan_link(name)? {
            Some(found) => found,
            None => self.make_vlan_link(bridge, name, id)?,
        };
        let mut batch = Batch::new();
        if found.kind.as_deref() == Some("vlan") {
            let through = Range { first: id, last: id, tagging: Tagging::TRUNK };
            vlan::add_to_bridge(&mut batch, bridge.index, &[through]);
        }
        if !found.up {
            link::set_up(&mut batch, Which::Index(found.index));
        }
        self.request(&mut batch, || format!("let VLAN {id} pass from bridge {} to {name}", bridge.name))?;
        Ok(found)
    }

    /// A link of this name. The reference plugin makes a pair with one end on the bridge, which is as good; any other
    /// kind is somebody else's.
    pub(crate) fn find_vlan_link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let found = link::fetch(&mut self.socket, Which::Name(name));
        match found.map_err(refused(format!("find link {name}")))? {
            Some(found) if !matches!(found.kind.as_deref(), Some("vlan" | "veth")) => {
                Err(Error::Exists { name: name.to_owned(), place: "on the node, and leads to no VLAN" })
            }
            found => Ok(found),
        }
    }

    /// As with the bridge, whoever comes second finds it.
    fn make_vlan_link(&mut self, bridge: &Link, name: &str, id: u16) -> Result<Link, Error> {
        let mut batch = Batch::new();
        VlanLink { name, bridge: bridge.index, id }.create(&mut batch);
        match self.socket.request(&mut batch) {
            Err(e) if e.errno() != Some(Errno::EXIST) => {
                return Err(refused(format!("make link {name} for VLAN {id}"))(e));
            }
            _ => skip_duplicate_search(name)?,
        }
        self.find_vlan_link(name)?.ok_or_else(|| Error::Gone { name: name.to_owned() })
    }

    /// The VLANs that pass at a port.
    pub(crate) fn vlans_of(&mut self, port: &Link) -> Result<BTreeMap<u16, Tagging>, Error> {
        let listed = vlan::fetch(&mut self.socket, port.index);
        listed.map_err(refused(format!("list the VLANs of port {}", port.name)))
    }

    /// Gives a fresh port its VLANs, in one send. The pod's end is not set to work yet, so no frame sees it half done.
    pub(crate) fn port_vlans(&mut self, bridge: &Link, port: &str, vlans: &Vlans) -> Result<(), Error> {
        let action = || format!("put port {port} into VLAN {vlans}");
        let found = link::fetch(&mut self.socket, Which::Name(port)).map_err(refused(action()))?;
        let index = found.ok_or_else(|| Error::Gone { name: port.to_owned() })?.index;
        let mut batch = port_changes(bridge.vlans, index, vlans);
        self.request(&mut batch, action)
    }
}

fn port_changes(filter: Option<Filter>, port: LinkIndex, vlans: &Vlans) -> Batch {
    let mut batch = Batch::new();
    let default = filter.map(|filter| filter.default).filter(|id| *id != 0 && !vlans.keep_default);
    if let Some(id) = default {
        vlan::remove(&mut batch, port, &[Range { first: id, last: id, tagging: Tagging::TRUNK }]);
    }
    vlan::add(&mut batch, port, &vlans.ranges);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_leaves_the_default_vlan_only_when_there_is_one_and_it_is_not_kept() {
        let ranges = vec![Range { first: 7, last: 7, tagging: Tagging::ACCESS }];
        let filter = |default| Filter { on: true, default };
        let messages = |default: Option<u16>, keep_default| {
            port_changes(default.map(filter), LinkIndex(9), &Vlans { ranges: ranges.clone(), keep_default })
                .len()
        };
        assert_eq!(messages(Some(1), false), 2);
        assert_eq!([messages(Some(1), true), messages(Some(0), false), messages(None, false)], [1, 1, 1]);
    }
}
