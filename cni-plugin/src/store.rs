//! The leases on disk: one journal for each network, locked, and right after a crash at any instruction.
//!
//! `<dataDir>/<network>/leases` is text: a head line with the boot, then one line for each change, each with a checksum.
//! A change is one appended line, so it is there wholly or not at all; a line that a killed process left half written
//! is cut off by the next one. Nothing is synced to the disk, because no lease outlives the power: after a reboot the
//! head names another boot, and all leases are void like the pods that held them (docs/decisions/leases.md).
//!
//! Invariant: while a [`Store`] lives, no other process reads or changes this network's leases, and its
//! leases are what the file says.

use crate::ipam::{self, Ask, Granted, Held, Leases, Owner, Record, Room};
use crate::names::checksum;
use crate::ranges::RangeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The head's first words; the number changes with the format.
const FORMAT: &str = "heddle-leases 1";
/// Lines that may be out of date before the journal is written anew: few enough that reading stays cheap, many enough
/// that almost every change is one small append.
const SLACK: usize = 256;

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
    /// A line inside the journal is not what was written. No crash does this, and who held the address in that line is
    /// not known, so that handing out any address could double it.
    #[error("line {line} of {path:?} is damaged; stop the pods of this network, then remove the file")]
    Damaged {
        /// The journal.
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
    path: PathBuf,
    journal: File,
    /// Bytes of the journal that are whole lines.
    length: u64,
    lines: usize,
    boot: String,
    leases: Leases,
    damaged: Option<usize>,
    /// The directory, whose lock goes with its descriptor: also when we are killed.
    _lock: File,
}

impl Store {
    /// Waits for the lock and reads the leases; makes the directory when it is missing.
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
            other => other.map(Some),
        }
    }

    fn lock(directory: &Path, boot: &str) -> Result<Self, Error> {
        let lock = File::open(directory).map_err(failed("open directory", directory))?;
        lock.lock().map_err(failed("lock", directory))?;
        let path = directory.join("leases");
        let content = read(&path)?;
        let read = content.as_deref().and_then(|content| Journal::read(content, boot));
        let Some(Journal { leases, length, lines, damaged }) = read else {
            let (journal, length) = write_anew(&path, boot, &Leases::default())?;
            let (boot, leases) = (boot.to_owned(), Leases::default());
            return Ok(Self { path, journal, length, lines: 0, boot, leases, damaged: None, _lock: lock });
        };
        let journal = OpenOptions::new().write(true).open(&path).map_err(failed("open", &path))?;
        Ok(Self { path, journal, length, lines, boot: boot.to_owned(), leases, damaged, _lock: lock })
    }

    /// Who holds what.
    #[cfg(test)]
    fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Fails when the journal was damaged, so that what it says is not all.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    fn check(&self) -> Result<(), Error> {
        self.damaged.map_or(Ok(()), |line| Err(Error::Damaged { path: self.path.clone(), line }))
    }

    /// Gives an owner its addresses, on disk before anybody hears of them: those that it holds already, or new ones.
    ///
    /// # Errors
    /// When there is none to give, or it cannot be written; then nothing has changed.
    pub fn grant(&mut self, owner: &Owner, ask: &Ask) -> Result<Granted, Error> {
        self.check()?;
        let chosen = self.leases.choose(owner, ask.sets, ask.wanted)?;
        let fresh = chosen.record.is_some();
        chosen.record.map_or(Ok(()), |record| self.record(record))?;
        Ok(Granted { addresses: chosen.addresses, fresh })
    }

    /// Takes back what an owner holds, and says whether it held anything.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    pub fn release(&mut self, owner: &Owner) -> Result<bool, Error> {
        let held = self.leases.held_by(owner).is_some();
        if held {
            self.record(Record::Release { owner: owner.clone() })?;
        }
        Ok(held)
    }

    /// What an owner holds, in the order of the range sets.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn held_by(&self, owner: &Owner) -> Result<Option<Vec<IpAddr>>, Error> {
        Ok(self.leases.held_by(owner).map(<[IpAddr]>::to_vec))
    }

    /// All owners with what they hold, in no order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn holders(&self) -> Result<Vec<Held>, Error> {
        Ok(self.leases.holders().collect())
    }

    /// How full each range set is. It makes nothing and waits for nobody.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn room(data: &Path, network: &str, boot: &str, sets: &[RangeSet]) -> Result<Vec<Room>, Error> {
        let path = data.join(network).join("leases");
        let journal = read(&path)?.and_then(|content| Journal::read(&content, boot));
        let leases = journal.map(|journal| journal.leases).unwrap_or_default();
        Ok(sets.iter().map(|set| leases.room(set)).collect())
    }

    /// Puts a change on disk, then takes it in.
    ///
    /// # Errors
    /// When it cannot be written; then it did not happen.
    fn record(&mut self, record: Record) -> Result<(), Error> {
        let line = write_line(&record);
        if let Err(source) = self.append(line.as_bytes()) {
            // A full disk may have taken a part of the line. Should the cut fail too, the next reader makes it.
            let _ = self.journal.set_len(self.length);
            return Err(failed("append to", &self.path)(source));
        }
        self.length += line.len() as u64;
        self.lines += 1;
        self.leases.apply(record);
        self.compact_when_long();
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.journal.metadata()?.len() != self.length {
            self.journal.set_len(self.length)?;
        }
        self.journal.seek(io::SeekFrom::Start(self.length))?;
        self.journal.write_all(line)
    }

    /// A failure to shorten the journal loses nothing: it stays as it is, and the next change tries again.
    fn compact_when_long(&mut self) {
        if self.lines <= 2 * self.leases.len() + SLACK || self.damaged.is_some() {
            return;
        }
        if let Ok((journal, length)) = write_anew(&self.path, &self.boot, &self.leases) {
            (self.journal, self.length) = (journal, length);
            self.lines = self.leases.len() + 1;
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let mut content = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut content)) {
        Ok(_) => Ok(Some(content)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Writes a journal beside the old one and puts it in its place in one instruction of the file system.
fn write_anew(path: &Path, boot: &str, leases: &Leases) -> Result<(File, u64), Error> {
    let mut text = format!("{FORMAT} {boot}\n");
    leases.records().for_each(|record| text.push_str(&write_line(&record)));
    let beside = path.with_extension("new");
    let mut file = File::create(&beside).map_err(failed("create", &beside))?;
    file.write_all(text.as_bytes()).map_err(failed("write", &beside))?;
    fs::rename(&beside, path).map_err(failed("put the new leases in the place of", path))?;
    Ok((file, text.len() as u64))
}

/// What the bytes of a journal say.
#[derive(Debug, PartialEq, Eq)]
struct Journal {
    leases: Leases,
    length: u64,
    lines: usize,
    damaged: Option<usize>,
}

impl Journal {
    /// `None` when it has no head of this boot: nothing in it counts.
    fn read(content: &[u8], boot: &str) -> Option<Self> {
        let mut lines = content.split_inclusive(|byte| *byte == b'\n');
        let head = lines.next().filter(|head| *head == format!("{FORMAT} {boot}\n").as_bytes())?;
        let mut journal =
            Self { leases: Leases::default(), length: head.len() as u64, lines: 0, damaged: None };
        for line in lines.filter(|line| line.ends_with(b"\n")) {
            journal.length += line.len() as u64;
            journal.lines += 1;
            match std::str::from_utf8(line).ok().and_then(read_line) {
                Some(record) => journal.leases.apply(record),
                None => journal.damaged = journal.damaged.or(Some(journal.lines + 1)),
            }
        }
        Some(journal)
    }
}

/// A record as a line: what happened, to whom, which addresses, and the checksum of all that.
fn write_line(record: &Record) -> String {
    let join = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let text = match record {
        Record::Grant { owner: Owner { container, ifname }, addresses } => {
            format!("grant {container} {ifname} {}", join(addresses))
        }
        Record::Release { owner: Owner { container, ifname } } => format!("release {container} {ifname}"),
        Record::Latest { addresses } => format!("latest {}", join(addresses)),
    };
    format!("{text} {:016x}\n", checksum(&text))
}

fn read_line(line: &str) -> Option<Record> {
    let (text, sum) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    if sum.len() != 16 || u64::from_str_radix(sum, 16) != Ok(checksum(text)) {
        return None;
    }
    let (kind, rest) = text.split_once(' ')?;
    let mut words = rest.split(' ');
    let record = match kind {
        "grant" => {
            Record::Grant { owner: read_owner(&mut words)?, addresses: read_addresses(words.next()?)? }
        }
        "release" => Record::Release { owner: read_owner(&mut words)? },
        "latest" => Record::Latest { addresses: read_addresses(words.next()?)? },
        _ => return None,
    };
    words.next().is_none().then_some(record)
}

fn read_owner<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Owner> {
    Some(Owner { container: words.next()?.to_owned(), ifname: words.next()?.to_owned() })
}

fn read_addresses(list: &str) -> Option<Vec<IpAddr>> {
    list.split(',').map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_tests::scratch::Scratch;

    fn grant(container: &str, address: [u8; 4]) -> Record {
        let owner = Owner { container: container.to_owned(), ifname: "eth0".to_owned() };
        Record::Grant { owner, addresses: vec![address.into(), "fd00::1".parse().unwrap()] }
    }

    fn release(container: &str) -> Record {
        Record::Release { owner: Owner { container: container.to_owned(), ifname: "eth0".to_owned() } }
    }

    fn open(scratch: &Scratch) -> Store {
        Store::open(&scratch.path(), "pods", "boot").unwrap()
    }

    #[test]
    fn what_is_recorded_is_there_for_the_next_process() {
        let scratch = Scratch::new().unwrap();
        let mut store = open(&scratch);
        for record in [grant("a", [10, 0, 0, 2]), grant("b", [10, 0, 0, 3]), release("a")] {
            store.record(record).unwrap();
        }
        let leases = store.leases().clone();
        drop(store);
        assert_eq!(open(&scratch).leases(), &leases);
    }

    /// A process that is killed while it writes leaves the file at any length: the change that it was about is lost,
    /// since nobody heard of it, and no other.
    #[test]
    fn a_journal_cut_at_any_byte_is_all_that_was_whole_and_goes_on() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().join("pods/leases");
        let mut store = open(&scratch);
        let mut states = vec![(store.length, store.leases().clone())];
        for record in
            [grant("a", [10, 0, 0, 2]), grant("b", [10, 0, 0, 3]), release("a"), grant("c", [10, 0, 0, 4])]
        {
            store.record(record).unwrap();
            states.push((store.length, store.leases().clone()));
        }
        drop(store);
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut store = open(&scratch);
            let expected = states.iter().rfind(|(end, _)| *end <= length as u64);
            let expected = expected.map(|(_, leases)| leases.clone()).unwrap_or_default();
            assert_eq!(store.leases(), &expected, "cut at {length}");
            assert!(store.check().is_ok());
            store.record(grant("d", [10, 0, 0, 5])).unwrap();
            let mut after = expected;
            after.apply(grant("d", [10, 0, 0, 5]));
            drop(store);
            assert_eq!(open(&scratch).leases(), &after, "appended after a cut at {length}");
        }
    }

    /// cni:6.2 and decision leases.md: no pod survives a reboot.
    #[test]
    fn leases_of_another_boot_are_void() {
        let scratch = Scratch::new().unwrap();
        open(&scratch).record(grant("a", [10, 0, 0, 2])).unwrap();
        let after = Store::open(&scratch.path(), "pods", "next boot").unwrap();
        assert!(after.leases().is_empty());
    }

    #[test]
    fn a_damaged_line_stops_grants_but_not_what_is_behind_it() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().join("pods/leases");
        let mut store = open(&scratch);
        store.record(grant("a", [10, 0, 0, 2])).unwrap();
        store.record(grant("b", [10, 0, 0, 3])).unwrap();
        drop(store);
        let text = fs::read_to_string(&path).unwrap().replace("10.0.0.2", "10.0.0.7");
        fs::write(&path, text).unwrap();
        let mut store = open(&scratch);
        let error = store.check().unwrap_err();
        assert!(error.to_string().starts_with("line 2 of"), "{error}");
        store.record(release("b")).unwrap();
        assert!(store.leases().is_empty());
    }

    #[test]
    fn a_long_journal_is_shortened_and_says_the_same() {
        let scratch = Scratch::new().unwrap();
        let mut store = open(&scratch);
        store.record(grant("stays", [10, 0, 0, 2])).unwrap();
        for _ in 0..SLACK {
            store.record(grant("a", [10, 0, 0, 3])).unwrap();
            store.record(release("a")).unwrap();
        }
        assert!(store.lines < 2 * SLACK, "{} lines", store.lines);
        let leases = store.leases().clone();
        drop(store);
        assert_eq!(open(&scratch).leases(), &leases);
    }

    #[test]
    fn the_lock_keeps_others_out() {
        let scratch = Scratch::new().unwrap();
        let store = open(&scratch);
        let directory = File::open(scratch.path().join("pods")).unwrap();
        assert!(directory.try_lock().is_err());
        drop(store);
        assert!(directory.try_lock().is_ok());
    }

    #[test]
    fn looking_for_leases_makes_nothing() {
        let scratch = Scratch::new().unwrap();
        assert!(Store::open_existing(&scratch.path(), "pods", "boot").unwrap().is_none());
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
