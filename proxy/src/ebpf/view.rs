//! What there is to see of sockets between two syncs: what the maps hold, and what was counted.
//!
//! Nothing is copied for who does not ask. It tells what was written, and of the kernel's own only its counters and its memory.

use super::maps::Maps;
use super::plan::Leads;
use super::tables::Tables;
use super::tally::{Counted, Sums, Tallies};
use crate::frontends::Frontend;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// What there is to see.
#[derive(Clone, Copy)]
pub struct View<'a> {
    is_serving: bool,
    live: Option<Live<'a>>,
    ended: Option<&'a Sums>,
}

/// Maps that programs read, and what is counted in them.
type Live<'a> = (&'a Maps, &'a dyn Tables, &'a Tallies);

/// How much the maps hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Rows, in use or kept for later.
    pub rows: usize,
    /// Slots, the same.
    pub slots: u32,
    /// Bytes, as the kernel counts them.
    pub bytes: u64,
}

/// A frontend in the maps.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The frontend.
    pub frontend: &'a Frontend,
    /// Its row.
    pub row: u32,
    /// The first slot of its endpoints.
    pub slot: u32,
    /// What the row and the slots say.
    pub leads: &'a Leads,
}

impl<'a> View<'a> {
    /// Of maps that programs read, and of what is counted in them.
    pub fn of(maps: &'a Maps, tables: &'a dyn Tables, tallies: &'a Tallies) -> Self {
        Self { is_serving: true, live: Some((maps, tables, tallies)), ended: None }
    }

    /// Where there are no maps: of what was counted in earlier ones.
    pub fn ended(sums: &'a Sums) -> Self {
        Self { is_serving: false, live: None, ended: Some(sums) }
    }

    /// As if sockets were served, without any maps.
    pub fn supposed() -> Self {
        Self { is_serving: true, live: None, ended: None }
    }

    /// Whether sockets are served.
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// The frontends in the maps, in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let all = self.live.into_iter().flat_map(|(maps, ..)| maps.iter());
        all.map(|(frontend, row, slot, leads)| Line { frontend, row, slot, leads })
    }

    /// How much the maps hold; nothing where there are none.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn held(&self) -> io::Result<Held> {
        let Some((maps, tables, _)) = self.live else { return Ok(Held::default()) };
        let (rows, slots) = maps.extent();
        Ok(Held { rows, slots, bytes: tables.bytes()? })
    }

    /// What was counted.
    pub fn counted(&self) -> Counted {
        let live = self.live.map(|(maps, tables, tallies)| tallies.counted(maps, tables));
        live.or_else(|| self.ended.map(Counted::from)).unwrap_or_default()
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("maps", &self.live.map(|(maps, ..)| maps)).finish_non_exhaustive()
    }
}

/// As `dump` prints it.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frontend, row, slot, leads } = self;
        write!(f, "{frontend} row {row}")?;
        if let Some((number, seconds)) = leads.affinity {
            write!(f, " affinity {number:#x} {seconds}s")?;
        }
        for (is_set, word) in [(leads.refuses, " refuses"), (leads.not_for_pods, " not for pods")] {
            f.write_str(if is_set { word } else { "" })?;
        }
        for (slot, endpoint) in (*slot..).zip(leads.endpoints.iter()) {
            write!(f, "\n  slot {slot} {}", SocketAddr::new(endpoint.address, endpoint.port))?;
        }
        Ok(())
    }
}
