//! The largest packet of pods.
//!
//! The plugin would take that of the link to the default route, which need not be the one that other nodes are reached by.

use crate::view::View;
use heddle_netlink::link::{self, Which};
use heddle_netlink::{Error, Family, Socket, address};
use std::collections::BTreeSet;
use std::net::IpAddr;
use tracing::debug;

/// The largest packet that pods may send to each other, in bytes; none when it is not known.
pub(super) fn pod_mtu(view: &View) -> Option<u32> {
    let own = view.own.as_ref()?;
    fetch(&own.addresses).unwrap_or_else(|error| {
        debug!("the largest packet of this node's links is not known: {error}");
        None
    })
}

/// The smallest of the links that have these addresses.
fn fetch(addresses: &[IpAddr]) -> Result<Option<u32>, Error> {
    let mut socket = Socket::open(Family::Route)?;
    let all = address::list_all(&mut socket)?;
    let uplinks = all.iter().filter(|found| addresses.contains(&found.address.ip())).map(|found| found.link);
    let mut smallest = None;
    for index in uplinks.collect::<BTreeSet<_>>() {
        let found = link::fetch(&mut socket, Which::Index(index))?.filter(|link| !link.loopback);
        smallest = found.map(|link| link.mtu).into_iter().chain(smallest).min();
    }
    Ok(smallest)
}
