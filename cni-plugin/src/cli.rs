//! What people start the program for, by arguments; a runtime gives none.
//!
//! It does not answer a runtime (that is [`run`](crate::run)). Invariant: an argument that is not known changes nothing.

use crate::ABOUT;
use crate::args::Args;
use crate::config::Config;
use crate::config::ipam::Ipam;
use crate::failure::Failure;
use crate::import;
use crate::install::Install;
use crate::spec::decode;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// How it is used.
pub const USAGE: &str = "\
usage: heddle-cni install [--bin-dir FOLDER] [--config FILE] [--conf-dir FOLDER] [--exclusive]
           puts the program, also as loopback, into FOLDER (default /opt/cni/bin), then FILE, if there is one, into the
           runtime's folder (default /etc/cni/net.d) under its own name; --exclusive sets other configurations aside
       heddle-cni uninstall [--bin-dir FOLDER] [--conf-dir FOLDER] [--name NAME]
           removes the configuration NAME (default 10-heddle.conflist), brings back what was set aside, and removes
           the program: once no pod is left that needs it for its end
       heddle-cni --version
       heddle-cni import-host-local [--config FILE] [--from FOLDER]
           takes over the leases of the host-local plugin, so that its pods go on under heddle-cni;
           FILE is the network's new configuration (default /etc/cni/net.d/10-heddle.conflist),
           FOLDER what host-local kept for it (default /var/lib/cni/networks/NAME)
";
const CONFIG: &str = "/etc/cni/net.d/10-heddle.conflist";
const NAME: &str = "10-heddle.conflist";
const HOST_LOCAL: &str = "/var/lib/cni/networks";

/// What is told, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What was done.
    pub stdout: String,
    /// What was not, or what this program is.
    pub stderr: String,
    /// Whether the exit code is zero.
    pub success: bool,
}

/// Does what the arguments ask.
pub fn run(arguments: &[String]) -> Said {
    match answer(arguments) {
        _ if arguments.is_empty() => Said { stderr: ABOUT.to_owned(), success: true, ..Said::default() },
        Ok(stdout) => Said { stdout, success: true, ..Said::default() },
        Err(failure) => Said { stderr: format!("error: {}\n", failure.to_line()), ..Said::default() },
    }
}

fn answer(arguments: &[String]) -> Result<String, Failure> {
    match arguments.split_first() {
        Some((command, options)) if command == "import-host-local" => import_host_local(options),
        Some((command, options)) if command == "install" => install(options),
        Some((command, options)) if command == "uninstall" => uninstall(options),
        Some((version, _)) if version == "--version" => {
            Ok(concat!("heddle-cni ", env!("CARGO_PKG_VERSION"), "\n").to_owned())
        }
        Some((help, _)) if ["help", "--help", "-h"].contains(&&**help) => Ok(USAGE.to_owned()),
        _ => Err(misused("no such command")),
    }
}

fn install(options: &[String]) -> Result<String, Failure> {
    let mut install = Install::default();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut value = || options.next().ok_or_else(|| misused(&format!("{option} needs a value")));
        match option.as_str() {
            "--bin-dir" => install.programs = value()?.into(),
            "--conf-dir" => install.configurations = value()?.into(),
            "--config" => install.configuration = Some(value()?.into()),
            "--exclusive" => install.exclusive = true,
            other => return Err(misused(&format!("{other} is not understood"))),
        }
    }
    install.install().map(lines)
}

fn uninstall(options: &[String]) -> Result<String, Failure> {
    let (mut install, mut name) = (Install::default(), NAME);
    for pair in options.chunks(2) {
        match pair {
            [option, value] if option == "--bin-dir" => install.programs = value.into(),
            [option, value] if option == "--conf-dir" => install.configurations = value.into(),
            [option, value] if option == "--name" && !value.contains('/') => name = value,
            _ => return Err(misused(&format!("{} is not understood", pair.join(" ")))),
        }
    }
    install.uninstall(name).map(lines)
}

fn lines(said: Vec<String>) -> String {
    said.into_iter().map(|line| line + "\n").collect()
}

fn import_host_local(options: &[String]) -> Result<String, Failure> {
    let (mut config, mut from) = (PathBuf::from(CONFIG), None);
    for pair in options.chunks(2) {
        match pair {
            [option, value] if option == "--config" => config = value.into(),
            [option, value] if option == "--from" => from = Some(PathBuf::from(value)),
            _ => return Err(misused(&format!("{} is not understood", pair.join(" ")))),
        }
    }
    let (network, keys) = read_configuration(&config)?;
    let document = decode(Value::Object(keys).to_string().as_bytes())?;
    let Some(Ipam::Own(own)) = Config::read(&document, &Args::default(), "eth0")?.ipam else {
        return Err(unusable(&config, "its ipam.type is not heddle"));
    };
    let from = from.unwrap_or_else(|| Path::new(HOST_LOCAL).join(&network));
    let imported = import::import(&from, &own, &network)?;
    let into = own.leases.join(&network);
    let said = format!("from {} into {}:\n{imported}", from.display(), into.display());
    if imported.refused.is_empty() {
        return Ok(said);
    }
    let msg = "some leases were not taken over".to_owned();
    Err(Failure { code: 101, msg, details: said })
}

/// The network's name and the configuration of its plugin, from a list or from a plugin's own file.
fn read_configuration(path: &Path) -> Result<(String, Map<String, Value>), Failure> {
    let text = fs::read(path).map_err(|e| unusable(path, &e.to_string()))?;
    let mut file: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|e| unusable(path, &e.to_string()))?;
    let name = file.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_ours = |plugin: &&Value| plugin["ipam"]["type"] == "heddle";
    if let Some(Value::Array(plugins)) = file.remove("plugins") {
        let ours = plugins.iter().find(is_ours).and_then(Value::as_object);
        file = ours.cloned().ok_or_else(|| unusable(path, "no plugin in it has the ipam.type heddle"))?;
    }
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(unusable(path, "its network has no name"));
    }
    file.insert("name".to_owned(), Value::String(name.clone()));
    Ok((name, file))
}

fn unusable(path: &Path, problem: &str) -> Failure {
    Failure { code: 7, msg: format!("use {}", path.display()), details: problem.to_owned() }
}

fn misused(problem: &str) -> Failure {
    Failure { code: 4, msg: problem.to_owned(), details: USAGE.to_owned() }
}
