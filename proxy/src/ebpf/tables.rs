//! The door to the maps that programs read: what is done with them, and how long the kernel takes for it.
//!
//! What is in them, and in which order it is stored, [`maps`](super::maps) decides.

use heddle_ebpf::abi::{self, Slot};
use std::io;

/// The door: BPF maps, or memory that behaves like them.
pub trait Tables {
    /// For how many frontends there is room.
    fn room(&self) -> usize;

    /// Makes room for so many frontends: another map, filled with these before it is looked into.
    ///
    /// # Errors
    /// When the kernel has no room.
    fn grow(&mut self, count: usize, all: &[(abi::Frontend, u32)]) -> io::Result<()>;

    /// Leads a frontend to a row.
    ///
    /// # Errors
    /// When the kernel refuses it.
    fn insert(&mut self, frontend: &abi::Frontend, row: u32) -> io::Result<()>;

    /// Removes a frontend.
    ///
    /// # Errors
    /// When the kernel refuses it.
    fn remove(&mut self, frontend: &abi::Frontend) -> io::Result<()>;

    /// Makes rows and slots up to these exist. Where some do not yet, it waits for programs that run: tens of milliseconds.
    ///
    /// # Errors
    /// When the kernel has no room.
    fn extend(&mut self, rows: u32, slots: u32) -> io::Result<()>;

    /// Whether some of these do not exist yet.
    fn is_short_of(&self, rows: u32, slots: u32) -> bool;

    /// Stores one word of a row that exists.
    fn store_row(&mut self, row: u32, word: usize, value: u64);

    /// Stores a slot that exists.
    fn store_slot(&mut self, slot: u32, value: &Slot);

    /// Stores a word of the set of node ports.
    fn store_ports(&mut self, word: u32, value: u64);

    /// Whether clients are remembered.
    ///
    /// # Errors
    /// When the kernel has no room.
    fn remember(&mut self, wanted: bool) -> io::Result<()>;

    /// What the counters of a row that exists stand at: connections, those refused, those that went where the client had been before.
    fn row_count(&self, _row: u32) -> [u64; 3] {
        [0; 3]
    }

    /// How many connections were led to the endpoint with this counter, which exists.
    fn endpoint_count(&self, _counter: u32) -> u64 {
        0
    }

    /// How much memory all of it takes, as the kernel counts it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    fn bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}
