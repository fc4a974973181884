//! Slots and the index over them: reading, writing, finding, taking and giving back one at a time.
//!
//! What a slot means to others is not known here. Invariant: a slot that is not free is in the chain of its hash, and a chain
//! that is read ends.

use super::{CHUNK, Table, missing};
use crate::store::disk::{Disk, Error};
use crate::store::layout::{Address, Block, INDEX, Id, Lease, Pool, Slot, decode_bucket, encode_bucket};

impl<D: Disk> Table<D> {
    pub(super) fn find(&self, hash: u64, is: impl Fn(&Slot) -> bool) -> Result<Option<(Id, Slot)>, Error> {
        let mut next = self.bucket(hash)?;
        for steps in 0.. {
            let Some(id) = next else { break };
            let mut slot = self.slot(id)?;
            if is(&slot) {
                return Ok(Some((id, slot)));
            }
            next = *slot.chain().ok_or(missing(self.head.slot(id)))?;
            self.check_steps(steps)?;
        }
        Ok(None)
    }

    pub(super) fn link(&mut self, id: Id, hash: u64, mut slot: Slot) -> Result<(), Error> {
        let first = self.bucket(hash)?;
        if let Some(chain) = slot.chain() {
            *chain = first;
        }
        self.put(id, &slot);
        self.put_bucket(hash, Some(id));
        Ok(())
    }

    pub(super) fn unlink(&mut self, id: Id, hash: u64) -> Result<(), Error> {
        let after = *self.slot(id)?.chain().ok_or(missing(self.head.slot(id)))?;
        let mut at = self.bucket(hash)?;
        if at == Some(id) {
            self.put_bucket(hash, after);
            return Ok(());
        }
        for steps in 0.. {
            let before = at.ok_or(missing(self.head.slot(id)))?;
            let mut slot = self.slot(before)?;
            let chain = slot.chain().ok_or(missing(self.head.slot(before)))?;
            at = *chain;
            if at == Some(id) {
                *chain = after;
                self.put(before, &slot);
                return Ok(());
            }
            self.check_steps(steps)?;
        }
        Ok(())
    }

    /// A slot that nothing refers to; its blocks exist.
    pub(super) fn take_slot(&mut self) -> Result<Id, Error> {
        if let Some(id) = self.head.free {
            let at = self.head.slot(id);
            let Slot::Free { next } = self.slot(id)? else { return Err(missing(at)) };
            self.head.free = next;
            return Ok(id);
        }
        let used = self.head.used.checked_add(1).ok_or(missing(0))?;
        if self.draft.disk().length()? < self.head.end(used) {
            self.draft.disk().reserve(self.head.end(used.saturating_add(CHUNK - 1)))?;
        }
        self.head.used = used;
        Id::new(used).ok_or(missing(0))
    }

    pub(super) fn give_slot(&mut self, id: Id) {
        self.put(id, &Slot::Free { next: self.head.free });
        self.head.free = Some(id);
    }

    /// A chain that is longer than there are slots leads in a circle.
    pub(super) fn check_steps(&self, steps: usize) -> Result<(), Error> {
        let what = "a chain of slots that ends";
        if steps > self.head.used as usize { Err(Error::Damaged { at: INDEX, what }) } else { Ok(()) }
    }

    pub(super) fn slot(&self, id: Id) -> Result<Slot, Error> {
        let at = self.head.slot(id);
        if id.number() > self.head.used {
            return Err(missing(at));
        }
        Slot::decode(&self.draft.read(at)?, at)
    }

    pub(in crate::store) fn put(&mut self, id: Id, slot: &Slot) {
        let at = self.head.slot(id);
        let block: Block = slot.encode(at);
        self.draft.write(at, &block);
    }

    pub(in crate::store) fn pool(&self, id: Id) -> Result<Pool, Error> {
        match self.slot(id)? {
            Slot::Pool(pool) => Ok(pool),
            _ => Err(missing(self.head.slot(id))),
        }
    }

    pub(in crate::store) fn address(&self, id: Id) -> Result<Address, Error> {
        match self.slot(id)? {
            Slot::Address(address) => Ok(address),
            _ => Err(missing(self.head.slot(id))),
        }
    }

    pub(in crate::store) fn lease(&self, id: Id) -> Result<Lease, Error> {
        match self.slot(id)? {
            Slot::Lease(lease) => Ok(lease),
            _ => Err(missing(self.head.slot(id))),
        }
    }

    pub(super) fn bucket(&self, hash: u64) -> Result<Option<Id>, Error> {
        let at = self.head.bucket(hash);
        decode_bucket(self.draft.read(at)?, at)
    }

    pub(super) fn put_bucket(&mut self, hash: u64, first: Option<Id>) {
        let at = self.head.bucket(hash);
        self.draft.write(at, &encode_bucket(first, at));
    }
}
