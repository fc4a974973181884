//! What the kernel has, as far as it decides about our routes and tables, or is ours.
//!
//! A value: read in one go, planned against, and in tests changed by [`Seen::after`]. Pure.

use crate::diff::{OverlayStep, RouteStep, RuleStep, Steps};
use crate::overlay::Overlay;
use heddle_netlink::link::{LinkIndex, Mac};
use heddle_netlink::nft::table::Refused;
use heddle_netlink::nft::{Table, TableFamily};
use heddle_netlink::route::{PROTOCOL_HEDDLE_NODE, PROTOCOL_RA, Route, TABLE_MAIN};
use heddle_netlink::rule::Rule;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The kernel's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Routes of all tables that lead to one link each.
    pub routes: Vec<Route>,
    /// Our rules.
    pub rules: Vec<Rule>,
    /// The host's addresses, with their links.
    pub addresses: BTreeMap<IpAddr, LinkIndex>,
    /// The largest packet that each link takes, in bytes.
    pub mtus: BTreeMap<LinkIndex, u32>,
    /// What there is of VXLAN.
    pub vxlan: Vxlans,
    /// Our tables.
    pub tables: BTreeMap<TableFamily, Table>,
}

/// VXLAN on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vxlans {
    /// Our device.
    pub device: Option<Device>,
    /// The kernel has none.
    pub missing: bool,
    /// A link that is no VXLAN device has the name of ours.
    pub name_taken: bool,
    /// The UDP ports of others' devices, with their names.
    pub others: BTreeMap<u16, String>,
}

/// Our device, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub link: LinkIndex,
    /// It is set to work.
    pub up: bool,
    /// It takes its metadata from routes, as a device of ours does.
    pub collects: bool,
    /// Whether checksums of what it carries are left to the hardware; none where the kernel cannot say (before 5.7).
    pub offload: Option<bool>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
    /// Its UDP port.
    pub port: u16,
    /// Its addresses, but for the one that the kernel gives each link by itself.
    pub addresses: BTreeSet<IpNetwork>,
    /// Who is behind it, by next hops.
    pub neighbours: BTreeMap<IpAddr, Mac>,
}

impl Device {
    /// What the kernel makes of one that is to be this, at first.
    fn bare(link: LinkIndex, overlay: &Overlay) -> Self {
        let Overlay { mac, mtu, port, .. } = *overlay;
        let (addresses, neighbours) = (BTreeSet::new(), BTreeMap::new());
        Self { link, up: true, collects: true, offload: Some(true), mac, mtu, port, addresses, neighbours }
    }

    /// Whether it can become this one without being made anew.
    pub fn can_become(&self, overlay: &Overlay) -> bool {
        self.collects && self.port == overlay.port
    }
}

impl Seen {
    /// Our routes.
    pub fn ours(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(|route| is_ours(route))
    }

    /// Everybody else's routes of the main table.
    pub fn others(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(|route| !is_ours(route) && route.table == TABLE_MAIN)
    }

    /// The links by which routers announce themselves, or which have one of these addresses.
    pub fn uplinks<'a>(&'a self, addresses: &'a [IpAddr]) -> BTreeSet<LinkIndex> {
        let announced =
            self.routes.iter().filter(|route| route.protocol == PROTOCOL_RA).map(|route| route.link);
        announced.chain(addresses.iter().filter_map(|address| self.addresses.get(address).copied())).collect()
    }

    /// What the kernel has after these steps, if it takes them.
    ///
    /// # Errors
    /// The first operation on a table that it would refuse.
    pub fn after(&self, steps: &Steps) -> Result<Self, Refused> {
        let mut after = self.clone();
        for transaction in &steps.tables {
            let family = transaction.family;
            let table = Table::after(after.tables.remove(&family).as_ref(), transaction)?;
            after.tables.extend(table.map(|table| (family, table)));
        }
        steps.overlay.iter().for_each(|step| after.step_overlay(step));
        steps.routes.iter().for_each(|step| after.step_route(step));
        for step in &steps.rules {
            match step {
                RuleStep::Add(rule) => after.rules.push(*rule),
                RuleStep::Delete(rule) => after.rules.retain(|other| other != rule),
            }
        }
        steps.leaving.iter().for_each(|step| after.step_overlay(step));
        Ok(after)
    }

    fn step_route(&mut self, step: &RouteStep) {
        match step {
            RouteStep::Add(route) => self.routes.push(*route),
            RouteStep::Delete(route) => self.routes.retain(|other| other != route),
            RouteStep::Replace(route) => {
                let mut ours = self.routes.iter_mut().filter(|other| is_ours(other));
                if let Some(slot) = ours.find(|other| is_same_slot(other, route)) {
                    *slot = *route;
                }
            }
        }
    }

    fn step_overlay(&mut self, step: &OverlayStep) {
        if let OverlayStep::Make(overlay) = step {
            let link = LinkIndex(self.mtus.keys().last().map_or(1, |link| link.0 + 1));
            self.vxlan.device = Some(Device::bare(link, overlay));
            return;
        }
        let Some(device) = &mut self.vxlan.device else { return };
        match step {
            OverlayStep::Make(_) => {}
            OverlayStep::Remove(link) => {
                let link = *link;
                self.routes.retain(|route| route.link != link);
                self.vxlan.device = None;
            }
            OverlayStep::Tune(_, mac, mtu) => (device.mac, device.mtu) = (*mac, *mtu),
            OverlayStep::SetUp(_) => device.up = true,
            OverlayStep::Offload(_, on) => device.offload = Some(*on),
            OverlayStep::Address(_, address) => {
                device.addresses.insert(*address);
            }
            OverlayStep::NoAddress(_, address) => {
                device.addresses.remove(address);
            }
            OverlayStep::Neighbour(neighbour) => {
                device.neighbours.insert(neighbour.address, neighbour.mac);
            }
            OverlayStep::NoNeighbour(neighbour) => {
                device.neighbours.remove(&neighbour.address);
            }
        }
    }
}

fn is_ours(route: &Route) -> bool {
    route.protocol == PROTOCOL_HEDDLE_NODE
}

/// Whether one takes the other's place when it replaces.
pub(crate) fn is_same_slot(one: &Route, other: &Route) -> bool {
    (one.to, one.table, one.priority) == (other.to, other.table, other.priority)
}
