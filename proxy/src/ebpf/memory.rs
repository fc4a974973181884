//! Maps in memory: the other side of the door.
//!
//! They refuse what the kernel's refuse, and remember what they held before each store, since that is what a program may see. Nothing
//! here is for a running proxy.

use super::maps::ROW_WORDS;
use super::tables::Tables;
use heddle_ebpf::abi::{self, Address, Client, Kept, List, Row, Slot};
use heddle_ebpf::select::World;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Maps in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// What they hold.
    pub held: Held,
    /// What they held before each store, if that is kept.
    pub history: Option<Vec<Held>>,
    /// For how many frontends there is room.
    pub room: usize,
    /// The largest room that there is; none for any.
    pub limit: Option<usize>,
    /// How often there was not enough of something, and the kernel would have waited.
    pub waits: usize,
}

/// What maps hold at one moment.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Frontend → row.
    pub frontends: BTreeMap<abi::Frontend, u32>,
    /// The rows' words.
    pub rows: Vec<[u64; ROW_WORDS]>,
    /// The slots.
    pub slots: Vec<Slot>,
    /// The set of node ports.
    pub ports: BTreeMap<u32, u64>,
    /// Clients are remembered.
    pub remembers: bool,
    /// The addresses of the node.
    pub addresses: BTreeSet<Address>,
    /// The namespaces that are left out.
    pub left_out: BTreeSet<u64>,
    /// The number that a reader draws.
    pub random: u32,
}

impl Memory {
    fn step(&mut self) -> &mut Held {
        if let Some(history) = &mut self.history {
            history.push(self.held.clone());
        }
        &mut self.held
    }

    /// What was to be seen since the last call, the present included.
    pub fn take_moments(&mut self) -> Vec<Held> {
        let mut moments = self.history.replace(Vec::new()).unwrap_or_default();
        moments.push(self.held.clone());
        moments
    }
}

impl Tables for Memory {
    fn room(&self) -> usize {
        self.room
    }

    fn grow(&mut self, count: usize, all: &[(abi::Frontend, u32)]) -> io::Result<()> {
        if self.limit.is_some_and(|limit| count > limit) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.waits += 1;
        let larger = all.iter().copied().collect();
        self.step().frontends = larger;
        self.room = count.next_power_of_two();
        Ok(())
    }

    fn insert(&mut self, frontend: &abi::Frontend, row: u32) -> io::Result<()> {
        if self.held.frontends.len() >= self.room {
            return Err(io::ErrorKind::ArgumentListTooLong.into());
        }
        self.step().frontends.insert(*frontend, row);
        Ok(())
    }

    fn remove(&mut self, frontend: &abi::Frontend) -> io::Result<()> {
        self.step().frontends.remove(frontend);
        Ok(())
    }

    fn extend(&mut self, rows: u32, slots: u32) -> io::Result<()> {
        self.waits += usize::from(self.is_short_of(rows, slots));
        let held = &mut self.held;
        held.rows.resize(held.rows.len().max(rows as usize), [0; ROW_WORDS]);
        held.slots.resize(held.slots.len().max(slots as usize), Slot::default());
        Ok(())
    }

    fn is_short_of(&self, rows: u32, slots: u32) -> bool {
        self.held.rows.len() < rows as usize || self.held.slots.len() < slots as usize
    }

    fn store_row(&mut self, row: u32, word: usize, value: u64) {
        self.step().rows[row as usize][word] = value;
    }

    fn store_slot(&mut self, slot: u32, value: &Slot) {
        self.step().slots[slot as usize] = *value;
    }

    fn store_ports(&mut self, word: u32, value: u64) {
        self.step().ports.insert(word, value);
    }

    fn remember(&mut self, wanted: bool) -> io::Result<()> {
        self.step().remembers = wanted;
        Ok(())
    }
}

/// A program that reads them at this moment.
impl World for Held {
    fn frontend(&self, frontend: &abi::Frontend) -> Option<u32> {
        self.frontends.get(frontend).copied()
    }

    fn row(&self, row: u32) -> Option<Row> {
        let [list, affinity, rest] = *self.rows.get(row as usize)?;
        let half = |shift: u32| u32::try_from(rest >> shift & 0xffff_ffff).expect("a half");
        Some(Row { list: List(list), affinity, seconds: half(0), flags: half(32) })
    }

    fn slot(&self, slot: u32) -> Option<Slot> {
        self.slots.get(slot as usize).copied()
    }

    fn find(&self, list: List, address: &Address, port: u16) -> Option<Slot> {
        let mut slots = (list.first()..).take(list.count() as usize).filter_map(|slot| self.slot(slot));
        slots.find(|slot| slot.address == *address && slot.port == port)
    }

    fn is_node_port(&self, protocol: u8, port: u16) -> bool {
        let (word, bit) = abi::port_bit(protocol, port);
        self.ports.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    fn is_node_address(&self, address: &Address) -> bool {
        self.addresses.contains(address)
    }

    fn epoch(&self) -> u32 {
        0
    }

    fn namespace(&self) -> u64 {
        0
    }

    fn node_namespace(&self) -> u64 {
        0
    }

    fn leaves_out(&self) -> bool {
        !self.left_out.is_empty()
    }

    fn is_left_out(&self, namespace: u64) -> bool {
        self.left_out.contains(&namespace)
    }

    fn now(&self) -> u64 {
        0
    }

    fn random(&self) -> u32 {
        self.random
    }

    fn kept(&self, _: &Client) -> Option<Kept> {
        None
    }

    fn keep(&self, _: &Client, _: &Kept) {}
}
