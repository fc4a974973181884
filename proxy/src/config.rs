//! Command line and configuration file into a validated [`Config`]; nothing is started here.
//!
//! This is the only place that asks for the process's command line and for the host's name, and that reads the
//! configuration file. The file is kube-proxy's, `kubeproxy.config.k8s.io/v1alpha1`; docs/configuration.md has the table
//! of what its fields mean here.

mod decode;
mod duration;
mod file;
mod flags;
mod gates;
mod meaning;
mod print;
mod tree;
mod validate;
mod values;

pub use self::decode::DecodeError;
pub use self::duration::{DurationError, GoDuration};
pub use self::file::{Conntrack, File};
pub use self::validate::Invalid;
pub use self::values::socket_address;

use self::flags::Flags;
use crate::ebpf::Places;
use crate::health::servers::Probes;
use crate::nft::settings::Settings;
use crate::watch::Scope;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

/// The mode that serves Services at sockets.
const EBPF: &str = "ebpf";

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder of manifests.
    Manifests(PathBuf),
    /// The API server.
    ApiServer {
        /// Its address and our credentials; without it, those that a pod has.
        kubeconfig: Option<PathBuf>,
        /// Its addresses, separated by commas, whatever the credentials say.
        master: Option<String>,
    },
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What this process is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// To route until it is stopped.
    Run,
    /// To do what needs full privileges, and end.
    Init,
    /// To write the configuration to a file, and end.
    WriteConfig(PathBuf),
    /// To remove the rules, and end.
    Cleanup,
}

/// What heddle-proxy is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What this process is for.
    pub task: Task,
    /// What kube-proxy left in the kernel is to be removed.
    pub replaces_kube_proxy: bool,
    /// Name of this node, trimmed and in lower case.
    pub node: String,
    /// The node's own address, in place of the first that its object has of this family.
    pub node_address: Option<IpAddr>,
    /// Services' external IPs are served.
    pub serves_external_ips: bool,
    /// Where objects come from.
    pub source: Source,
    /// What is decided about routing.
    pub settings: Settings,
    /// Services are served at sockets where that can be.
    pub serves_sockets: bool,
    closes_stale_tcp: bool,
    /// Where sockets are found, and the programs that serve them.
    pub places: Places,
    /// Where metrics are served, if anywhere.
    pub metrics_address: Option<SocketAddr>,
    /// The socket on which questions are answered; `None` for none.
    pub status_socket: Option<PathBuf>,
    /// Where the kernel's settings are written, if not in `/proc/sys`.
    pub sysctl: Option<PathBuf>,
    /// Where health is asked for, if anywhere.
    pub probes: Option<Probes>,
    /// The measure of how long writes may fail before the node counts as unhealthy.
    pub sync_period: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// All of it, in kube-proxy's fields, defaults filled in.
    pub file: File,
    /// What whoever configured it should know.
    pub remarks: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The flags are wrong, or help or the version was asked for; clap says it.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// The file cannot be read.
    #[error("read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("the configuration file {}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// Values make no sense.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Invalid>),
    /// The node has no name.
    #[error("hostnameOverride: the node has no name; give one here or with --hostname-override")]
    NoNodeName,
}

/// What has been decided when the process was started, whatever the file says later.
#[derive(Clone, Debug)]
pub struct CommandLine {
    flags: Flags,
    host_name: String,
    /// Flags that a file makes ignored.
    ignored: Vec<String>,
}

impl CommandLine {
    /// Reads the process's own.
    ///
    /// # Errors
    /// When a flag is unknown or its value is not of its type.
    pub fn of_process() -> Result<Self, ConfigError> {
        Self::read(std::env::args_os(), &rustix::system::uname().nodename().to_string_lossy())
    }

    /// Reads one whose first word is the program's name, on a host of this name.
    ///
    /// # Errors
    /// As [`CommandLine::of_process`].
    pub fn read<T: Into<OsString> + Clone>(
        args: impl IntoIterator<Item = T>,
        host_name: &str,
    ) -> Result<Self, ConfigError> {
        let (flags, ignored) = Flags::read(args)?;
        Ok(Self { flags, host_name: host_name.to_owned(), ignored })
    }

    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.flags.config.as_deref()
    }

    /// The configuration, the file read if there is one.
    ///
    /// # Errors
    /// When there is none.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let Some(path) = self.file() else {
            return self.settle(self.flags.file(), Vec::new());
        };
        let error = |source| ConfigError::Read { path: path.to_owned(), source };
        let bytes = fs::read(path).map_err(error)?;
        let text = String::from_utf8(bytes).map_err(|source| error(io::Error::other(source)))?;
        let decoded = decode::decode(text.strip_prefix('\u{feff}').unwrap_or(&text));
        let (mut file, mut remarks) =
            decoded.map_err(|source| ConfigError::Decode { path: path.to_owned(), source })?;
        self.flags.override_in(&mut file);
        if !self.ignored.is_empty() {
            remarks.push(format!("ignored beside --config: {}", self.ignored.join(" ")));
        }
        self.settle(file, remarks)
    }

    fn settle(&self, mut file: File, mut remarks: Vec<String>) -> Result<Config, ConfigError> {
        let invalid = validate::validate(&file);
        if !invalid.is_empty() {
            return Err(ConfigError::Invalid(invalid));
        }
        let given = [&file.hostname_override, &self.host_name].into_iter().find(|name| !name.is_empty());
        let node = given.map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty());
        let node = node.ok_or(ConfigError::NoNodeName)?;
        if self.flags.hostname_override.is_some() {
            file.hostname_override.clone_from(&node);
        }
        remarks.extend(meaning::remarks(&file));
        Ok(Config {
            task: self.task(),
            replaces_kube_proxy: self.flags.cleanup_kube_proxy == Some(true),
            node,
            node_address: meaning::node_address(&file),
            serves_external_ips: gates::is_on(gates::EXTERNAL_IPS, &file.feature_gates),
            source: meaning::source(&file, self.flags.master.as_deref()),
            settings: meaning::settings(&file),
            serves_sockets: file.mode == EBPF || self.flags.asks_for_sockets(),
            closes_stale_tcp: file.heddle.close_stale_tcp,
            places: self.places(),
            metrics_address: meaning::metrics_address(&file),
            status_socket: Some(&self.flags.status_socket).filter(|path| !path.is_empty()).map(PathBuf::from),
            sysctl: self.flags.sysctl_dir.clone(),
            probes: meaning::probes(&file),
            sync_period: meaning::sync_period(&file),
            log_format: if file.logging.format == "json" { LogFormat::Json } else { LogFormat::Text },
            file,
            remarks,
        })
    }

    fn places(&self) -> Places {
        let Flags { cgroup_root, bpf_root, netns_dir, .. } = &self.flags;
        Places { cgroup: cgroup_root.clone(), pins: bpf_root.clone(), namespaces: netns_dir.clone() }
    }

    fn task(&self) -> Task {
        match &self.flags.write_config_to {
            Some(path) => Task::WriteConfig(path.clone()),
            None if self.flags.cleanup == Some(true) => Task::Cleanup,
            None if self.flags.init_only == Some(true) => Task::Init,
            None => Task::Run,
        }
    }
}

/// What a new configuration asks of a running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it means what the old one means.
    Nothing,
    /// To log as much as it says.
    Verbosity(u32),
    /// To start anew, since these fields count only at the start.
    Restart(Vec<String>),
}

impl Config {
    /// What is to be done for `new` to count in place of this one.
    pub fn step_to(&self, new: &Self) -> Step {
        const VERBOSITY: &str = "logging.verbosity";
        let changed = meaning::changed(&self.file, &new.file);
        let counts = meaning::has_effect;
        let mut changed: Vec<String> = changed
            .into_iter()
            .filter(|field| counts(field, &self.file) && counts(field, &new.file))
            .collect();
        let before = changed.len();
        changed.retain(|field| field != VERBOSITY);
        match (changed.len(), before) {
            (0, 0) => Step::Nothing,
            (0, _) => Step::Verbosity(new.file.logging.verbosity),
            _ => Step::Restart(changed),
        }
    }

    /// How packets are routed, as the field `mode` names it.
    pub fn mode(&self) -> &'static str {
        if self.serves_sockets { EBPF } else { "nftables" }
    }

    /// Whether TCP connections that sockets made to an endpoint that is gone are closed.
    pub fn closes_stale_tcp(&self) -> bool {
        self.serves_sockets && self.closes_stale_tcp
    }

    /// What the source of objects is asked for: pods where sockets are served, and nowhere else.
    pub fn scope(&self) -> Scope<'_> {
        Scope { node: Some(&self.node), pods: self.serves_sockets }
    }

    /// The configuration as a file that says the same.
    pub fn print(&self) -> String {
        print::print(&self.file)
    }
}

#[cfg(test)]
mod tests;
