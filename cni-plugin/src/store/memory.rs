//! A disk in memory that stops taking bytes when it is told to: what a killed process leaves behind.
//!
//! Invariant: a write that is cut is there up to the cut, and nothing after it is.

use super::disk::Disk;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    bytes: Rc<RefCell<Vec<u8>>>,
    /// Bytes until the process dies; `None` when it lives.
    budget: Rc<Cell<Option<usize>>>,
    written: Rc<Cell<usize>>,
}

impl Memory {
    pub(super) fn kill_after(&self, bytes: usize) {
        self.budget.set(Some(bytes));
    }

    pub(super) fn revive(&self) {
        self.budget.set(None);
    }

    /// Another disk with the same content.
    pub(super) fn copy(&self) -> Self {
        Self { bytes: Rc::new(RefCell::new(self.bytes.borrow().clone())), ..Self::default() }
    }

    /// Bytes that were written to it in all.
    pub(super) fn written(&self) -> usize {
        self.written.get()
    }

    pub(super) fn damage(&self, with: impl FnOnce(&mut Vec<u8>)) {
        with(&mut self.bytes.borrow_mut());
    }

    /// How many of these bytes are written before the process dies.
    fn spend(&self, wanted: usize) -> usize {
        let Some(left) = self.budget.get() else { return wanted };
        self.budget.set(Some(left.saturating_sub(wanted)));
        wanted.min(left)
    }
}

fn killed() -> io::Error {
    io::Error::other("killed")
}

impl Disk for Memory {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        let all = self.bytes.borrow();
        let found = all.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        let length = self.spend(bytes.len());
        let mut all = self.bytes.borrow_mut();
        let end = all.len().max(at + length);
        all.resize(end, 0);
        all[at..at + length].copy_from_slice(&bytes[..length]);
        self.written.set(self.written.get() + length);
        if length < bytes.len() { Err(killed()) } else { Ok(()) }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes.borrow().len() as u64)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        if self.spend(1) == 0 {
            return Err(killed());
        }
        let length = usize::try_from(length).unwrap().max(self.bytes.borrow().len());
        self.bytes.borrow_mut().resize(length, 0);
        Ok(())
    }
}
