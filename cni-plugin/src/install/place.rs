//! Puts one file in place in one step.
//!
//! It is written beside its place under a name that no runtime reads, synced, read back, and renamed. So whoever has the old
//! one open keeps it, a program that runs is replaced without an error, and a runtime's watch of the folder sees the one
//! event that all of them follow. Invariant: at every instant the place has the old content or the new one, whole, however
//! the process ends; a file that says already what it should is not touched.

use crate::failure::Failure;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A draft that nobody has written to for so long belongs to an installation that was killed.
const ABANDONED: Duration = Duration::from_secs(60);

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// There was none.
    New,
    /// There was another one.
    Replaced,
    /// It was so already.
    Unchanged,
}

pub(super) fn failed(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let msg = format!("{action} {}", path.display());
    move |e| Failure { code: 5, msg, details: e.to_string() }
}

/// Puts a file in place.
///
/// # Errors
/// When it cannot be written; then the place is as it was.
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<Put, Failure> {
    if says(path, bytes) && has_mode(path, mode) {
        return Ok(Put::Unchanged);
    }
    let draft = draft(path);
    let written = write(&draft, bytes, mode).and_then(|()| rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.map_err(failed("install", path))
}

/// Gives a file another name, in one step.
pub(super) fn link(file: &Path, path: &Path) -> Result<Put, Failure> {
    if is_same(file, path) {
        return Ok(Put::Unchanged);
    }
    let draft = draft(path);
    let linked = fs::hard_link(file, &draft).and_then(|()| rename(&draft, path));
    if linked.is_err() {
        let _ = fs::remove_file(&draft);
    }
    linked.map_err(failed("install", path))
}

/// A name beside the place that no runtime reads, and no other installation that runs. What killed ones left goes.
fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (begin, own) = (format!(".{name}.new-"), format!(".{name}.new-{}", std::process::id()));
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || name.starts_with(&begin) && is_abandoned(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    path.with_file_name(own)
}

fn is_abandoned(draft: &Path) -> bool {
    let written = draft.symlink_metadata().and_then(|found| found.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > ABANDONED))
}

fn write(draft: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(draft)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    if says(draft, bytes) { Ok(()) } else { Err(io::Error::other("it does not read back as it was written")) }
}

fn rename(draft: &Path, path: &Path) -> io::Result<Put> {
    let put = if path.symlink_metadata().is_ok() { Put::Replaced } else { Put::New };
    fs::rename(draft, path)?;
    // The name must survive a loss of power as the content does.
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    Ok(put)
}

pub(super) fn says(path: &Path, bytes: &[u8]) -> bool {
    path.metadata().is_ok_and(|found| found.len() == bytes.len() as u64)
        && fs::read(path).is_ok_and(|found| found == bytes)
}

fn has_mode(path: &Path, mode: u32) -> bool {
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o7777 == mode)
}

pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some() && identity(one) == identity(other)
}
