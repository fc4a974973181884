//! The leases on disk: one table for each network, locked, and right after a crash at any instruction.
//!
//! `<dataDir>/<network>/lease-table` is read and written in place, a few units of it for each change, so that an ADD costs
//! the same with one lease and with sixty thousand (docs/decisions/leases.md says how, and why nothing is synced). What
//! does not fit into the table as it is, other ranges or another program's leases, is a new table that is put in the
//! place of the old one by renaming.
//!
//! Invariant: while a [`Store`] lives, no other process changes this network's leases.

mod choose;
mod disk;
mod draft;
mod journal;
mod layout;
#[cfg(test)]
mod memory;
mod table;
#[cfg(test)]
mod tests;

use crate::ipam::{self, Ask, Granted, Held, Owner, Room, Uptime};
use crate::ranges::RangeSet;
use choose::pool_of;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use table::Table;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const TABLE: &str = "lease-table";
/// The table's form before it was one.
const JOURNAL: &str = "leases";
/// Chains of the index stay short up to some ten thousand pods; 256 KiB.
const BUCKETS: u32 = 1 << 15;
/// Attempts to read a table that a process is writing.
const LOOKS: usize = 100;

/// Why leases cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{action} {path:?}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The table is not what was written. No crash does this.
    #[error("lease table {path:?} is damaged at byte {at}: no {what}")]
    Damaged {
        /// The table.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What should be there.
        what: &'static str,
    },
    /// A line of an older program's file is not what was written: who held the address in it is not known.
    #[error("line {line} of {path:?} is damaged; stop the pods of this network, then remove the file")]
    Journal {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
    },
    /// Nobody can have what was asked for.
    #[error(transparent)]
    Refused(#[from] ipam::Error),
}

/// What sets this boot of the machine apart from others.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn boot_id() -> Result<String, Error> {
    let source = |source| Error::File { action: "read", path: BOOT_ID.into(), source };
    Ok(fs::read_to_string(BOOT_ID).map_err(source)?.trim().to_owned())
}

/// The leases of one network, locked.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    boot: String,
    now: Uptime,
    /// `None` before the first lease of this boot.
    table: Option<Table<File>>,
    /// The directory, whose lock goes with its descriptor: also when we are killed.
    _lock: File,
}

impl Store {
    /// Waits for the lock and finds the leases; makes the directory when it is missing.
    ///
    /// # Errors
    /// When the directory or file cannot be used.
    pub fn open(data: &Path, network: &str, boot: &str) -> Result<Self, Error> {
        let directory = data.join(network);
        fs::create_dir_all(&directory).map_err(failed("make directory", &directory))?;
        Self::lock(&directory, boot)
    }

    /// As [`open`](Self::open), but makes nothing: `None` when there are no leases of this network.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_existing(data: &Path, network: &str, boot: &str) -> Result<Option<Self>, Error> {
        match Self::lock(&data.join(network), boot) {
            Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(Error::Journal { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    fn lock(directory: &Path, boot: &str) -> Result<Self, Error> {
        let lock = File::open(directory).map_err(failed("open directory", directory))?;
        lock.lock().map_err(failed("lock", directory))?;
        let (directory, boot) = (directory.to_owned(), boot.to_owned());
        let mut store = Self { directory, boot, now: Uptime::now(), table: None, _lock: lock };
        store.table = store.load()?;
        store.take_over_journal()?;
        Ok(store)
    }

    /// The table, if it is one of this boot.
    fn load(&mut self) -> Result<Option<Table<File>>, Error> {
        let path = self.path();
        let Some(file) = open_file(&path)? else { return Ok(None) };
        match Table::open(file).map_err(|e| broken(&path, e)) {
            Ok(table) => Ok(Some(table).filter(|table| table.is_of(&self.boot))),
            Err(Error::Damaged { .. }) => self.set_aside().map(|()| None),
            Err(e) => Err(e),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(TABLE)
    }

    /// Gives an owner its addresses, on disk before anybody hears of them: those that it holds already, or new ones.
    ///
    /// # Errors
    /// When there is none to give, or it cannot be written; then nothing has changed.
    pub fn grant(&mut self, owner: &Owner, ask: &Ask) -> Result<Granted, Error> {
        let granted = self.try_grant(owner, ask);
        if !matches!(granted, Err(Error::Damaged { .. })) {
            return granted;
        }
        self.set_aside()?;
        self.try_grant(owner, ask)
    }

    fn try_grant(&mut self, owner: &Owner, ask: &Ask) -> Result<Granted, Error> {
        let (path, now) = (self.path(), self.now);
        self.fitting(ask.sets)?.grant(owner, ask, now).map_err(|e| match e {
            choose::Error::Disk(e) => broken(&path, e),
            choose::Error::Refused(e) => Error::Refused(e),
        })
    }

    /// The table with pools for these sets.
    fn fitting(&mut self, sets: &[RangeSet]) -> Result<&mut Table<File>, Error> {
        let table = match self.table.take() {
            Some(table) if table.is_for(sets) => table,
            old => match self.made(old.as_ref(), sets, &[]) {
                Ok((made, _)) => made,
                Err(e) => {
                    self.table = old;
                    return Err(e);
                }
            },
        };
        Ok(self.table.insert(table))
    }

    /// Makes a table for these sets, with what the old one says and more leases, and puts it in the place of the old one.
    /// Gives back the leases that were not taken in, since their owner or an address of theirs is there already.
    fn made(
        &self,
        old: Option<&Table<File>>,
        sets: &[RangeSet],
        more: &[Held],
    ) -> Result<(Table<File>, Vec<Held>), Error> {
        let (path, beside) = (self.path(), self.path().with_extension("new"));
        if old.is_none() {
            // Of an earlier boot: a full disk has use for its blocks.
            let _ = fs::remove_file(&path);
        }
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).clone();
        let file = options.open(&beside).map_err(failed("create", &beside))?;
        let filled = Table::make(file, &self.boot, (sets, BUCKETS))
            .and_then(|mut table| fill(&mut table, (old, sets), more).map(|left| (table, left)));
        let placed = filled.map_err(|e| broken(&beside, e)).and_then(|filled| {
            fs::rename(&beside, &path).map_err(failed("put the new leases in the place of", &path))?;
            Ok(filled)
        });
        match placed {
            Ok((mut table, left)) => {
                table.publish();
                Ok((table, left))
            }
            Err(e) => {
                let _ = fs::remove_file(&beside);
                Err(e)
            }
        }
    }

    /// Takes in leases that another program gave, all in one step, and gives back those that cannot be: their owner or
    /// an address of theirs is there already.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub fn adopt(&mut self, sets: &[RangeSet], leases: &[Held]) -> Result<Vec<Held>, Error> {
        let (table, left) = self.made(self.table.as_ref(), sets, leases)?;
        self.table = Some(table);
        Ok(left)
    }

    /// What an older program's file says, once.
    fn take_over_journal(&mut self) -> Result<(), Error> {
        let path = self.directory.join(JOURNAL);
        let content = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed("read", &path))?,
        };
        let leases = journal::read(&content, &self.boot)
            .map_err(|line| Error::Journal { path: path.clone(), line })?;
        if leases.is_empty() {
            // It says nothing, so it may as well stay where nothing can be removed.
            let _ = fs::remove_file(&path);
            return Ok(());
        }
        let leases: Vec<_> =
            leases.into_iter().map(|(owner, addresses)| Held { owner, addresses, foreign: false }).collect();
        self.adopt(&[], &leases)?;
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// Whatever is damaged in a table, it is trusted in nothing any more. That no address is given twice is then the
    /// kernel's affair, which knows those of all links (docs/decisions/leases.md).
    fn set_aside(&mut self) -> Result<(), Error> {
        self.table = None;
        let path = self.path();
        fs::rename(&path, path.with_extension("damaged")).map_err(failed("set aside", &path))
    }

    /// Takes back what an owner holds, and says whether it held anything.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub fn release(&mut self, owner: &Owner) -> Result<bool, Error> {
        let path = self.path();
        let Some(table) = &mut self.table else { return Ok(false) };
        let now = self.now;
        match table.change(|table| table.remove(owner, now)).map_err(|e| broken(&path, e)) {
            Err(Error::Damaged { .. }) => self.set_aside().map(|()| false),
            done => done,
        }
    }

    /// What an owner holds, in the order of the range sets.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn held_by(&self, owner: &Owner) -> Result<Option<Vec<IpAddr>>, Error> {
        let Some(table) = &self.table else { return Ok(None) };
        table.held_by(owner).map_err(|e| broken(&self.path(), e))
    }

    /// All owners with what they hold, in no order; none of a table that is damaged.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn holders(&mut self) -> Result<Vec<Held>, Error> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        match table.leases().collect::<Result<_, _>>().map_err(|e| broken(&self.path(), e)) {
            Err(Error::Damaged { .. }) => self.set_aside().map(|()| Vec::new()),
            done => done,
        }
    }

    /// All owners with what they hold, for who only looks: it makes nothing, sets nothing right and waits for nobody.
    ///
    /// # Errors
    /// When the table cannot be read, or is damaged.
    pub fn look(data: &Path, network: &str, boot: &str) -> Result<Vec<Held>, Error> {
        let path = data.join(network).join(TABLE);
        let file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("open", &path))?,
        };
        let looked = || {
            let table = Table::look(&file)?;
            if table.is_of(boot) { table.leases().collect() } else { Ok(Vec::new()) }
        };
        // A unit that is read while it is written is damaged for a moment.
        let mut tries = (1..LOOKS).map(|_| looked()).inspect(|_| std::thread::yield_now());
        tries.find(Result::is_ok).unwrap_or_else(looked).map_err(|e| broken(&path, e))
    }

    /// How full each range set is. It makes nothing and waits for nobody.
    ///
    /// # Errors
    /// When the file is there but cannot be opened.
    pub fn room(data: &Path, network: &str, boot: &str, sets: &[RangeSet]) -> Result<Vec<Room>, Error> {
        let path = data.join(network).join(TABLE);
        let unused = || sets.iter().map(|set| Room { capacity: set.capacity(), held: 0 }).collect();
        let file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(unused()),
            other => other.map_err(failed("open", &path))?,
        };
        // A unit that is read while it is written is damaged for a moment. A table that stays damaged is one that the
        // next ADD sets aside, so that all is free.
        for _ in 0..LOOKS {
            let looked = Table::look(&file);
            if looked.as_ref().is_ok_and(|table| !table.is_of(boot)) {
                break;
            }
            if let Ok(rooms) = looked.and_then(|table| table.room(sets)) {
                return Ok(rooms);
            }
            std::thread::yield_now();
        }
        Ok(unused())
    }
}

/// Takes over what the old table says, then more; gives back what is there already.
fn fill(
    table: &mut Table<File>,
    (old, sets): (Option<&Table<File>>, &[RangeSet]),
    more: &[Held],
) -> Result<Vec<Held>, disk::Error> {
    let mut left = Vec::new();
    let mut insert = |table: &mut Table<File>, held: Held| {
        let has = |ip: &IpAddr| table.find_address(*ip).map(|found| found.is_some());
        let known = table.held_by(&held.owner)?.is_some()
            || held.addresses.iter().map(has).collect::<Result<Vec<_>, _>>()?.contains(&true);
        if known {
            left.push(held);
            return Ok(());
        }
        let addresses: Vec<_> = held.addresses.iter().map(|ip| (*ip, pool_of(sets, *ip))).collect();
        table.change(|table| table.insert((&held.owner, held.foreign), &addresses))
    };
    for held in old.iter().flat_map(|old| old.leases()) {
        insert(table, held?)?;
    }
    more.iter().try_for_each(|held| insert(table, held.clone()))?;
    for (ip, since) in old.map(Table::resting).transpose()?.unwrap_or_default() {
        let Some(pool) = pool_of(sets, ip) else { continue };
        if table.find_address(ip)?.is_none() {
            table.change(|table| table.insert_resting(ip, pool, since))?;
        }
    }
    Ok(left)
}

/// A file of a file system that is read-only can still say who holds what.
fn open_file(path: &Path) -> Result<Option<File>, Error> {
    let opened = match OpenOptions::new().read(true).write(true).open(path) {
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => File::open(path),
        opened => opened,
    };
    match opened {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(failed("open", path)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

/// A file that ends too early is damaged, and not refused.
fn broken(path: &Path, error: disk::Error) -> Error {
    let path = path.to_owned();
    match error {
        disk::Error::Damaged { at, what } => Error::Damaged { path, at, what },
        disk::Error::Io(source) if source.kind() == ErrorKind::UnexpectedEof => {
            Error::Damaged { path, at: 0, what: "more bytes" }
        }
        disk::Error::Io(source) => Error::File { action: "read or change", path, source },
    }
}
