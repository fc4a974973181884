//! A change of several units that happens wholly or not at all, however its process ends.
//!
//! It does not know what the units mean. Units are written in their place only after a record of all of them is whole
//! in a place of its own; whoever opens the table next finishes what that record says. Writing the same twice does no
//! harm, and a record that is not whole stands for a change that has not begun. Nothing is synced to the disk: a killed
//! process leaves the page cache, and no lease outlives the power (docs/decisions/leases.md).
//!
//! Invariant: between two changes, and after [`Draft::open`], there is no record, or one whose units are in their places.

use super::disk::{Disk, Error};
use super::layout::{INDEX, REDO};
use crate::names::checksum;
use std::collections::BTreeMap;

/// Bytes before the units of a record: their length, and the checksum of that and them.
const PREFACE: usize = 16;
const ROOM: u64 = INDEX - REDO;

/// Units by their place.
type Units = BTreeMap<u64, Vec<u8>>;

/// A disk, and the units that are to be written next.
#[derive(Debug)]
pub(super) struct Draft<D> {
    disk: D,
    units: Units,
    /// What stands in a record that could not be finished: read in the place of the disk.
    pending: Units,
    /// Nobody else sees the disk yet, so that a change may be seen half made.
    private: bool,
}

impl<D: Disk> Draft<D> {
    /// Finishes what an earlier process was about.
    pub(super) fn open(disk: D) -> Result<Self, Error> {
        let mut draft = Self::look(disk)?;
        draft.finish()?;
        Ok(draft)
    }

    /// As [`open`](Self::open), but writes nothing.
    pub(super) fn look(disk: D) -> Result<Self, Error> {
        let pending = read_record(&disk)?;
        Ok(Self { disk, units: Units::new(), pending, private: false })
    }

    /// A disk that becomes a table's only later.
    pub(super) fn private(disk: D) -> Self {
        Self { disk, units: Units::new(), pending: Units::new(), private: true }
    }

    pub(super) fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, which everybody may see from now on.
    pub(super) fn publish(&mut self) {
        self.private = false;
    }

    /// A unit as this draft has it.
    pub(super) fn read<const N: usize>(&self, at: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        match self.units.get(&at).or_else(|| self.pending.get(&at)) {
            Some(unit) if unit.len() == N => bytes.copy_from_slice(unit),
            _ => self.disk.read_at(&mut bytes, at)?,
        }
        Ok(bytes)
    }

    /// Sets a unit. It is always read and written by the same place and length.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.units.insert(at, bytes.to_vec());
    }

    /// Takes back what was not committed.
    pub(super) fn forget(&mut self) {
        self.units.clear();
    }

    /// Makes the change.
    ///
    /// # Errors
    /// When the disk refuses. The change has then not happened, unless its record was whole: then the next to open, or
    /// to commit, finishes it.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        let units = std::mem::take(&mut self.units);
        if self.private {
            return self.put(&units);
        }
        self.finish()?;
        if units.is_empty() {
            return Ok(());
        }
        self.disk.write_at(&encode(&units)?, REDO)?;
        self.pending = units;
        self.finish()
    }

    fn finish(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.put(&self.pending)?;
        self.disk.write_at(&[0; PREFACE], REDO)?;
        self.pending.clear();
        Ok(())
    }

    fn put(&self, units: &Units) -> Result<(), Error> {
        units.iter().try_for_each(|(at, bytes)| Ok(self.disk.write_at(bytes, *at)?))
    }
}

fn encode(units: &Units) -> Result<Vec<u8>, Error> {
    let mut record = vec![0; PREFACE];
    for (at, bytes) in units {
        record.extend(at.to_le_bytes());
        record.extend((bytes.len() as u64).to_le_bytes());
        record.extend(bytes);
    }
    let length = (record.len() - PREFACE) as u64;
    if record.len() as u64 > ROOM {
        return Err(Error::Damaged { at: REDO, what: "a change that fits into the redo record" });
    }
    record[..8].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(length, &record[PREFACE..]);
    record[8..PREFACE].copy_from_slice(&sum.to_le_bytes());
    Ok(record)
}

/// The units of a whole record; none when there is none, or a part.
fn read_record(disk: &impl Disk) -> Result<Units, Error> {
    let mut preface = [0; PREFACE];
    disk.read_at(&mut preface, REDO)?;
    let (length, sum) = (u64_at(&preface, 0), u64_at(&preface, 8));
    if length == 0 || length > ROOM - PREFACE as u64 {
        return Ok(Units::new());
    }
    let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
    disk.read_at(&mut body, REDO + PREFACE as u64)?;
    if checksum(length, &body) != sum {
        return Ok(Units::new());
    }
    Ok(decode(&body))
}

fn decode(mut body: &[u8]) -> Units {
    let mut units = Units::new();
    while body.len() >= PREFACE {
        let (at, length) = (u64_at(body, 0), u64_at(body, 8));
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(body.len() - PREFACE);
        let (unit, rest) = body[PREFACE..].split_at(length);
        units.insert(at, unit.to_vec());
        body = rest;
    }
    units
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;

    const UNITS: [u64; 3] = [INDEX, INDEX + 128, INDEX + 4096];

    fn written(value: u8) -> Memory {
        let memory = Memory::default();
        memory.reserve(INDEX + 8192).unwrap();
        let mut draft = Draft::open(memory.clone()).unwrap();
        UNITS.iter().for_each(|at| draft.write(*at, &[value; 40]));
        draft.commit().unwrap();
        memory
    }

    fn seen(draft: &Draft<impl Disk>) -> [u8; 3] {
        UNITS.map(|at| {
            let unit: [u8; 40] = draft.read(at).unwrap();
            assert!(unit.iter().all(|byte| *byte == unit[0]), "a unit is half written");
            unit[0]
        })
    }

    /// cni:P2, cni:#30: the record is the intent, and it is whole before the effect begins.
    #[test]
    fn a_change_that_is_killed_at_any_byte_has_happened_wholly_or_not_at_all() {
        let mut outcomes = Vec::new();
        for budget in 0.. {
            let memory = written(1);
            memory.kill_after(budget);
            let mut draft = Draft::open(memory.clone()).unwrap();
            UNITS.iter().for_each(|at| draft.write(*at, &[2; 40]));
            let done = draft.commit().is_ok();
            memory.revive();
            let looked = seen(&Draft::look(memory.clone()).unwrap());
            let opened = seen(&Draft::open(memory.clone()).unwrap());
            assert_eq!(looked, opened, "killed after {budget} bytes");
            assert_eq!(seen(&Draft::look(memory).unwrap()), opened, "what was finished stays");
            assert!(opened == [1; 3] || opened == [2; 3], "killed after {budget} bytes: {opened:?}");
            outcomes.push(opened[0]);
            if done {
                break;
            }
        }
        assert!(outcomes.is_sorted() && outcomes[0] == 1 && outcomes.len() > 3 * 40, "{outcomes:?}");
    }

    /// Who finishes what another was about may be killed as well.
    #[test]
    fn a_repair_that_is_killed_at_any_byte_is_repaired() {
        for budget in 0..200 {
            let memory = written(1);
            let mut draft = Draft::open(memory.clone()).unwrap();
            UNITS.iter().for_each(|at| draft.write(*at, &[2; 40]));
            // The record and a part of the first unit.
            memory.kill_after(PREFACE + 3 * (PREFACE + 40) + 20);
            assert!(draft.commit().is_err());
            memory.kill_after(budget);
            let _ = Draft::open(memory.clone());
            memory.revive();
            assert_eq!(seen(&Draft::open(memory).unwrap()), [2; 3], "killed after {budget} bytes");
        }
    }

    #[test]
    fn a_change_after_a_failed_one_finishes_that_one_first() {
        let memory = written(1);
        let mut draft = Draft::open(memory.clone()).unwrap();
        UNITS.iter().for_each(|at| draft.write(*at, &[2; 40]));
        memory.kill_after(PREFACE + 3 * (PREFACE + 40) + 20);
        assert!(draft.commit().is_err());
        memory.revive();
        draft.write(UNITS[0], &[3; 40]);
        draft.commit().unwrap();
        assert_eq!(seen(&Draft::open(memory).unwrap()), [3, 2, 2]);
    }
}
