//! Names in the BPF file system: what outlives the process, so that no connection notices its restart.
//!
//! Links have the names of their hooks. What sockets and clients were told has names with the layout of their values in them: a
//! version with another layout makes others beside them, and the old ones go once its programs run.

use super::error::Unable;
use heddle_ebpf::abi::{Client, Flow, Flows, Kept, Stamp, Told};
use std::mem::offset_of;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where BPF file systems are mounted.
pub const BPF_FS: &str = "/sys/fs/bpf";
/// Our folder in it.
const FOLDER: &str = "heddle-proxy";
/// `BPF_FS_MAGIC`
const MAGIC: u64 = 0xcafe_4a11;

/// The layout of the values that are kept over loads (FNV-1a over sizes and places).
const LAYOUT: u32 = {
    let facts = [
        size_of::<Flow>(),
        offset_of!(Flow, told),
        offset_of!(Flow, asked_port),
        offset_of!(Flow, stamp),
        size_of::<Flows>(),
        offset_of!(Flows, next),
        size_of::<Told>(),
        offset_of!(Told, told),
        offset_of!(Told, asked_port),
        size_of::<Kept>(),
        offset_of!(Kept, port),
        offset_of!(Kept, stamp),
        offset_of!(Kept, last),
        size_of::<Client>(),
        offset_of!(Client, affinity),
        size_of::<Stamp>(),
        offset_of!(Stamp, list),
    ];
    let (mut hash, mut i) = (0x811c_9dc5_u32, 0);
    while i < facts.len() {
        let [low, high, ..] = facts[i].to_le_bytes();
        hash = ((hash ^ low as u32).wrapping_mul(0x0100_0193) ^ high as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash
};

/// Our folder in a BPF file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// The folder in this file system.
    pub fn in_file_system(root: &Path) -> Self {
        Self { folder: root.join(FOLDER) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// When there is no BPF file system, or we may not write there.
    pub fn make(&self) -> Result<(), Unable> {
        let root = self.folder.parent().unwrap_or(Path::new("/"));
        let is_bpf = rustix::fs::statfs(root).is_ok_and(|about| u64::try_from(about.f_type) == Ok(MAGIC));
        if !is_bpf {
            let remedy =
                format!("mount -t bpf bpf {} on the node, or name another with --bpf-root", root.display());
            return Err(Unable::new(format!("{} is no BPF file system", root.display()), remedy));
        }
        match fs::DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(Unable::new(format!("make {}", self.folder.display()), source))
            }
            _ => Ok(()),
        }
    }

    /// The name of a hook's link.
    pub fn link(&self, hook: &str) -> PathBuf {
        self.folder.join(hook)
    }

    /// The name that a new link has for a moment. Such a file system takes no name with a dot.
    pub fn draft(&self, hook: &str) -> PathBuf {
        self.folder.join(format!("{hook}_new"))
    }

    /// The name of a map that is kept over loads.
    pub fn session(&self, map: &str) -> PathBuf {
        self.folder.join(format!("{map}-{LAYOUT:08x}"))
    }

    /// Removes the maps of other layouts, which no program of ours reads any more.
    ///
    /// # Errors
    /// When they cannot be listed or removed.
    pub fn sweep(&self) -> io::Result<()> {
        let suffix = format!("-{LAYOUT:08x}");
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains('-') && !name.ends_with(&suffix) {
                gone(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    /// Whether something of ours is there.
    pub fn is_here(&self) -> bool {
        self.folder.exists()
    }

    /// Removes all of it, and says whether there was anything. Programs stop; connections go on.
    ///
    /// # Errors
    /// The first thing that cannot be removed; the rest is.
    pub fn remove(&self) -> io::Result<bool> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            entries => entries?,
        };
        let mut removed = Ok(());
        for entry in entries {
            removed = removed.and(gone(fs::remove_file(entry?.path())));
        }
        removed.and_then(|()| gone(fs::remove_dir(&self.folder))).map(|()| true)
    }
}

/// What somebody else removed is removed.
pub(super) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
