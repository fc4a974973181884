//! The kernel's watch of one folder, which may go away and come again.
//!
//! Not what its events mean, but for [`follow_folder`], to which all mean the same. Invariant: events of a watch that was left
//! are never taken for those of the present one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// How often a folder that went away is looked for.
pub(super) const AWAY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What is told of a folder's files and of itself.
const CHANGES: WatchFlags = WatchFlags::ONLYDIR
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// The watch of a folder.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    inotify: OwnedFd,
    flags: WatchFlags,
    /// The kernel's number of the watch; none while the folder is away.
    number: Option<i32>,
}

impl Watch {
    /// A watch of a folder that need not be there yet: [`Watch::find`] tells.
    fn new(path: &Path, flags: WatchFlags) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { path: path.to_owned(), inotify, flags, number: None })
    }

    /// Starts to watch a folder that is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut watch = Self::new(path, CHANGES)?;
        watch.number = Some(inotify::add_watch(&watch.inotify, path, watch.flags)?);
        Ok(watch)
    }

    /// The watched folder's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a folder to hear of.
    pub(super) fn is_on(&self) -> bool {
        self.number.is_some()
    }

    /// Looks for the folder, and says whether it is there.
    pub(super) fn find(&mut self) -> bool {
        self.number = inotify::add_watch(&self.inotify, &self.path, self.flags).ok();
        self.is_on()
    }

    /// Hears no more of the folder that was there.
    pub(super) fn leave(&mut self) {
        if let Some(number) = self.number.take() {
            // The kernel has removed it already if the folder was deleted rather than moved.
            let _ = inotify::remove_watch(&self.inotify, number);
        }
    }

    /// Waits for events, and says whether there are any.
    pub(super) fn readable(&self, timeout: Option<&Timespec>) -> io::Result<bool> {
        loop {
            match poll(&mut [PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN)], timeout) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes all events that are there, each with whether it is of the present watch.
    pub(super) fn gather(&self, mut take: impl FnMut(&inotify::Event<'_>, bool)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => take(&event, Some(event.wd()) == self.number),
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether an event says that the watched folder is not there any more.
pub(super) fn is_loss(flags: ReadFlags) -> bool {
    flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED)
}

/// Calls as soon as anything in a folder may be different, and once at the start: its files, their rights, or the folder. Many
/// changes at once are one call. Goes on while the call says so; a folder that is not there is looked for each second.
///
/// # Errors
/// When the kernel gives no watch.
pub fn follow_folder(path: &Path, mut changed: impl FnMut() -> bool) -> io::Result<()> {
    let mut watch = Watch::new(path, CHANGES | WatchFlags::ATTRIB)?;
    let mut is_news = true;
    loop {
        is_news |= !watch.is_on() && watch.find();
        if std::mem::take(&mut is_news) && !changed() {
            return Ok(());
        }
        let patience = (!watch.is_on()).then_some(&AWAY);
        if watch.readable(patience)? {
            let mut is_lost = false;
            watch.gather(|event, is_present| is_lost |= is_present && is_loss(event.events()))?;
            is_news = watch.is_on();
            if is_lost {
                watch.leave();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// A message for each call. The thread ends with its receiver.
    fn follow(path: PathBuf) -> Receiver<()> {
        let (send, calls) = channel();
        std::thread::spawn(move || follow_folder(&path, || send.send(()).is_ok()));
        calls
    }

    fn is_called(calls: &Receiver<()>, why: &str) {
        calls.recv_timeout(Duration::from_secs(20)).expect(why);
        while calls.recv_timeout(Duration::from_millis(1)).is_ok() {}
    }

    #[test]
    fn whatever_happens_to_a_folder_is_a_call_also_when_it_comes_late_or_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("net.d");
        let calls = follow(folder.clone());
        is_called(&calls, "the start");
        fs::create_dir(&folder).unwrap();
        is_called(&calls, "a folder that comes late");
        fs::write(folder.join("a"), "one").unwrap();
        is_called(&calls, "a file");
        let mut rights = fs::metadata(folder.join("a")).unwrap().permissions();
        rights.set_readonly(true);
        fs::set_permissions(folder.join("a"), rights).unwrap();
        is_called(&calls, "its rights");
        fs::rename(&folder, root.path().join("old")).unwrap();
        is_called(&calls, "the folder is moved away");
        fs::create_dir(&folder).unwrap();
        is_called(&calls, "another one in its place");
        fs::remove_dir(&folder).unwrap();
        is_called(&calls, "it is removed");
    }
}
