//! Puts the program and a configuration where a runtime finds them, and takes them away again.
//!
//! A runtime may start the program or read the folder at any moment, so nothing is ever half there: a file is written beside
//! its place under a name that nobody reads, synced, read back, and renamed (docs/cni.md says what runtimes see of that). The
//! program is there before the configuration that names it. Invariant: a folder is never removed, and a file that says already
//! what it should is not touched.

use crate::LOOPBACK;
use crate::args::Args;
use crate::config::Config;
use crate::failure::Failure;
use crate::spec::decode;
use serde_json::Value;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The program's own name.
const PROGRAM: &str = "heddle-cni";
/// What runtimes take for a configuration.
const READ_BY_RUNTIMES: [&str; 3] = ["conf", "conflist", "json"];
/// What other configurations are called while ours is the only one.
const SET_ASIDE: &str = "set-aside-by-heddle";

/// Where to, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Where runtimes look for plugins.
    pub programs: PathBuf,
    /// Where runtimes look for configurations.
    pub configurations: PathBuf,
    /// The configuration to put there, under its own file name; none to install the program alone.
    pub configuration: Option<PathBuf>,
    /// Other configurations are set aside: a runtime takes the first by name, whoever wrote it.
    pub exclusive: bool,
}

impl Default for Install {
    fn default() -> Self {
        let (programs, configurations) = ("/opt/cni/bin".into(), "/etc/cni/net.d".into());
        Self { programs, configurations, configuration: None, exclusive: false }
    }
}

fn failed(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let msg = format!("{action} {}", path.display());
    move |e| Failure { code: 5, msg, details: e.to_string() }
}

impl Install {
    /// Installs, and says what was done, a line each.
    ///
    /// # Errors
    /// A configuration that makes no sense, before anything is done; or the first file that could not be put in place.
    pub fn install(&self) -> Result<Vec<String>, Failure> {
        let configuration = self.configuration.as_deref().map(read_configuration).transpose()?;
        let own = Path::new("/proc/self/exe");
        let program = fs::read(own).map_err(failed("read the program", own))?;
        fs::create_dir_all(&self.programs).map_err(failed("make folder", &self.programs))?;
        let mut said = self.put_programs(&program)?;
        if let Some((name, text)) = &configuration {
            fs::create_dir_all(&self.configurations).map_err(failed("make folder", &self.configurations))?;
            let place = self.configurations.join(name);
            said.push(describe(&place, put(&place, text, 0o644)?));
            if self.exclusive {
                said.extend(self.set_others_aside(&place)?);
            }
        }
        Ok(said)
    }

    /// `loopback` stays another program's when it is one: on a node that works, it works.
    fn put_programs(&self, bytes: &[u8]) -> Result<Vec<String>, Failure> {
        let (program, loopback) = (self.programs.join(PROGRAM), self.programs.join(LOOPBACK));
        let ours = !loopback.exists() || is_same(&loopback, &program) || says(&loopback, bytes);
        let mut said = vec![describe(&program, put(&program, bytes, 0o755)?)];
        if ours {
            said.push(describe(&loopback, link(&program, &loopback)?));
        } else {
            said.push(format!("{}: another program, left as it is", loopback.display()));
        }
        Ok(said)
    }

    fn set_others_aside(&self, own: &Path) -> Result<Vec<String>, Failure> {
        let mut said = Vec::new();
        for path in list(&self.configurations)?.into_iter().filter(|path| path != own && is_read(path)) {
            let aside = PathBuf::from(format!("{}.{SET_ASIDE}", path.display()));
            fs::rename(&path, &aside).map_err(failed("set aside", &path))?;
            said.push(format!("{}: set aside", path.display()));
        }
        Ok(said)
    }

    /// Takes the configuration away, brings back what was set aside for it, and then takes the program away.
    ///
    /// # Errors
    /// The first file that could not be removed or brought back.
    pub fn uninstall(&self, name: &str) -> Result<Vec<String>, Failure> {
        let mut said = vec![remove(&self.configurations.join(name))?];
        for aside in list(&self.configurations)? {
            let Some(path) = aside.to_str().and_then(|path| path.strip_suffix(&format!(".{SET_ASIDE}")))
            else {
                continue;
            };
            fs::rename(&aside, path).map_err(failed("bring back", Path::new(path)))?;
            said.push(format!("{path}: brought back"));
        }
        let (program, loopback) = (self.programs.join(PROGRAM), self.programs.join(LOOPBACK));
        if is_same(&loopback, &program) {
            said.push(remove(&loopback)?);
        }
        said.push(remove(&program)?);
        Ok(said)
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    New,
    Replaced,
    Unchanged,
}

fn describe(path: &Path, put: Put) -> String {
    let what = match put {
        Put::New => "installed",
        Put::Replaced => "replaced",
        Put::Unchanged => "is so already",
    };
    format!("{}: {what}", path.display())
}

/// Puts a file in place in one step. Whoever has the old one open keeps it, so a program that runs is replaced, too.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<Put, Failure> {
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

/// Another name for a file, in one step.
fn link(file: &Path, path: &Path) -> Result<Put, Failure> {
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

/// A name beside the place that no runtime reads, and no other installation that runs.
fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new-{}", std::process::id()))
}

fn write(draft: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let _ = fs::remove_file(draft);
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

fn says(path: &Path, bytes: &[u8]) -> bool {
    path.metadata().is_ok_and(|found| found.len() == bytes.len() as u64)
        && fs::read(path).is_ok_and(|found| found == bytes)
}

fn has_mode(path: &Path, mode: u32) -> bool {
    path.metadata().is_ok_and(|found| found.permissions().mode() & 0o7777 == mode)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some() && identity(one) == identity(other)
}

fn is_read(path: &Path) -> bool {
    path.extension().is_some_and(|found| READ_BY_RUNTIMES.iter().any(|read| found == *read))
}

/// The files of a folder, in the order of their names; none when there is no folder.
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

fn remove(path: &Path) -> Result<String, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(format!("{}: removed", path.display())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(format!("{}: is not there", path.display())),
        Err(e) => Err(failed("remove", path)(e)),
    }
}

/// A configuration's file name and text, if a runtime will read it and our part of it makes sense.
fn read_configuration(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let unusable = |problem: String| Failure {
        code: 7,
        msg: format!("use the configuration {}", path.display()),
        details: problem,
    };
    let text = fs::read(path).map_err(failed("read the configuration", path))?;
    let name = path.file_name().and_then(|name| name.to_str()).filter(|_| is_read(path));
    let name =
        name.ok_or_else(|| unusable("its name does not end in .conflist, .conf or .json".to_owned()))?;
    let list: Value = serde_json::from_slice(&text).map_err(|e| unusable(e.to_string()))?;
    let plugins = list["plugins"].as_array().map_or(std::slice::from_ref(&list), Vec::as_slice);
    let ours: Vec<_> = plugins.iter().filter(|plugin| plugin["type"] == PROGRAM).collect();
    if ours.is_empty() {
        return Err(unusable(format!("no plugin in it has the type {PROGRAM}")));
    }
    for plugin in ours {
        let document = decode(plugin.to_string().as_bytes())?;
        Config::read(&document, &Args::default(), "eth0")?;
    }
    Ok((name.to_owned(), text))
}
