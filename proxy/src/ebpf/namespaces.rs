//! Network namespaces of pods, by the cookies that programs know them by, and by their addresses.
//!
//! Container runtimes keep a file for each in one folder. A namespace is entered by a thread that ends at once; what it opened stays
//! there. Not the node's own: that needs no entering.

use super::sys;
use heddle_netlink::{Error, Family, Socket, address};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

/// Where containerd and CRI-O keep them.
pub const FOLDER: &str = "/run/netns";

/// A namespace's file, device and inode. Not without the file's name: the number of an inode is another's as soon as it is free.
type Identity = (OsString, u64, u64);

/// The namespaces of a folder.
#[derive(Debug)]
pub struct Namespaces {
    folder: PathBuf,
    /// Those that have been entered.
    known: BTreeMap<Identity, Known>,
}

/// What was found in a namespace.
#[derive(Debug)]
struct Known {
    cookie: u64,
    /// Those by which others know it; empty until it has some.
    addresses: BTreeSet<IpAddr>,
}

/// Namespaces that were looked for by their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Their cookies.
    pub cookies: BTreeSet<u64>,
    /// The addresses that none has.
    pub missing: BTreeSet<IpAddr>,
}

impl Namespaces {
    /// Those that have a file here.
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), known: BTreeMap::new() }
    }

    /// A socket to ask for sockets in the namespace with this cookie; `None` where it is in no file.
    ///
    /// # Errors
    /// When it cannot be entered, mostly for lack of `CAP_SYS_ADMIN`.
    pub fn diagnosis(&mut self, cookie: u64) -> Result<Option<Socket>, Error> {
        if own_cookie().map_err(Error::Open)? == cookie {
            return Socket::open(Family::Diagnosis).map(Some);
        }
        let files = self.look().map_err(Error::Open)?;
        let file = files.iter().find(|(identity, _)| self.known[*identity].cookie == cookie);
        let Some((_, file)) = file else { return Ok(None) };
        inside(file, || Socket::open(Family::Diagnosis)).map_err(Error::Open)?.map(Some)
    }

    /// The namespaces that have one of these addresses. What a namespace was found to have is believed, unless an address is missing.
    ///
    /// # Errors
    /// As [`diagnosis`](Self::diagnosis).
    pub fn find_by_address(&mut self, wanted: &BTreeSet<IpAddr>) -> io::Result<Found> {
        if wanted.is_empty() {
            return Ok(Found::default());
        }
        let files = self.look()?;
        self.read_addresses(&files, |known| known.addresses.is_empty())?;
        let found = self.having(wanted);
        if found.missing.is_empty() {
            return Ok(found);
        }
        self.read_addresses(&files, |known| known.addresses.is_disjoint(wanted))?;
        Ok(self.having(wanted))
    }

    fn having(&self, wanted: &BTreeSet<IpAddr>) -> Found {
        let mut found = Found { missing: wanted.clone(), ..Found::default() };
        for known in self.known.values().filter(|known| !known.addresses.is_disjoint(wanted)) {
            found.cookies.insert(known.cookie);
            found.missing.retain(|address| !known.addresses.contains(address));
        }
        found
    }

    /// Reads the addresses of some namespaces again.
    fn read_addresses(
        &mut self,
        files: &BTreeMap<Identity, File>,
        which: impl Fn(&Known) -> bool,
    ) -> io::Result<()> {
        for (identity, known) in self.known.iter_mut().filter(|(_, known)| which(known)) {
            // One that does not tell is asked again the next time.
            known.addresses = inside(&files[identity], own_addresses)?.unwrap_or_default();
        }
        Ok(())
    }

    /// The files of all namespaces. One that was never entered is, once.
    fn look(&mut self) -> io::Result<BTreeMap<Identity, File>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries?.collect(),
        };
        let mut before = std::mem::take(&mut self.known);
        let mut files = BTreeMap::new();
        // A pod may go at any moment.
        for entry in entries.into_iter().flatten() {
            let Ok(file) = File::open(entry.path()) else { continue };
            let about = file.metadata()?;
            let identity = (entry.file_name(), about.dev(), about.ino());
            let known = match before.remove(&identity) {
                Some(known) => known,
                None => match enter(&file)? {
                    Some(cookie) => Known { cookie, addresses: BTreeSet::new() },
                    None => continue,
                },
            };
            self.known.insert(identity.clone(), known);
            files.insert(identity, file);
        }
        Ok(files)
    }
}

/// The cookie of a namespace; none where the file holds none, as a runtime leaves it that was killed.
fn enter(file: &File) -> io::Result<Option<u64>> {
    match inside(file, own_cookie) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        entered => entered.map(Result::ok),
    }
}

/// The addresses by which others know who is here.
fn own_addresses() -> Result<BTreeSet<IpAddr>, Error> {
    let all = address::list_all(&mut Socket::open(Family::Route)?)?;
    let is_of_link = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let all = all.into_iter().map(|one| one.address.ip());
    Ok(all.filter(|ip| !ip.is_loopback() && !is_of_link(ip)).collect())
}

fn own_cookie() -> io::Result<u64> {
    sys::namespace_cookie(UdpSocket::bind(("0.0.0.0", 0))?.as_fd())
}

/// Does something on a thread in a namespace.
fn inside<T: Send>(file: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let enter = || -> io::Result<T> {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        };
        let thread = thread::Builder::new().name("inside a pod".into()).spawn_scoped(scope, enter)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread failed")))
    })
}
