//! A lease table on a disk: slots, the index over them, and the leases that they make up.
//!
//! Which address an owner gets is not decided here (that is [`choose`](super::choose)). Whatever the number of leases, an
//! operation reads and writes a handful of units. Invariant: an address is in one slot, and so has one owner at most;
//! what changes together is one [`Draft`].

mod slots;
#[cfg(test)]
mod tests;

use super::disk::{Disk, Error};
use super::draft::Draft;
use super::layout::{
    Address, BLOCK, BUCKET, Head, INDEX, Id, Lease, Pool, Slot, address_hash, encode_bucket, owner_hash,
};
use crate::ipam::{Held, Owner, Uptime, number};
use crate::ranges::RangeSet;
use std::net::IpAddr;

/// Slots that the disk is asked for at once.
const CHUNK: u32 = 64;

/// The leases of one network.
#[derive(Debug)]
pub(super) struct Table<D> {
    draft: Draft<D>,
    head: Head,
}

impl<D: Disk> Table<D> {
    /// Makes an empty table with a pool for each range. It is private until [`publish`](Self::publish).
    pub(super) fn make(disk: D, boot: &str, (sets, buckets): (&[RangeSet], u32)) -> Result<Self, Error> {
        let head = Head { boot: boot.to_owned(), ranges: identity(sets), buckets, used: 0, free: None };
        let mut start = vec![0; usize::try_from(INDEX).unwrap_or_default()];
        for at in (INDEX..head.end(0)).step_by(BUCKET) {
            start.extend(encode_bucket(None, at));
        }
        start[..BLOCK].copy_from_slice(&head.encode());
        disk.write_at(&start, 0)?;
        let mut table = Self { draft: Draft::private(disk), head };
        table.change(|table| {
            for range in sets.iter().flat_map(RangeSet::ranges) {
                let next = range.usable_from(0).map(number);
                let id = table.take_slot()?;
                table.put(id, &Slot::Pool(Pool { next, ..Pool::default() }));
            }
            Ok::<_, Error>(())
        })?;
        Ok(table)
    }

    /// Reads the head, and finishes what a killed process was about.
    pub(super) fn open(disk: D) -> Result<Self, Error> {
        Self::over(Draft::open(disk)?)
    }

    /// As [`open`](Self::open), but writes nothing.
    pub(super) fn look(disk: D) -> Result<Self, Error> {
        Self::over(Draft::look(disk)?)
    }

    fn over(draft: Draft<D>) -> Result<Self, Error> {
        let head = Head::decode(&draft.read(0)?)?;
        if draft.disk().length()? < head.end(head.used) {
            return Err(Error::Damaged { at: 0, what: "as many slots as the head says" });
        }
        Ok(Self { draft, head })
    }

    /// From now on others see every change.
    pub(super) fn publish(&mut self) {
        self.draft.publish();
    }

    pub(super) fn is_of(&self, boot: &str) -> bool {
        self.head.is_of(boot)
    }

    /// True when the pools are those of these sets.
    pub(super) fn is_for(&self, sets: &[RangeSet]) -> bool {
        self.head.ranges == identity(sets)
    }

    /// Makes the changes of `work` one, or none of them when it fails.
    pub(super) fn change<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.head.clone();
        let done = work(self).and_then(|done| {
            if self.head != before {
                self.draft.write(0, &self.head.encode());
            }
            Ok(self.draft.commit().map(|()| done)?)
        });
        if done.is_err() {
            self.draft.forget();
            self.head = before;
        }
        done
    }

    /// What an owner holds, in the order of the range sets.
    pub(super) fn held_by(&self, owner: &Owner) -> Result<Option<Vec<IpAddr>>, Error> {
        let found = self.find_lease(owner)?;
        found
            .map(|(_, lease)| Ok(self.addresses(&lease)?.iter().map(|(_, held)| held.ip).collect()))
            .transpose()
    }

    /// All owners with what they hold, in no order.
    pub(super) fn leases(&self) -> impl Iterator<Item = Result<Held, Error>> {
        let held = |lease: Lease| {
            let addresses = self.addresses(&lease)?.iter().map(|(_, held)| held.ip).collect();
            Ok(Held { owner: lease.owner, addresses, foreign: lease.foreign })
        };
        (1..=self.head.used).filter_map(Id::new).filter_map(move |id| match self.slot(id) {
            Ok(Slot::Lease(lease)) => Some(held(lease)),
            Ok(_) => None,
            Err(e) => Some(Err(e)),
        })
    }

    /// The addresses that rest, from the oldest on.
    pub(super) fn resting(&self) -> Result<Vec<(IpAddr, Uptime)>, Error> {
        let mut all = Vec::new();
        for id in (1..=self.head.used).filter_map(Id::new) {
            let Slot::Pool(pool) = self.slot(id)? else { break };
            let mut next = pool.oldest;
            while let Some(id) = next {
                let address = self.address(id)?;
                all.push((address.ip, Uptime(address.since)));
                next = address.next;
                self.check_steps(all.len())?;
            }
        }
        all.sort_by_key(|(_, since)| *since);
        Ok(all)
    }

    /// Makes these the owner's, which must have none; each goes back to its pool later. What rested rests no more.
    pub(super) fn insert(
        &mut self,
        (owner, foreign): (&Owner, bool),
        addresses: &[(IpAddr, Option<Id>)],
    ) -> Result<(), Error> {
        let id = self.take_slot()?;
        let mut first = None;
        for (ip, pool) in addresses.iter().rev() {
            first = Some(self.take_address(*ip, *pool, (id, first))?);
        }
        let lease = Lease { chain: None, first, owner: owner.clone(), foreign };
        self.link(id, owner_hash(owner), Slot::Lease(lease))
    }

    fn take_address(
        &mut self,
        ip: IpAddr,
        pool: Option<Id>,
        (lease, next): (Id, Option<Id>),
    ) -> Result<Id, Error> {
        if let Some(id) = pool {
            let counted = self.pool(id)?;
            self.put(id, &Slot::Pool(Pool { held: counted.held + 1, ..counted }));
        }
        let held = |chain| Address { chain, ip, pool, lease: Some(lease), next, previous: None, since: 0 };
        if let Some((id, resting)) = self.find_address(ip)? {
            if resting.lease.is_some() {
                return Err(Error::Damaged { at: self.head.slot(id), what: "an address that is free" });
            }
            self.dequeue(&resting)?;
            self.put(id, &Slot::Address(held(resting.chain)));
            return Ok(id);
        }
        let id = self.take_slot()?;
        self.link(id, address_hash(ip), Slot::Address(held(None)))?;
        Ok(id)
    }

    /// Takes back what an owner holds, and says whether it held anything.
    pub(super) fn remove(&mut self, owner: &Owner, now: Uptime) -> Result<bool, Error> {
        let Some((id, lease)) = self.find_lease(owner)? else { return Ok(false) };
        for (address_id, held) in self.addresses(&lease)? {
            self.rest(address_id, held, now)?;
        }
        self.unlink(id, owner_hash(owner))?;
        self.give_slot(id);
        Ok(true)
    }

    /// An address that no pool hands out any more is forgotten at once.
    fn rest(&mut self, id: Id, held: Address, now: Uptime) -> Result<(), Error> {
        let Some(pool) = held.pool else {
            self.unlink(id, address_hash(held.ip))?;
            self.give_slot(id);
            return Ok(());
        };
        let counted = self.pool(pool)?;
        self.put(pool, &Slot::Pool(Pool { held: counted.held.saturating_sub(1), ..counted }));
        // Read again: the chain may lead elsewhere since an address before it was forgotten.
        let held = self.address(id)?;
        self.enqueue(id, Address { lease: None, since: now.0, ..held }, pool)
    }

    /// Puts an address that nobody holds among those that rest.
    pub(super) fn insert_resting(&mut self, ip: IpAddr, pool: Id, since: Uptime) -> Result<(), Error> {
        let id = self.take_slot()?;
        let address = Address {
            chain: None,
            ip,
            pool: Some(pool),
            lease: None,
            next: None,
            previous: None,
            since: since.0,
        };
        self.link(id, address_hash(ip), Slot::Address(address))?;
        let linked = self.address(id)?;
        self.enqueue(id, linked, pool)
    }

    fn enqueue(&mut self, id: Id, address: Address, pool: Id) -> Result<(), Error> {
        let queue = self.pool(pool)?;
        if let Some(newest) = queue.newest {
            let last = self.address(newest)?;
            self.put(newest, &Slot::Address(Address { next: Some(id), ..last }));
        }
        self.put(id, &Slot::Address(Address { previous: queue.newest, next: None, ..address }));
        let oldest = queue.oldest.or(Some(id));
        let resting = queue.resting + 1;
        self.put(pool, &Slot::Pool(Pool { oldest, newest: Some(id), resting, ..queue }));
        Ok(())
    }

    fn dequeue(&mut self, address: &Address) -> Result<(), Error> {
        let Some(pool) = address.pool else { return Ok(()) };
        let mut queue = self.pool(pool)?;
        match address.previous {
            Some(id) => {
                let before = self.address(id)?;
                self.put(id, &Slot::Address(Address { next: address.next, ..before }));
            }
            None => queue.oldest = address.next,
        }
        match address.next {
            Some(id) => {
                let after = self.address(id)?;
                self.put(id, &Slot::Address(Address { previous: address.previous, ..after }));
            }
            None => queue.newest = address.previous,
        }
        queue.resting = queue.resting.saturating_sub(1);
        self.put(pool, &Slot::Pool(queue));
        Ok(())
    }

    /// An owner's addresses, in the order of the range sets.
    pub(super) fn addresses(&self, lease: &Lease) -> Result<Vec<(Id, Address)>, Error> {
        let mut all = Vec::new();
        let mut next = lease.first;
        while let Some(id) = next {
            let address = self.address(id)?;
            next = address.next;
            all.push((id, address));
            self.check_steps(all.len())?;
        }
        Ok(all)
    }

    pub(super) fn find_lease(&self, owner: &Owner) -> Result<Option<(Id, Lease)>, Error> {
        let is = |slot: &Slot| matches!(slot, Slot::Lease(lease) if lease.owner == *owner);
        Ok(self.find(owner_hash(owner), is)?.and_then(|(id, slot)| match slot {
            Slot::Lease(lease) => Some((id, lease)),
            _ => None,
        }))
    }

    pub(super) fn find_address(&self, ip: IpAddr) -> Result<Option<(Id, Address)>, Error> {
        let is = |slot: &Slot| matches!(slot, Slot::Address(address) if address.ip == ip);
        Ok(self.find(address_hash(ip), is)?.and_then(|(id, slot)| match slot {
            Slot::Address(address) => Some((id, address)),
            _ => None,
        }))
    }
}

fn missing(at: u64) -> Error {
    Error::Damaged { at, what: "a slot of another kind" }
}

/// What tells these ranges from others. Should a compiler print them differently, the pools are made anew once.
fn identity(sets: &[RangeSet]) -> u64 {
    crate::names::checksum(0, format!("{sets:?}").as_bytes())
}
