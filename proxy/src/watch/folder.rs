//! A watched folder: which of its files to read again.
//!
//! Not a reader of files. It turns inotify's events into file names, and waits for a writer to close its file, so that
//! nobody reads half a file. What happens behind a symbolic link is seen only when the link, or the `..data` link
//! that a mounted ConfigMap swaps, is itself replaced. Invariant: a change that is lost (a full queue, a folder that
//! was away) ends in reading everything again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::Timespec;
use rustix::fs::inotify::{self, ReadFlags};

use super::documents::Format;
use super::inotify::{AWAY, Watch, is_loss};

/// How long a file must be gone to count as gone: editors move the old file away before they write the new one, and
/// its Services must not be refused in between.
const GRACE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// A folder in constant motion is looked at after this many graces all the same.
const GRACES: usize = 20;

/// What there is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    /// Files to read again.
    pub(super) read: BTreeSet<String>,
    /// Files that are gone.
    pub(super) gone: BTreeSet<String>,
}

/// Which files of a folder are looked at.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// All that are manifests by their name.
    Manifests,
    /// The one of this name.
    File(String),
}

impl Scope {
    fn covers(&self, name: &str) -> bool {
        match self {
            Self::Manifests => Format::of(name).is_some(),
            Self::File(only) => name == only,
        }
    }
}

/// The folder and its watch.
#[derive(Debug)]
pub(super) struct Folder {
    scope: Scope,
    watch: Watch,
}

impl Folder {
    /// Starts to watch. Whatever changes after this is seen by [`Folder::wait`].
    pub(super) fn watch(path: &Path, scope: Scope) -> io::Result<Self> {
        Ok(Self { scope, watch: Watch::open(path)? })
    }

    /// The files in the folder that are looked at.
    pub(super) fn files(&self) -> io::Result<BTreeSet<String>> {
        let names = self.watch.path().read_dir()?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let names: BTreeSet<String> = names.filter_map(Result::transpose).collect::<io::Result<_>>()?;
        Ok(names.into_iter().filter(|name| self.scope.covers(name)).collect())
    }

    /// Where a file is.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.watch.path().join(name)
    }

    /// Waits until there is something to do. `known` are the files that were read before. A folder that cannot be
    /// listed any more is looked for until it can.
    pub(super) fn wait(&mut self, known: &BTreeSet<String>) -> io::Result<Round> {
        loop {
            if !self.watch.is_on() {
                return self.find_again(known);
            }
            self.watch.readable(None)?;
            let mut events = Events::default();
            self.gather(&mut events)?;
            for _ in 0..GRACES {
                if events.removed.is_empty() || !self.watch.readable(Some(&GRACE))? {
                    break;
                }
                self.gather(&mut events)?;
            }
            let round = match events {
                Events { is_lost: true, .. } => Err(io::ErrorKind::NotFound.into()),
                Events { is_overflown: true, .. } => self.everything(known),
                events => self.round(events, known),
            };
            match round {
                Ok(round) if round == Round::default() => {}
                Ok(round) => return Ok(round),
                Err(_) => self.watch.leave(),
            }
        }
    }

    fn find_again(&mut self, known: &BTreeSet<String>) -> io::Result<Round> {
        loop {
            let is_there = self.watch.find();
            match self.everything(known) {
                Ok(round) if is_there => return Ok(round),
                _ => self.watch.leave(),
            }
            if self.watch.readable(Some(&AWAY))? {
                // What is left of the old watch would end every wait at once.
                self.gather(&mut Events::default())?;
            }
        }
    }

    fn everything(&self, known: &BTreeSet<String>) -> io::Result<Round> {
        let read = self.files()?;
        let gone = known.difference(&read).cloned().collect();
        Ok(Round { read, gone })
    }

    fn round(&self, events: Events, known: &BTreeSet<String>) -> io::Result<Round> {
        let mut round = Round { read: events.written, gone: BTreeSet::new() };
        for name in events.created {
            // A link is complete at once and no writer will close it; a file is complete when its writer closes it.
            if self.file(&name).symlink_metadata().is_ok_and(|found| found.is_symlink() || found.nlink() > 1)
            {
                round.read.insert(name);
            }
        }
        if events.is_elsewhere {
            let files = self.files()?;
            round.gone.extend(known.difference(&files).cloned());
            round.read.extend(files.into_iter().filter(|name| self.file(name).is_symlink()));
        }
        round.gone.extend(events.removed);
        // Looked at last: a name may have been removed and made again, or the reverse. A dangling link is gone too.
        round.gone.retain(|name| known.contains(name) && !self.file(name).exists());
        round.read.retain(|name| !round.gone.contains(name));
        Ok(round)
    }

    fn gather(&self, events: &mut Events) -> io::Result<()> {
        self.watch.gather(|event, is_present| events.add(event, is_present, &self.scope))
    }
}

/// Events that were read from the queue, sorted by what they ask for.
#[derive(Debug, Default)]
struct Events {
    /// Files whose writer closed them, or that were moved in.
    written: BTreeSet<String>,
    /// Files that were created, by whatever means.
    created: BTreeSet<String>,
    /// Files that were deleted or moved away.
    removed: BTreeSet<String>,
    /// Something else was put in or taken out: links may lead elsewhere now.
    is_elsewhere: bool,
    is_overflown: bool,
    is_lost: bool,
}

impl Events {
    fn add(&mut self, event: &inotify::Event<'_>, is_present: bool, scope: &Scope) {
        let flags = event.events();
        self.is_overflown |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
        if !is_present {
            return;
        }
        self.is_lost |= is_loss(flags);
        let Some(name) = event.file_name() else { return };
        let name = OsStr::from_bytes(name.to_bytes()).to_str().filter(|name| scope.covers(name));
        let Some(name) = name.map(str::to_owned) else {
            self.is_elsewhere |=
                flags.intersects(ReadFlags::MOVED_TO | ReadFlags::CREATE | ReadFlags::DELETE);
            return;
        };
        if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
            self.written.insert(name);
        } else if flags.contains(ReadFlags::CREATE) {
            self.created.insert(name);
        } else if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            self.removed.insert(name);
        }
    }
}
