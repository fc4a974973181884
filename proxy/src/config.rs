//! The command line into a validated [`Config`]; nothing is started here.
//!
//! This is the only place that asks for the process's command line and for the host's name.

mod flags;

pub use self::flags::{LogFormat, Mode};

use self::flags::{Flags, LocalMode};
use crate::nft::settings::{Locality, NodePortAddresses, Settings};
use clap::Parser;
use std::path::PathBuf;

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder of manifests.
    Manifests(PathBuf),
    /// The API server.
    ApiServer {
        /// Its address and our credentials; without it, those that a pod has.
        kubeconfig: Option<PathBuf>,
        /// Its address, whatever the credentials say.
        master: Option<String>,
    },
}

/// What heddle-proxy is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this node, trimmed and in lower case.
    pub node: String,
    /// Where objects come from.
    pub source: Source,
    /// How packets are routed.
    pub mode: Mode,
    /// What is decided about it.
    pub settings: Settings,
    /// 0 to 255, as klog's.
    pub verbosity: u8,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Why the flags make no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The flags are wrong, or help or the version was asked for; clap says it.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// `--nodeport-addresses` has something that is no network.
    #[error("--nodeport-addresses: {value:?} is neither a network nor, alone, \"primary\"")]
    NodePortAddresses {
        /// What it has.
        value: String,
    },
    /// The node has no name.
    #[error("the node has no name: give one with --hostname-override")]
    NoNodeName,
}

impl Config {
    /// Reads the process's command line.
    ///
    /// # Errors
    /// When a flag is unknown or its value makes no sense.
    pub fn from_args() -> Result<Self, ConfigError> {
        Self::from_flags(std::env::args_os(), || {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        })
    }

    /// Reads a command line, whose first word is the program's name. The host's name is asked for when no flag has one.
    ///
    /// # Errors
    /// When a flag is unknown or its value makes no sense.
    pub fn from_flags<T: Into<std::ffi::OsString> + Clone>(
        args: impl IntoIterator<Item = T>,
        host_name: impl FnOnce() -> String,
    ) -> Result<Self, ConfigError> {
        let flags = Flags::try_parse_from(args)?;
        let node = flags.hostname_override.clone().unwrap_or_else(host_name).trim().to_lowercase();
        if node.is_empty() {
            return Err(ConfigError::NoNodeName);
        }
        let settings = settings(&flags)?;
        let source = match flags.manifests {
            Some(folder) => Source::Manifests(folder),
            None => Source::ApiServer { kubeconfig: flags.kubeconfig, master: flags.master },
        };
        Ok(Self {
            node,
            source,
            mode: flags.proxy_mode,
            settings,
            verbosity: flags.verbosity,
            log_format: flags.logging_format,
        })
    }
}

fn settings(flags: &Flags) -> Result<Settings, ConfigError> {
    let locality = match flags.detect_local_mode {
        LocalMode::ClusterCidr if flags.cluster_cidr.is_empty() => Locality::Unknown,
        LocalMode::ClusterCidr => Locality::Networks(flags.cluster_cidr.clone()),
        LocalMode::NodeCidr => Locality::NodeNetworks,
        LocalMode::BridgeInterface => {
            Locality::Interface(flags.pod_bridge_interface.clone().unwrap_or_default())
        }
        LocalMode::InterfaceNamePrefix => Locality::Interface(format!(
            "{}*",
            flags.pod_interface_name_prefix.as_deref().unwrap_or_default()
        )),
    };
    let node_port_addresses = match &flags.nodeport_addresses[..] {
        [one] if one == "primary" => NodePortAddresses::Primary,
        networks => NodePortAddresses::Networks(
            networks
                .iter()
                .map(|text| text.parse().map_err(|_| ConfigError::NodePortAddresses { value: text.clone() }))
                .collect::<Result<_, _>>()?,
        ),
    };
    Ok(Settings { locality, masquerade_all: flags.masquerade_all, node_port_addresses })
}

#[cfg(test)]
mod tests;
