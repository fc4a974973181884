//! Puts the program and a configuration where a runtime finds them, and takes them away again.
//!
//! | module | what it is |
//! |---|---|
//! | [`place`] | one file, put in place in one step |
//! | [`programs`] | the folder of plugins |
//! | [`configurations`] | the folder of configurations: ours, and those of others |
//!
//! A runtime may start the program or read the folder at any moment, so nothing is ever half there, and the program is there
//! before the configuration that names it. heddle-node does with these modules what [`Install`] does by hand. Invariant: a
//! folder is never removed, and a file that says already what it should is not touched.

pub mod configurations;
pub mod place;
pub mod programs;

use crate::failure::Failure;
use configurations::{bring_others_back, check_configuration, is_read, put_configuration, set_others_aside};
use place::{Put, failed};
use programs::{Programs, put_programs, remove_programs};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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

impl Install {
    /// Installs, and says what was done, a line each.
    ///
    /// # Errors
    /// A configuration that makes no sense, before anything is done; or the first file that could not be put in place.
    pub fn install(&self) -> Result<Vec<String>, Failure> {
        let configuration = self.configuration.as_deref().map(read_configuration).transpose()?;
        let own = Path::new("/proc/self/exe");
        let program = fs::read(own).map_err(failed("read the program", own))?;
        let mut said = describe_programs(&put_programs(&self.programs, &program)?);
        if let Some((name, text)) = &configuration {
            let place = self.configurations.join(name);
            said.push(describe(&place, put_configuration(&place, text)?));
            if self.exclusive {
                let aside = set_others_aside(&place)?;
                said.extend(aside.iter().map(|path| format!("{}: set aside", path.display())));
            }
        }
        Ok(said)
    }

    /// Takes the configuration away, brings back what was set aside for it, and then takes the program away.
    ///
    /// # Errors
    /// The first file that could not be removed or brought back.
    pub fn uninstall(&self, name: &str) -> Result<Vec<String>, Failure> {
        let place = self.configurations.join(name);
        let what = if remove(&place)? { "removed" } else { "is not there" };
        let mut said = vec![format!("{}: {what}", place.display())];
        let brought = bring_others_back(&self.configurations)?;
        said.extend(brought.iter().map(|path| format!("{}: brought back", path.display())));
        let removed = remove_programs(&self.programs)?;
        said.extend(removed.iter().map(|path| format!("{}: removed", path.display())));
        Ok(said)
    }
}

/// Removes a file, and says whether there was one.
///
/// # Errors
/// When it is still there.
pub fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("remove", path)(e)),
    }
}

fn describe(path: &Path, put: Put) -> String {
    let what = match put {
        Put::New => "installed",
        Put::Replaced => "replaced",
        Put::Unchanged => "is so already",
    };
    format!("{}: {what}", path.display())
}

fn describe_programs(Programs { program, loopback }: &Programs) -> Vec<String> {
    let second = match loopback {
        (path, Some(put)) => describe(path, *put),
        (path, None) => format!("{}: another program, left as it is", path.display()),
    };
    vec![describe(&program.0, program.1), second]
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
    check_configuration(&text).map_err(|failure| unusable(failure.to_line()))?;
    Ok((name.to_owned(), text))
}
