//! Network namespaces of pods, by the cookies that programs know them by.
//!
//! Container runtimes keep a file for each in one folder. A namespace is entered by a thread that ends at once; what it opened stays
//! there. Not the node's own: that needs no entering.

use super::sys;
use heddle_netlink::{Error, Family, Socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

/// Where containerd and CRI-O keep them.
pub const FOLDER: &str = "/run/netns";

/// A namespace's device and inode.
type Identity = (u64, u64);

/// The namespaces of a folder.
#[derive(Debug)]
pub struct Namespaces {
    folder: PathBuf,
    /// The cookies of those that have been entered.
    known: BTreeMap<Identity, u64>,
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
        let Some(file) = self.find(cookie).map_err(Error::Open)? else { return Ok(None) };
        inside(&file, || Socket::open(Family::Diagnosis)).map_err(Error::Open)?.map(Some)
    }

    /// The file of the namespace with this cookie. One that was never entered is, once.
    fn find(&mut self, cookie: u64) -> io::Result<Option<File>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut seen = BTreeMap::new();
        let mut found = None;
        for entry in entries {
            // A pod may go at any moment.
            let Ok(file) = entry.and_then(|entry| File::open(entry.path())) else { continue };
            let about = file.metadata()?;
            let identity = (about.dev(), about.ino());
            let known = self.known.get(&identity).copied();
            let its = match known {
                Some(known) => known,
                None => match inside(&file, own_cookie)? {
                    Ok(its) => its,
                    Err(_) => continue,
                },
            };
            seen.insert(identity, its);
            if its == cookie {
                found = Some(file);
            }
        }
        self.known = seen;
        Ok(found)
    }
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
