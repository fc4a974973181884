//! Bridges whose frames pass by the node's rules: between pods that are not tracked, those have nothing to do.
//!
//! A bridge says so itself, by its alias, so that whoever comes next finds it, a killed process's successor too. Invariant: a bridge
//! whose alias is somebody else's is left alone.

use heddle_netlink::bridge::{is_passing, let_pass};
use heddle_netlink::link::{self, Link, LinkIndex};
use heddle_netlink::{Batch, Errno, Error, Family, Refusal, Socket, address};
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;

/// Lets frames pass on the bridges that have an address in these networks, and on no others. Returns whether some did otherwise.
///
/// # Errors
/// When links cannot be listed, or changed.
pub fn set(socket: &mut Socket, networks: &[IpNetwork]) -> Result<bool, Error> {
    let bridges = link::list(socket, "bridge")?;
    let of_pods = of_pods(socket, networks)?;
    let mut batch = Batch::new();
    for bridge in &bridges {
        let wanted = of_pods.contains(&bridge.index);
        if must_change(bridge, wanted) {
            let_pass(&mut batch, bridge.index, wanted);
        }
    }
    let changes = !batch.is_empty();
    match socket.request(&mut batch) {
        // One that is gone meanwhile is as it should be.
        Err(Error::Refused { refusals }) if refusals.iter().all(is_gone) => {}
        done => done?,
    }
    Ok(changes)
}

/// Takes it back, on all of them. Returns whether there were any.
///
/// # Errors
/// When links cannot be listed, or changed.
pub fn take_back() -> Result<bool, Error> {
    set(&mut Socket::open(Family::Route)?, &[])
}

/// Whether there are any.
///
/// # Errors
/// When links cannot be listed.
pub fn are_some() -> Result<bool, Error> {
    Ok(link::list(&mut Socket::open(Family::Route)?, "bridge")?.iter().any(is_passing))
}

fn of_pods(socket: &mut Socket, networks: &[IpNetwork]) -> Result<BTreeSet<LinkIndex>, Error> {
    if networks.is_empty() {
        return Ok(BTreeSet::new());
    }
    let is_of_pods = |ip| networks.iter().any(|network| network.contains(ip));
    let all = address::list_all(socket)?.into_iter();
    Ok(all.filter(|one| is_of_pods(one.address.ip())).map(|one| one.link).collect())
}

fn must_change(bridge: &Link, wanted: bool) -> bool {
    if wanted {
        // Without `br_netfilter` nothing is handed over as it is.
        let is_free = bridge.alias.is_none() || is_passing(bridge);
        is_free && bridge.netfilter.is_some() && (bridge.netfilter == Some(true) || !is_passing(bridge))
    } else {
        is_passing(bridge)
    }
}

fn is_gone(refusal: &Refusal) -> bool {
    refusal.errno == Errno::NODEV
}
