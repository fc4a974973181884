//! The folder in which runtimes look for plugins: ours, by its own name and as `loopback`.

use super::place::{Put, failed, is_same, link, put, says};
use crate::LOOPBACK;
use crate::failure::Failure;
use std::fs;
use std::path::{Path, PathBuf};

/// The program's own name.
pub const PROGRAM: &str = "heddle-cni";

/// What the folder has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The program.
    pub program: (PathBuf, Put),
    /// Its second name, and what became of it; nothing where another program has it.
    pub loopback: (PathBuf, Option<Put>),
}

/// Puts the program with these bytes into a folder, which is made when it is missing. `loopback` stays another program's when
/// it is one: on a node that works, it works.
///
/// # Errors
/// The first file that could not be put in place.
pub fn put_programs(folder: &Path, bytes: &[u8]) -> Result<Programs, Failure> {
    fs::create_dir_all(folder).map_err(failed("make folder", folder))?;
    let (program, loopback) = (folder.join(PROGRAM), folder.join(LOOPBACK));
    let ours = !loopback.exists() || is_same(&loopback, &program) || says(&loopback, bytes);
    let program = (program.clone(), put(&program, bytes, 0o755)?);
    let linked = ours.then(|| link(&program.0, &loopback)).transpose()?;
    Ok(Programs { program, loopback: (loopback, linked) })
}

/// Takes the program away, and its second name where it is ours. Returns what was there.
///
/// # Errors
/// The first file that could not be removed.
pub fn remove_programs(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (program, loopback) = (folder.join(PROGRAM), folder.join(LOOPBACK));
    let mut removed = Vec::new();
    if is_same(&loopback, &program) && super::remove(&loopback)? {
        removed.push(loopback);
    }
    if super::remove(&program)? {
        removed.push(program);
    }
    Ok(removed)
}
