//! A directory that is gone when the test is gone, however it ended.
//!
//! It is not a temporary directory: it is a mount that nothing is mounted on, reachable only through its file
//! descriptor. Invariant: no name of it exists in any file system.

use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process;

/// An empty directory in memory.
#[derive(Debug)]
pub struct Scratch {
    mount: OwnedFd,
}

impl Scratch {
    /// Makes an empty directory.
    ///
    /// # Errors
    /// When the process may not mount (the lab needs root).
    pub fn new() -> io::Result<Self> {
        Self::with(|_| Ok(()))
    }

    /// Makes an empty directory that nobody can write into.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn read_only() -> io::Result<Self> {
        let scratch = Self::new()?;
        scratch.make_read_only()?;
        Ok(scratch)
    }

    /// Makes an empty directory that is full after this many bytes.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_size(bytes: u64) -> io::Result<Self> {
        Self::with(|file_system| Ok(fsconfig_set_string(file_system, "size", bytes.to_string())?))
    }

    /// Makes an empty BPF file system.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_bpf() -> io::Result<Self> {
        Self::of_kind("bpf", |_| Ok(()))
    }

    fn with(configure: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<Self> {
        Self::of_kind("tmpfs", configure)
    }

    fn of_kind(kind: &str, configure: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<Self> {
        let file_system = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        configure(&file_system)?;
        fsconfig_create(&file_system)?;
        let mount = fsmount(&file_system, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Ok(Self { mount })
    }

    /// From now on nothing in it can be changed.
    ///
    /// # Errors
    /// When somebody has a file of it open for writing.
    pub fn make_read_only(&self) -> io::Result<()> {
        let file_system =
            fspick(&self.mount, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)?;
        fsconfig_set_flag(&file_system, "ro")?;
        Ok(fsconfig_reconfigure(&file_system)?)
    }

    /// A path that this process and others can use while this value lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.mount.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_can_be_made_renamed_and_listed() {
        let scratch = Scratch::new().unwrap();
        fs::create_dir(scratch.path().join("leases")).unwrap();
        fs::write(scratch.path().join("new"), "10.244.1.2").unwrap();
        fs::rename(scratch.path().join("new"), scratch.path().join("leases/pod")).unwrap();
        assert_eq!(fs::read_to_string(scratch.path().join("leases/pod")).unwrap(), "10.244.1.2");
    }
}
