//! The wanted content of the maps, kept up frontend by frontend.
//!
//! It decides which row a frontend has and in which slots its endpoints lie, and stores both in the order in which a reader may
//! see them: slots first, then the row's list in one word, then the frontend. What a reader may still be on its way to is not used
//! anew for a while. Invariant: at every moment between two stores, each frontend leads to its old endpoints or to its new ones.

use super::blocks::{self, Block, Blocks};
use super::counters::Counters;
use super::plan::{self, Leads};
use super::tables::Tables;
use crate::frontends::{Endpoint, Frontend, IpFamily, Place};
use crate::memory;
use heddle_ebpf::abi::{self, List, ROWS, Row, SLOTS, Slot};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long what is replaced is left as it is. A program runs for microseconds; a hypervisor may stop its processor.
const GRACE: Duration = Duration::from_secs(1);

/// Rows and slots that are made before they are needed, in the time between two changes: half a chunk.
const SPARE: (u32, u32) = (ROWS / 2, SLOTS / 2);
/// Frontends that there is room for before they come.
const SPARE_FRONTENDS: usize = 64;

/// Words of a row, and of a slot.
pub const ROW_WORDS: usize = size_of::<Row>() / 8;
/// Words of a slot.
pub const SLOT_WORDS: usize = size_of::<Slot>() / 8;

/// Where a frontend's endpoints lie.
#[derive(Clone, Debug)]
struct Placed {
    row: u32,
    block: Block,
    leads: Leads,
}

/// What is not used any more, since when.
#[derive(Clone, Copy, Debug)]
enum Retired {
    Row(u32),
    Block(Block),
    Counter(u32),
}

/// What the maps hold.
#[derive(Debug, Default)]
pub struct Maps {
    placed: BTreeMap<Frontend, Placed>,
    /// The generation of each row's list, in use or not.
    generations: Vec<u16>,
    free_rows: Vec<u32>,
    blocks: Blocks,
    counters: Counters,
    retired: VecDeque<(Instant, Retired)>,
    ports: BTreeMap<u32, u64>,
    /// How many frontends have clients that keep their endpoint.
    sticky: usize,
}

impl Maps {
    /// How many frontends there are.
    pub fn len(&self) -> usize {
        self.placed.len()
    }

    /// No frontend is served.
    pub fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// The row of a frontend that is served.
    pub fn row(&self, frontend: &Frontend) -> Option<u32> {
        self.placed.get(frontend).map(|placed| placed.row)
    }

    /// How many rows and slots there are, in use or not.
    pub fn extent(&self) -> (usize, u32) {
        (self.generations.len(), self.blocks.extent())
    }

    /// Each frontend with its row, the first of its slots and what they say.
    pub fn iter(&self) -> impl Iterator<Item = (&Frontend, u32, u32, &Leads)> {
        self.placed.iter().map(|(frontend, at)| (frontend, at.row, at.block.first, &at.leads))
    }

    /// The endpoints that are in no list any more since the last call, with the counters that they had.
    pub fn take_released(&mut self) -> Vec<(SocketAddr, u32)> {
        self.counters.take_released()
    }

    /// Whether a frontend leads to an endpoint.
    pub fn has_endpoint(&self, endpoint: &SocketAddr) -> bool {
        self.counters.has(endpoint)
    }

    /// The frontends with their row.
    pub fn rows(&self) -> impl Iterator<Item = (&Frontend, u32)> {
        self.placed.iter().map(|(frontend, placed)| (frontend, placed.row))
    }

    /// Each endpoint with its counter.
    pub fn counters(&self) -> impl Iterator<Item = (SocketAddr, u32)> {
        self.counters.iter()
    }

    /// The first content, which nobody looks at before it is whole: room is made once, and frontends are put in at once. The first of
    /// two that are the same counts.
    ///
    /// # Errors
    /// When the kernel has no room.
    pub fn fill(
        &mut self,
        tables: &mut impl Tables,
        all: impl Iterator<Item = (Frontend, Leads)> + Clone,
    ) -> io::Result<()> {
        let (mut rows, mut slots) = (0, 0);
        for (_, leads) in all.clone() {
            rows += 1;
            slots += blocks::room(leads.endpoints.len());
        }
        tables.extend(rows + SPARE.0, slots + SPARE.1)?;
        let mut found = Vec::with_capacity(rows as usize);
        for (frontend, leads) in all {
            if let Some(key) = plan::key(&frontend)
                && !self.placed.contains_key(&frontend)
            {
                self.sticky += usize::from(leads.affinity.is_some());
                found.push((key, self.place(tables, &frontend, leads)?));
            }
        }
        if self.sticky > 0 {
            tables.remember(true)?;
        }
        tables.grow(found.len(), &found)?;
        self.pack();
        Ok(())
    }

    /// Makes room for what is about to come, as if all of it were new: once, since the kernel makes each growth wait.
    ///
    /// # Errors
    /// When the kernel has no room.
    pub fn expect<'a>(
        &mut self,
        tables: &mut impl Tables,
        leads: impl Iterator<Item = &'a Leads>,
    ) -> io::Result<()> {
        let (mut more, mut slots) = (0, self.blocks.extent());
        for leads in leads {
            more += 1;
            slots += blocks::room(leads.endpoints.len());
        }
        self.make_room(tables, more)?;
        let rows = u32::try_from(self.generations.len() + more).map_err(io::Error::other)?;
        tables.extend(rows, slots)
    }

    /// Whether the next changes may have to wait until there is more room.
    pub fn are_short_of_room(&self, tables: &impl Tables) -> bool {
        let (rows, slots) = self.with_spare();
        tables.is_short_of(rows, slots) || self.placed.len() + SPARE_FRONTENDS > tables.room()
    }

    /// Makes it, so that they do not.
    ///
    /// # Errors
    /// When the kernel has none.
    pub fn make_spare_room(&mut self, tables: &mut impl Tables) -> io::Result<()> {
        self.make_room(tables, SPARE_FRONTENDS)?;
        let (rows, slots) = self.with_spare();
        tables.extend(rows, slots)
    }

    fn with_spare(&self) -> (u32, u32) {
        let rows = u32::try_from(self.generations.len()).expect("there is memory for fewer than 2^32 rows");
        let slots = self.blocks.extent().max(self.counters.extent());
        (rows + SPARE.0, slots + SPARE.1)
    }

    fn make_room(&mut self, tables: &mut impl Tables, more: usize) -> io::Result<()> {
        let wanted = self.placed.len() + more;
        if wanted <= tables.room() {
            return Ok(());
        }
        let all: Vec<_> =
            self.rows().filter_map(|(frontend, row)| Some((plan::key(frontend)?, row))).collect();
        tables.grow(wanted, &all)
    }

    /// Takes no more memory than what it holds needs.
    fn pack(&mut self) {
        memory::pack(&mut self.placed);
        self.counters.pack();
    }

    /// Makes a frontend lead where it is to, or nowhere.
    ///
    /// # Errors
    /// When the kernel refuses something; then the frontend is as it was, or gone.
    pub fn set(
        &mut self,
        tables: &mut impl Tables,
        (frontend, leads): (&Frontend, Option<Leads>),
        now: Instant,
    ) -> io::Result<()> {
        self.reclaim(now);
        let (Some(key), was) = (plan::key(frontend), self.placed.get(frontend)) else { return Ok(()) };
        let was_sticky = was.is_some_and(|placed| placed.leads.affinity.is_some());
        let is_sticky = leads.as_ref().is_some_and(|leads| leads.affinity.is_some());
        let sticky = self.sticky + usize::from(is_sticky) - usize::from(was_sticky);
        if sticky > 0 && self.sticky == 0 {
            tables.remember(true)?;
        }
        match (was.cloned(), leads) {
            (None, None) => {}
            (None, Some(leads)) => self.add(tables, (frontend, &key), leads)?,
            (Some(old), Some(leads)) => self.change(tables, frontend, (old, leads), now)?,
            (Some(old), None) => self.remove(tables, (frontend, &key), &old, now)?,
        }
        if sticky == 0 && self.sticky > 0 {
            tables.remember(false)?;
        }
        self.sticky = sticky;
        Ok(())
    }

    fn add(
        &mut self,
        tables: &mut impl Tables,
        (frontend, key): (&Frontend, &abi::Frontend),
        leads: Leads,
    ) -> io::Result<()> {
        self.make_room(tables, 1)?;
        let row = self.place(tables, frontend, leads)?;
        tables.insert(key, row)
    }

    /// Writes a row, to which nothing leads yet.
    fn place(&mut self, tables: &mut impl Tables, frontend: &Frontend, leads: Leads) -> io::Result<u32> {
        let row = self.free_rows.pop().unwrap_or_else(|| {
            self.generations.push(0);
            u32::try_from(self.generations.len() - 1).expect("there is memory for fewer than 2^32 rows")
        });
        tables.extend(row + 1, 0)?;
        self.store_flags(tables, row, &leads);
        let block = self.store_list(tables, row, &leads.endpoints)?;
        self.placed.insert(*frontend, Placed { row, block, leads });
        self.set_port(tables, frontend, true);
        Ok(row)
    }

    fn change(
        &mut self,
        tables: &mut impl Tables,
        frontend: &Frontend,
        (old, leads): (Placed, Leads),
        now: Instant,
    ) -> io::Result<()> {
        let mut block = old.block;
        // A list that gets shorter than none refuses only where that is known before.
        self.store_flags(tables, old.row, &leads);
        if old.leads.endpoints != leads.endpoints {
            block = self.store_list(tables, old.row, &leads.endpoints)?;
            self.release(&old.leads.endpoints, now);
            self.retire(Retired::Block(old.block), now);
        }
        self.placed.insert(*frontend, Placed { row: old.row, block, leads });
        Ok(())
    }

    fn remove(
        &mut self,
        tables: &mut impl Tables,
        (frontend, key): (&Frontend, &abi::Frontend),
        old: &Placed,
        now: Instant,
    ) -> io::Result<()> {
        tables.remove(key)?;
        self.placed.remove(frontend);
        self.set_port(tables, frontend, false);
        // Whoever found the row before finds no endpoint in it, and what is remembered of it does not count any more.
        let generation = self.next_generation(old.row);
        tables.store_row(old.row, 0, List::new(0, 0, generation).0);
        self.release(&old.leads.endpoints, now);
        self.retire(Retired::Block(old.block), now);
        self.retire(Retired::Row(old.row), now);
        Ok(())
    }

    fn store_flags(&mut self, tables: &mut impl Tables, row: u32, leads: &Leads) {
        let (affinity, seconds) = leads.affinity.map_or((0, 0), |(number, seconds)| (number.get(), seconds));
        tables.store_row(row, 1, affinity);
        tables.store_row(row, 2, u64::from(seconds) | u64::from(leads.flags()) << 32);
    }

    /// Writes a list beside the old one, and publishes it.
    fn store_list(
        &mut self,
        tables: &mut impl Tables,
        row: u32,
        endpoints: &Arc<[Endpoint]>,
    ) -> io::Result<Block> {
        let block = self.blocks.allocate(endpoints.len());
        tables.extend(0, self.blocks.extent())?;
        for (slot, endpoint) in (block.first..).zip(endpoints.iter()) {
            let counter = self.counters.acquire(at(endpoint));
            let address = plan::address(endpoint.address);
            tables.store_slot(slot, &Slot { address, port: endpoint.port.to_be(), unused: 0, counter });
        }
        tables.extend(0, self.blocks.extent().max(self.counters.extent()))?;
        let count = u16::try_from(endpoints.len()).expect("the plan leaves longer lists out");
        let generation = self.next_generation(row);
        tables.store_row(row, 0, List::new(block.first, count, generation).0);
        Ok(block)
    }

    fn next_generation(&mut self, row: u32) -> u16 {
        let generation = &mut self.generations[row as usize];
        *generation = generation.wrapping_add(1);
        *generation
    }

    fn release(&mut self, endpoints: &[Endpoint], now: Instant) {
        for endpoint in endpoints {
            if let Some(counter) = self.counters.release(at(endpoint)) {
                self.retired.push_back((now, Retired::Counter(counter)));
            }
        }
    }

    fn retire(&mut self, what: Retired, now: Instant) {
        self.retired.push_back((now, what));
    }

    /// Takes back what no reader is on its way to any more.
    fn reclaim(&mut self, now: Instant) {
        while let Some((since, what)) = self.retired.front().copied()
            && now.duration_since(since) >= GRACE
        {
            self.retired.pop_front();
            match what {
                Retired::Row(row) => self.free_rows.push(row),
                Retired::Counter(counter) => self.counters.take_back(counter),
                Retired::Block(block) => self.blocks.take_back(block),
            }
        }
    }

    /// A node port's bit: the other family may have the same port.
    fn set_port(&mut self, tables: &mut impl Tables, frontend: &Frontend, is_there: bool) {
        let Frontend { place: Place::Node(family), protocol, port } = *frontend else { return };
        let other = if family == IpFamily::V4 { IpFamily::V6 } else { IpFamily::V4 };
        let shared = self.placed.contains_key(&Frontend { place: Place::Node(other), ..*frontend });
        let (word, bit) = abi::port_bit(protocol.number(), port.to_be());
        let bits = self.ports.entry(word).or_default();
        *bits = if is_there || shared { *bits | bit } else { *bits & !bit };
        tables.store_ports(word, *bits);
    }
}

fn at(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.address, endpoint.port)
}

#[cfg(test)]
mod tests;
