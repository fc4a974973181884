//! A directory that is gone when the test is gone, however it ended.
//!
//! It is not a temporary directory: it is a mount that nothing is mounted on, reachable only through its file
//! descriptor. Invariant: no name of it exists in any file system.

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
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
        Self::mount(MountAttrFlags::empty())
    }

    /// Makes an empty directory that nobody can write into.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn read_only() -> io::Result<Self> {
        Self::mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
    }

    fn mount(attributes: MountAttrFlags) -> io::Result<Self> {
        let file_system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&file_system)?;
        let mount = fsmount(&file_system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Self { mount })
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
