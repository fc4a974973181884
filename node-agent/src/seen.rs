//! What the kernel has, as far as it decides about our routes and tables, or is ours.
//!
//! A value: read in one go, planned against, and in tests changed by [`Seen::after`]. Pure.

use crate::diff::{RouteStep, Steps};
use heddle_netlink::link::LinkIndex;
use heddle_netlink::nft::table::Refused;
use heddle_netlink::nft::{Table, TableFamily};
use heddle_netlink::route::{PROTOCOL_HEDDLE_NODE, PROTOCOL_RA, Route, TABLE_MAIN};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The kernel's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Routes of all tables that lead to one link each.
    pub routes: Vec<Route>,
    /// The host's addresses, with their links.
    pub addresses: BTreeMap<IpAddr, LinkIndex>,
    /// Our tables.
    pub tables: BTreeMap<TableFamily, Table>,
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
        for step in &steps.routes {
            match step {
                RouteStep::Add(route) => after.routes.push(*route),
                RouteStep::Delete(route) => after.routes.retain(|other| other != route),
                RouteStep::Replace(route) => {
                    let mut ours = after.routes.iter_mut().filter(|other| is_ours(other));
                    if let Some(slot) = ours.find(|other| is_same_slot(other, route)) {
                        *slot = *route;
                    }
                }
            }
        }
        Ok(after)
    }
}

fn is_ours(route: &Route) -> bool {
    route.protocol == PROTOCOL_HEDDLE_NODE
}

/// Whether one takes the other's place when it replaces.
pub(crate) fn is_same_slot(one: &Route, other: &Route) -> bool {
    (one.to, one.table, one.priority) == (other.to, other.table, other.priority)
}
