//! What there is to see of sockets between two syncs: what the maps hold, and what was counted.
//!
//! Nothing is copied for who does not ask. It tells what was written, and of the kernel's own only its counters and its memory.

use super::maps::Maps;
use super::plan::Leads;
use super::tables::Tables;
use super::tally::{Asked, Tallies};
use crate::frontends::Frontend;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// What there is to see.
#[derive(Clone, Copy)]
pub struct View<'a> {
    is_serving: bool,
    live: Option<(&'a Maps, &'a dyn Tables)>,
    tallies: Option<&'a Tallies>,
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

/// What was counted since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Connections, those refused, and those that went where the client had been before.
    pub ports: BTreeMap<Asked, [u64; 3]>,
    /// Connections; nothing where nobody asked for it.
    pub endpoints: BTreeMap<SocketAddr, [u64; 1]>,
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
    /// Of maps that programs read, if there are such, and of what was counted.
    pub fn new(live: Option<(&'a Maps, &'a dyn Tables)>, tallies: &'a Tallies) -> Self {
        Self { is_serving: live.is_some(), live, tallies: Some(tallies) }
    }

    /// As if sockets were served, without any maps.
    pub fn supposed() -> Self {
        Self { is_serving: true, live: None, tallies: None }
    }

    /// Whether sockets are served.
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// The frontends in the maps, in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let all = self.live.into_iter().flat_map(|(maps, _)| maps.iter());
        all.map(|(frontend, row, slot, leads)| Line { frontend, row, slot, leads })
    }

    /// How much the maps hold; nothing where there are none.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn held(&self) -> io::Result<Held> {
        let Some((maps, tables)) = self.live else { return Ok(Held::default()) };
        let (rows, slots) = maps.extent();
        Ok(Held { rows, slots, bytes: tables.bytes()? })
    }

    /// What was counted.
    pub fn sums(&self) -> Sums {
        let Some(tallies) = self.tallies else { return Sums::default() };
        let tables = self.live.map(|(_, tables)| tables);
        let of_row = |row| tables.map_or([0; 3], |tables| tables.row_count(row));
        let of_endpoint = |counter| tables.map_or([0], |tables| tables.endpoint_count(counter));
        let endpoints = tallies.endpoints.as_ref().map(|endpoints| endpoints.sums(of_endpoint));
        Sums { ports: tallies.rows.sums(of_row), endpoints: endpoints.unwrap_or_default() }
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("maps", &self.live.map(|(maps, _)| maps)).finish_non_exhaustive()
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
