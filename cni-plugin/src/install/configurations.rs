//! The folder in which runtimes look for configurations: which one they take, ours, and those of others.

use super::place::{Put, failed, put};
use super::programs::PROGRAM;
use crate::args::Args;
use crate::config::Config;
use crate::failure::Failure;
use crate::spec::decode;
use serde_json::Value;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What runtimes take for a configuration.
const READ_BY_RUNTIMES: [&str; 3] = ["conf", "conflist", "json"];
/// What other configurations are called while ours is the only one.
const SET_ASIDE: &str = "set-aside-by-heddle";
/// Everybody may read it: it holds no secret, and people look.
const MODE: u32 = 0o644;

/// Puts a configuration in place, in a folder that is made when it is missing.
///
/// # Errors
/// When it cannot be written; then the place is as it was.
pub fn put_configuration(place: &Path, text: &[u8]) -> Result<Put, Failure> {
    let folder = place.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(failed("make folder", folder))?;
    put(place, text, MODE)
}

/// Whether a runtime would read a file of this name.
pub fn is_read(path: &Path) -> bool {
    path.extension().is_some_and(|found| READ_BY_RUNTIMES.iter().any(|read| found == *read))
}

/// All files in a folder that runtimes read, in their order: they take the first, whoever wrote it.
///
/// # Errors
/// When the folder cannot be listed.
pub fn list_configurations(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    Ok(list(folder)?.into_iter().filter(|path| is_read(path)).collect())
}

/// Sets all configurations but this one aside. Returns those that were.
///
/// # Errors
/// The first file that could not be renamed.
pub fn set_others_aside(own: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = own.parent().unwrap_or(Path::new("/"));
    let others: Vec<_> = list_configurations(folder)?.into_iter().filter(|path| path != own).collect();
    for path in &others {
        let aside = PathBuf::from(format!("{}.{SET_ASIDE}", path.display()));
        fs::rename(path, &aside).map_err(failed("set aside", path))?;
    }
    Ok(others)
}

/// Brings back what was set aside. Returns what was.
///
/// # Errors
/// The first file that could not be renamed.
pub fn bring_others_back(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut brought = Vec::new();
    for aside in list(folder)? {
        let Some(path) = aside.to_str().and_then(|path| path.strip_suffix(&format!(".{SET_ASIDE}"))) else {
            continue;
        };
        fs::rename(&aside, path).map_err(failed("bring back", Path::new(path)))?;
        brought.push(path.into());
    }
    Ok(brought)
}

/// A folder's files; none when there is no folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let entries = entries.map_err(failed("list folder", folder))?;
    let mut paths: Vec<_> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    Ok(paths)
}

/// Fails when our part of a configuration makes no sense, with the problem alone.
///
/// # Errors
/// What is wrong with it.
pub fn check_configuration(text: &[u8]) -> Result<(), Failure> {
    let unusable = |problem: String| Failure { code: 7, msg: problem, details: String::new() };
    let list: Value = serde_json::from_slice(text).map_err(|e| unusable(e.to_string()))?;
    let plugins = list["plugins"].as_array().map_or(std::slice::from_ref(&list), Vec::as_slice);
    let ours: Vec<_> = plugins.iter().filter(|plugin| plugin["type"] == PROGRAM).collect();
    if ours.is_empty() {
        return Err(unusable(format!("no plugin in it has the type {PROGRAM}")));
    }
    for plugin in ours {
        let document = decode(plugin.to_string().as_bytes())?;
        Config::read(&document, &Args::default(), "eth0")?;
    }
    Ok(())
}
