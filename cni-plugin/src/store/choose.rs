//! Which addresses an owner gets: first in, first out.
//!
//! The addresses of a range set are a queue. Those that were never handed out stand first, in their order; one that is
//! given back goes to the end. So each rests as long as the set allows. Only what nobody would notice bends this: when
//! thousands rest, the oldest is taken in the place of a new one, so that the table of a range that nobody can use up
//! does not grow with every pod. Invariant: an address that still rests is taken only when there is no other, or when
//! it was asked for by name.

use super::disk::{self, Disk};
use super::layout::{Address, Id, Pool, Slot};
use super::table::Table;
use crate::ipam::{self, Ask, Assigned, Granted, Owner, Room, Uptime, number};
use crate::ranges::{Range, RangeSet};
use std::net::IpAddr;

/// Addresses of one set that rest before new ones are spared.
const RESTING: u32 = 4096;

/// Why nothing was granted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The table cannot be read or written.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// There is nothing to give.
    #[error(transparent)]
    Refused(#[from] ipam::Error),
}

/// A set with the numbers of its pools.
type Pools<'a> = Vec<(Id, &'a Range)>;

impl<D: Disk> Table<D> {
    /// Gives an owner what it holds already, or new addresses, all or none.
    pub(super) fn grant(&mut self, owner: &Owner, ask: &Ask, now: Uptime) -> Result<Granted, Error> {
        let misfit = |w: &&IpAddr| !ask.sets.iter().any(|set| set.assign(**w).is_some());
        if let Some(address) = ask.wanted.iter().find(misfit) {
            return Err(ipam::Error::NotOurs { address: *address }.into());
        }
        if let Some(addresses) = self.keep(owner, ask)? {
            return Ok(Granted { addresses, fresh: false });
        }
        let addresses = self.change(|table| table.move_to_new(owner, ask, now))?;
        Ok(Granted { addresses, fresh: true })
    }

    /// What the owner holds, if the present sets would give the same.
    fn keep(&self, owner: &Owner, ask: &Ask) -> Result<Option<Vec<Assigned>>, disk::Error> {
        let Some(held) = self.held_by(owner)? else { return Ok(None) };
        let fits = held.len() == ask.sets.len()
            && ask.wanted.iter().all(|wanted| held.contains(wanted))
            && !held.iter().any(|address| ask.avoid.contains(address));
        let assigned = ask.sets.iter().zip(held).map(|(set, address)| set.assign(address));
        Ok(assigned.collect::<Option<_>>().filter(|_| fits))
    }

    fn move_to_new(&mut self, owner: &Owner, ask: &Ask, now: Uptime) -> Result<Vec<Assigned>, Error> {
        self.remove(owner, now)?;
        let mut chosen = Vec::with_capacity(ask.sets.len());
        let mut addresses = Vec::with_capacity(ask.sets.len());
        for (set, pools) in numbered(ask.sets) {
            let ip = match asked_for(set, ask.wanted)? {
                Some(ip) => self.check_free(ip)?,
                None => match self.next(&pools, ask, now)? {
                    Some(ip) => ip,
                    None => return Err(self.exhausted(set, &pools)?.into()),
                },
            };
            let pool = pools.iter().find(|(_, range)| range.assign(ip).is_some()).map(|(id, _)| *id);
            chosen.extend(set.assign(ip));
            addresses.push((ip, pool));
        }
        self.insert((owner, false), &addresses)?;
        Ok(chosen)
    }

    fn check_free(&self, ip: IpAddr) -> Result<IpAddr, Error> {
        let Some((_, Address { lease: Some(lease), .. })) = self.find_address(ip)? else { return Ok(ip) };
        let container = self.lease(lease)?.owner.container;
        Err(ipam::Error::Taken { address: ip, container }.into())
    }

    fn next(&mut self, pools: &Pools, ask: &Ask, now: Uptime) -> Result<Option<IpAddr>, disk::Error> {
        let mut resting = 0;
        for (id, _) in pools {
            resting += self.pool(*id)?.resting;
        }
        let oldest = self.oldest(pools, ask.avoid)?;
        let rested = oldest.filter(|(_, since)| now.has_passed(*since, ask.cooldown)).map(|(ip, _)| ip);
        if let Some(ip) = rested.filter(|_| resting >= RESTING) {
            return Ok(Some(ip));
        }
        Ok(self.never_used(pools)?.or(oldest.map(|(ip, _)| ip)))
    }

    /// The first address that was never handed out, and is not known for another reason.
    fn never_used(&mut self, pools: &Pools) -> Result<Option<IpAddr>, disk::Error> {
        for (id, range) in pools {
            let pool = self.pool(*id)?;
            let mut next = pool.next;
            let mut found = None;
            while let Some(ip) = next.and_then(|from| range.usable_from(from)) {
                next = number(ip).checked_add(1);
                if self.find_address(ip)?.is_none() {
                    found = Some(ip);
                    break;
                }
            }
            if pool.next != next {
                self.put(*id, &Slot::Pool(Pool { next: found.and(next), ..pool }));
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The address that has been resting longest, and since when.
    fn oldest(&self, pools: &Pools, avoid: &[IpAddr]) -> Result<Option<(IpAddr, Uptime)>, disk::Error> {
        let mut oldest: Option<Address> = None;
        for (id, _) in pools {
            let mut next = self.pool(*id)?.oldest;
            while let Some(id) = next {
                let address = self.address(id)?;
                if avoid.contains(&address.ip) {
                    next = address.next;
                    continue;
                }
                if oldest.is_none_or(|oldest| address.since < oldest.since) {
                    oldest = Some(address);
                }
                break;
            }
        }
        Ok(oldest.map(|address| (address.ip, Uptime(address.since))))
    }

    fn exhausted(&self, set: &RangeSet, pools: &Pools) -> Result<ipam::Error, disk::Error> {
        Ok(ipam::Error::Exhausted { set: set.clone(), held: self.held_in(pools)? })
    }

    fn held_in(&self, pools: &Pools) -> Result<u128, disk::Error> {
        pools.iter().map(|(id, _)| Ok(u128::from(self.pool(*id)?.held))).sum()
    }

    /// How full each set is: from the pools where they are those of these sets, else by counting.
    pub(super) fn room(&self, sets: &[RangeSet]) -> Result<Vec<Room>, disk::Error> {
        let mut rooms = Vec::with_capacity(sets.len());
        for (set, pools) in numbered(sets) {
            let held = if self.is_for(sets) { self.held_in(&pools)? } else { self.count_held(set)? };
            rooms.push(Room { capacity: set.capacity(), held });
        }
        Ok(rooms)
    }

    fn count_held(&self, set: &RangeSet) -> Result<u128, disk::Error> {
        let inside = |ips: &[IpAddr]| ips.iter().filter(|ip| set.assign(**ip).is_some()).count() as u128;
        self.leases().map(|held| Ok(inside(&held?.addresses))).sum()
    }
}

/// The sets with the numbers of their pools: the ranges of all sets, counted from one.
pub(super) fn numbered(sets: &[RangeSet]) -> impl Iterator<Item = (&RangeSet, Pools<'_>)> {
    let mut ids = (1..).filter_map(Id::new);
    sets.iter().map(move |set| {
        let ranges = set.ranges().iter();
        (set, ranges.zip(ids.by_ref()).map(|(range, id)| (id, range)).collect())
    })
}

/// The pool that an address goes back to.
pub(super) fn pool_of(sets: &[RangeSet], ip: IpAddr) -> Option<Id> {
    let mut pools = numbered(sets).flat_map(|(_, pools)| pools);
    pools.find(|(_, range)| range.assign(ip).is_some()).map(|(id, _)| id)
}

/// The wanted address that is this set's; a set gives one.
fn asked_for(set: &RangeSet, wanted: &[IpAddr]) -> Result<Option<IpAddr>, ipam::Error> {
    let mut asked = wanted.iter().copied().filter(|ip| set.assign(*ip).is_some());
    match (asked.next(), asked.next()) {
        (_, Some(second)) => Err(ipam::Error::NotOurs { address: second }),
        (first, None) => Ok(first),
    }
}
