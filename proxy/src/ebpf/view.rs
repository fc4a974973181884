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
pub enum View<'a> {
    /// Maps that programs read, and what is counted in them.
    Live(&'a Maps, &'a dyn Tables, &'a Tallies),
    /// No maps, and what was counted in earlier ones.
    Ended(&'a Sums),
    /// As if sockets were served, without any maps.
    Supposed,
}

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
    /// Whether sockets are served.
    pub fn is_serving(&self) -> bool {
        !matches!(self, Self::Ended(_))
    }

    /// The frontends in the maps, in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let maps = if let Self::Live(maps, ..) = *self { Some(maps) } else { None };
        let all = maps.into_iter().flat_map(Maps::iter);
        all.map(|(frontend, row, slot, leads)| Line { frontend, row, slot, leads })
    }

    /// How much the maps hold; nothing where there are none.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn held(&self) -> io::Result<Held> {
        let Self::Live(maps, tables, _) = *self else { return Ok(Held::default()) };
        let (rows, slots) = maps.extent();
        Ok(Held { rows, slots, bytes: tables.bytes()? })
    }

    /// What was counted.
    pub fn counted(&self) -> Counted {
        match *self {
            Self::Live(maps, tables, tallies) => tallies.counted(maps, tables),
            Self::Ended(sums) => sums.into(),
            Self::Supposed => Counted::default(),
        }
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live(maps, ..) => f.debug_tuple("Live").field(maps).finish_non_exhaustive(),
            Self::Ended(sums) => f.debug_tuple("Ended").field(sums).finish(),
            Self::Supposed => f.write_str("Supposed"),
        }
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
