//! Which sockets are seen: those of a cgroup and of all below it, through links with names.
//!
//! A link that is there gets the new program in one step. One of another cgroup is replaced by a new link, made before the old one
//! goes. Invariant: from the first time on, every hook has a program at every moment.

use super::error::Unable;
use super::pins::{Pins, gone};
use super::sys;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The hooks, by the names of their programs (`enum bpf_attach_type`).
pub const HOOKS: [(&str, u32); 9] = [
    ("sock_release", 34),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("connect4", 10),
    ("connect6", 11),
];

/// The inode of the hierarchy's root.
const ROOT: u64 = 1;
/// `CGROUP2_SUPER_MAGIC`
const MAGIC: u64 = 0x6367_7270;

/// The cgroup whose sockets are seen.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    folder: File,
    id: u64,
}

impl Cgroup {
    /// The one of this path; without it the node's, found among the mounts.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(path: Option<&Path>) -> Result<Self, Unable> {
        match path {
            Some(path) => Self::at(path.to_owned()),
            None => Self::of_node(),
        }
    }

    fn at(path: PathBuf) -> Result<Self, Unable> {
        let failed = |source| Unable::new(format!("open the cgroup {}", path.display()), source);
        let folder = File::open(&path).map_err(failed)?;
        if !rustix::fs::fstatfs(&folder).is_ok_and(|about| u64::try_from(about.f_type) == Ok(MAGIC)) {
            let remedy = "name a folder of the node's cgroup v2 hierarchy with --cgroup-root";
            return Err(Unable::new(format!("{} is no cgroup v2", path.display()), remedy));
        }
        let id = folder.metadata().map_err(failed)?.ino();
        Ok(Self { path, folder, id })
    }

    /// The hierarchy's root, or the root of the namespace that the node itself lives in.
    fn of_node() -> Result<Self, Unable> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(Unable::at("read the mounts"))?;
        let mut found: Vec<Self> =
            mounts.lines().filter_map(mounted_at).filter_map(|path| Self::at(path.into()).ok()).collect();
        found.sort_by_key(|cgroup| cgroup.id);
        let first = found.into_iter().next();
        let none = || {
            Unable::new(
                "find the node's cgroups",
                "no cgroup v2 is mounted: mount the node's, or name it with --cgroup-root",
            )
        };
        let cgroup = first.ok_or_else(none)?;
        if cgroup.id != ROOT && cgroup.holds(std::process::id()) {
            let remedy =
                "it is this process's own: mount the node's /sys/fs/cgroup, or name it with --cgroup-root";
            return Err(Unable::new(
                format!("see other sockets than those of {}", cgroup.path.display()),
                remedy,
            ));
        }
        Ok(cgroup)
    }

    fn holds(&self, process: u32) -> bool {
        let listed = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        listed.lines().any(|line| line == process.to_string())
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets these programs see its sockets, in the places of those that did.
    ///
    /// # Errors
    /// The first hook that could not be had; those before it have their new programs.
    pub fn attach(&self, pins: &Pins, programs: &[(String, OwnedFd)]) -> Result<(), Unable> {
        for (name, hook) in HOOKS {
            let program = programs.iter().find(|(of, _)| of == name);
            let (_, program) =
                program.ok_or_else(|| Unable::new("attach", format!("the object has no {name}")))?;
            let failed = |source| Unable::new(format!("attach {name} to {}", self.path.display()), source);
            self.link((&pins.link(name), &pins.draft(name)), program.as_fd(), hook).map_err(failed)?;
        }
        Ok(())
    }

    fn link(&self, (path, draft): (&Path, &Path), program: BorrowedFd<'_>, hook: u32) -> io::Result<()> {
        let is_ours =
            |link: &OwnedFd| sys::about_link(link.as_fd()).is_ok_and(|about| about.cgroup == self.id);
        // Of a process that was killed here; it would go on with that one's program.
        let drop_draft = || gone(fs::remove_file(draft));
        let known = sys::get(path).ok();
        if let Some(link) = known.filter(is_ours)
            && sys::replace(link.as_fd(), program).is_ok()
        {
            return drop_draft();
        }
        let link = sys::link(program, self.folder.as_fd(), hook)?;
        drop_draft()?;
        sys::pin(link.as_fd(), draft)?;
        fs::rename(draft, path)
    }

    /// Whether each hook has a program on this cgroup.
    pub fn is_attached(&self, pins: &Pins) -> bool {
        HOOKS.iter().all(|(name, _)| {
            let about = sys::get(&pins.link(name)).and_then(|link| sys::about_link(link.as_fd()));
            about.is_ok_and(|about| about.cgroup == self.id)
        })
    }
}

/// The folder of a mount of cgroup v2 (proc(5): after the separator comes the file system's type).
fn mounted_at(line: &str) -> Option<&str> {
    let (mount, file_system) = line.split_once(" - ")?;
    file_system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_cgroup_v2_are_found_among_others() {
        let line = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(mounted_at(line), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mounted_at("32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"), None);
        assert_eq!(mounted_at(""), None);
    }
}
