//! Addresses for an attachment, from our own leases.
//!
//! Links are asked and not touched. Invariant: when an attempt to take fails, nothing is held that was not held before.

use crate::alias;
use crate::config::ipam::Own;
use crate::failure::Failure;
use crate::ipam::{self, Ask, Assigned, Granted, Held, Owner};
use crate::names;
use crate::node::Node;
use crate::result::{Ip, Outcome};
use crate::spec::{Add, Attachment};
use crate::store::{Store, boot_id};
use std::net::IpAddr;
use std::path::Path;

/// What an attachment holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Addresses and routes, as an IPAM plugin would report them.
    pub given: Outcome,
    /// It was not held before: an earlier attempt's lease is given back by the DEL of that attempt.
    pub fresh: bool,
}

/// Takes an address from each set of ranges, and none that another pod has.
///
/// # Errors
/// When a set is exhausted, a wanted address cannot be given, or the lease file cannot be used.
pub fn take(request: &Add, own: &Own, node: &mut Node) -> Result<Taken, Failure> {
    let (mut avoid, mut fresh) = (Vec::new(), false);
    loop {
        let found = grant(request, own, &avoid).and_then(|granted| {
            fresh |= granted.fresh;
            let used = find_used(request, &granted.addresses, node)?;
            Ok((granted, used))
        });
        match found {
            Ok((granted, used)) if used.is_empty() => {
                let ips = granted.addresses.into_iter().map(ip).collect();
                let given = Outcome { ips, routes: own.routes.clone(), ..Outcome::default() };
                return Ok(Taken { given, fresh });
            }
            Ok((_, used)) => avoid.extend(used),
            Err(failure) if fresh => {
                return Err(match release(&own.leases, &request.attachment) {
                    Ok(()) => failure,
                    Err(e) => failure.and(&format!("left behind the lease: {}", e.to_line())),
                });
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The table is locked only here: nobody waits for the kernel with it.
fn grant(request: &Add, own: &Own, avoid: &[IpAddr]) -> Result<Granted, Failure> {
    let Add { attachment, config, .. } = request;
    let mut store = Store::open(&own.leases, &attachment.network, &boot_id()?)?;
    let ask = Ask { sets: &own.sets, wanted: &config.addresses, cooldown: own.cooldown, avoid };
    let owner = Owner::of(attachment);
    let held = store.held_by(&owner).is_ok_and(|held| held.is_some());
    store.grant(&owner, &ask).map_err(|failure| {
        // A disk that fails in the middle of a grant may have kept enough for the next process to complete it.
        if !held {
            let _ = store.release(&owner);
        }
        failure.into()
    })
}

/// Addresses that another pod's link has: the table that knew it was lost.
fn find_used(request: &Add, granted: &[Assigned], node: &mut Node) -> Result<Vec<IpAddr>, Failure> {
    let (own, mut used) = (names::host_link(&request.attachment), Vec::new());
    for address in granted.iter().map(|assigned| assigned.address.ip()) {
        let Some(link) = node.find_by_address(&request.attachment.network, address)? else { continue };
        if link.name == own {
            continue;
        }
        if request.config.addresses.contains(&address) {
            let container = alias::read(&link).map_or(link.name, |attachment| attachment.container);
            return Err(ipam::Error::Taken { address, container }.into());
        }
        used.push(address);
    }
    Ok(used)
}

fn ip(assigned: Assigned) -> Ip {
    Ip { interface: None, address: assigned.address, gateway: Some(assigned.gateway) }
}

/// Gives back what an attachment holds, if it holds anything.
///
/// # Errors
/// When the lease file cannot be used.
pub fn release(leases: &Path, attachment: &Attachment) -> Result<(), Failure> {
    if let Some(mut store) = open(leases, &attachment.network)? {
        store.release(&Owner::of(attachment))?;
    }
    Ok(())
}

/// What an attachment holds, one address for each set of ranges.
///
/// # Errors
/// As [`release`].
pub fn held(leases: &Path, attachment: &Attachment) -> Result<Vec<IpAddr>, Failure> {
    let Some(store) = open(leases, &attachment.network)? else { return Ok(Vec::new()) };
    Ok(store.held_by(&Owner::of(attachment))?.unwrap_or_default())
}

/// All leases of a network.
///
/// # Errors
/// As [`release`].
pub fn holders(leases: &Path, network: &str) -> Result<Vec<Held>, Failure> {
    match open(leases, network)? {
        Some(mut store) => Ok(store.holders()?),
        None => Ok(Vec::new()),
    }
}

/// Whether anybody holds an address of this network. It makes nothing and waits for nobody.
///
/// # Errors
/// When an ADD could not take one, and why.
pub fn is_in_use(own: &Own, network: &str) -> Result<bool, Failure> {
    let rooms = Store::room(&own.leases, network, &boot_id()?, &own.sets)?;
    match own.sets.iter().zip(&rooms).find(|(_, room)| room.free() == 0) {
        Some((set, room)) => {
            let msg = format!("no address left in range set {set} ({} held)", room.held);
            Err(Failure { code: 100, msg, details: String::new() })
        }
        None => Ok(rooms.iter().any(|room| room.held > 0)),
    }
}

fn open(leases: &Path, network: &str) -> Result<Option<Store>, Failure> {
    Ok(Store::open_existing(leases, network, &boot_id()?)?)
}
