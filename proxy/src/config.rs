//! Flags into a validated [`Config`]; nothing is started here.
//!
//! This is the only place that reads the command line and asks for the host's name.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Services and `EndpointSlices` into nftables: a kube-proxy replacement.
///
/// Objects come from the API server (--kubeconfig, or the in-cluster credentials without it) or from a folder of
/// Kubernetes manifests (--manifests), which needs no cluster. The rules stay when heddle-proxy stops; the next start
/// takes them over.
#[derive(Debug, Parser)]
#[command(name = "heddle-proxy", version, max_term_width = 100)]
struct Flags {
    /// Read Services, EndpointSlices and Nodes from the YAML and JSON files of this folder, and follow its changes.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    manifests: Option<PathBuf>,

    /// Kubeconfig of the API server; without it, the credentials that a pod has.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Address of the API server, in place of the one that kubeconfig or pod have: that one may be a Service which
    /// heddle-proxy itself is to set up.
    #[arg(long, value_name = "URL")]
    master: Option<String>,

    /// How packets are routed.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Mode::Nftables)]
    proxy_mode: Mode,

    /// Name of this node; without it, the host's name.
    #[arg(long, value_name = "NAME")]
    hostname_override: Option<String>,

    /// How much is logged: 0 says what happens, 4 each sync, 6 everything.
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,

    /// How it is logged.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    logging_format: LogFormat,
}

/// A dataplane, by the name that `--proxy-mode` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// nf_tables.
    Nftables,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

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

    fn from_flags<T: Into<std::ffi::OsString> + Clone>(
        args: impl IntoIterator<Item = T>,
        host_name: impl FnOnce() -> String,
    ) -> Result<Self, ConfigError> {
        let flags = Flags::try_parse_from(args)?;
        let node = flags.hostname_override.unwrap_or_else(host_name).trim().to_lowercase();
        if node.is_empty() {
            return Err(ConfigError::NoNodeName);
        }
        let source = match flags.manifests {
            Some(folder) => Source::Manifests(folder),
            None => Source::ApiServer { kubeconfig: flags.kubeconfig, master: flags.master },
        };
        Ok(Self {
            node,
            source,
            mode: flags.proxy_mode,
            verbosity: flags.verbosity,
            log_format: flags.logging_format,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, String> {
        let args = ["heddle-proxy"].iter().chain(args).copied();
        Config::from_flags(args, || "Host.Example ".to_owned()).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_of_the_first_path_are_read() {
        let read =
            config(&["--manifests", "dir", "--proxy-mode", "nftables", "--hostname-override", " Node-1 "]);
        let read = read.unwrap();
        assert_eq!(read.node, "node-1");
        assert_eq!(read.source, Source::Manifests("dir".into()));
        assert_eq!(read.mode, Mode::Nftables);
    }

    /// kp:J1
    #[test]
    fn the_node_is_named_after_the_flag_then_after_the_host_trimmed_and_lower_cased() {
        assert_eq!(config(&[]).unwrap().node, "host.example");
        assert_eq!(config(&["--hostname-override", " A "]).unwrap().node, "a");
        assert!(config(&["--hostname-override", "  "]).unwrap_err().contains("--hostname-override"));
    }

    #[test]
    fn the_api_server_is_the_source_without_manifests() {
        let read = config(&["--kubeconfig", "k", "--master", "https://192.0.2.1:6443"]).unwrap();
        let (kubeconfig, master) = (Some("k".into()), Some("https://192.0.2.1:6443".to_owned()));
        assert_eq!(read.source, Source::ApiServer { kubeconfig, master });
        assert_eq!(config(&[]).unwrap().source, Source::ApiServer { kubeconfig: None, master: None });
    }

    #[test]
    fn wrong_flags_are_named() {
        assert!(config(&["--frobnicate"]).unwrap_err().contains("--frobnicate"));
        assert!(config(&["--proxy-mode", "magic"]).unwrap_err().contains("[possible values: nftables]"));
        assert!(
            config(&["--manifests", "a", "--kubeconfig", "b"]).unwrap_err().contains("cannot be used with")
        );
        assert!(config(&["stray"]).unwrap_err().contains("stray"));
    }
}
