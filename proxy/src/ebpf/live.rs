//! Maps that programs read or are about to, with what is counted in them.
//!
//! When they are made, and when programs take them, is the dataplane's. Invariant: a row that a Service's frontend has counts for this Service.

use super::error::Unable;
use super::maps::Maps;
use super::plan::Leads;
use super::tables::Tables;
use super::tally::{Asked, Counted, Sums, Tallies};
use crate::frontends::{Frontend, Frontends};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

/// Maps that programs read.
#[derive(Debug)]
pub struct Live<T> {
    /// What they hold.
    pub maps: Maps,
    /// The door to them.
    pub tables: T,
    /// What is counted in them.
    pub tallies: Tallies,
}

impl<T: Tables> Live<T> {
    /// Empty ones.
    pub fn new(tables: T) -> Self {
        Self { maps: Maps::default(), tables, tallies: Tallies::default() }
    }

    /// Fills them, before programs read them.
    ///
    /// # Errors
    /// When the kernel has no room.
    pub fn fill(
        &mut self,
        all: impl Iterator<Item = (Frontend, Leads)> + Clone,
        wanted: &Frontends,
    ) -> Result<(), Unable> {
        self.maps.fill(&mut self.tables, all).map_err(Unable::at("write the maps"))?;
        for (frontend, row) in self.maps.rows() {
            if let Some(service) = wanted.owner(frontend) {
                self.tallies.rows.hold(row, Asked::of(frontend, service));
            }
        }
        Ok(())
    }

    /// Notes what counters stand at that endpoints left: once everybody is led by a change, and before a counter is given to another.
    pub fn note_released(&mut self) {
        for (endpoint, counter) in self.maps.take_released() {
            let stands_at = (counter, self.tables.endpoint_count(counter));
            self.tallies.endpoints.release(endpoint, stands_at, self.maps.has_endpoint(&endpoint));
        }
    }

    /// What was counted.
    pub fn counted(&self) -> Counted {
        self.tallies.counted(&self.maps, &self.tables)
    }

    /// Makes frontends lead where they are to, or nowhere.
    ///
    /// # Errors
    /// When the kernel refuses something.
    pub fn apply(
        &mut self,
        edits: BTreeMap<Frontend, Option<Leads>>,
        wanted: &Frontends,
    ) -> Result<(), Unable> {
        let now = Instant::now();
        let mut gone = BTreeSet::new();
        let apply = || -> io::Result<()> {
            self.maps.expect(&mut self.tables, edits.values().flatten())?;
            edits.into_iter().try_for_each(|(frontend, leads)| {
                let before = self.maps.row(&frontend);
                self.maps.set(&mut self.tables, (&frontend, leads), now)?;
                let after = self.maps.row(&frontend);
                let left = before.filter(|_| after.is_none()).and_then(|row| self.tallies.rows.holder(row));
                gone.extend(left.map(|asked| asked.service.clone()));
                let asked = wanted.owner(&frontend).map(|service| Asked::of(&frontend, service));
                self.tallies.follow(&self.tables, (before, after), asked);
                Ok(())
            })
        };
        apply().map_err(Unable::at("write the maps"))?;
        gone.retain(|service| !wanted.has(service));
        if !gone.is_empty() {
            self.tallies.rows.retain(|asked| !gone.contains(&asked.service));
        }
        Ok(())
    }

    /// Goes on counting where others ended, for Services and endpoints that still are.
    pub fn inherit(&mut self, ended: Sums, wanted: &Frontends) {
        self.tallies.rows.add(ended.ports);
        self.tallies.rows.retain(|asked| wanted.has(&asked.service));
        let stays = |(endpoint, _): &(_, _)| self.maps.has_endpoint(endpoint);
        self.tallies.endpoints.add(ended.endpoints.into_iter().filter(stays));
    }
}
