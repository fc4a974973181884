//! Why the process ends, by concern: what the kernel refuses, which address cannot be had, and the rest.

use crate::health::servers::StartError;
use crate::nft::Unable;
use crate::process::ProcessError;
use crate::tuning::Unset;
use crate::watch;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why heddle-proxy ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel refuses something without which there is nothing to do.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A server cannot be started, and the process is not to be without it.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A thread, a signal handler or the runtime could not be set up.
    #[error(transparent)]
    Start(#[from] ProcessError),
    /// The folder of manifests cannot be used.
    #[error(transparent)]
    Manifests(#[from] watch::ManifestsError),
    /// The API server cannot be addressed.
    #[error(transparent)]
    Connect(#[from] watch::ConnectError),
    /// The configuration file changed in what counts only at the start.
    #[error("the configuration file changed: {fields}; this counts at the next start")]
    Configuration {
        /// What changed.
        fields: String,
    },
    /// The configuration could not be written.
    #[error("write the configuration to {}", path.display())]
    WriteConfig {
        /// Where to.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A part ended that never should.
    #[error("{0} ended")]
    Ended(&'static str),
}

/// What the kernel refuses.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// nf_tables cannot be used.
    #[error("open nf_tables (is the kernel built with it, and has the process CAP_NET_ADMIN?)")]
    Open(#[source] heddle_netlink::Error),
    /// It can route no family.
    #[error("route Services: {}", list(.0))]
    Unable(Vec<Unable>),
    /// A limit that was to be set before everything else is not.
    #[error(transparent)]
    Tune(Unset),
    /// Something that was to be removed is still there.
    #[error("{left} of what was to be removed is still there, as said above")]
    Cleanup {
        /// How much.
        left: usize,
    },
}

/// Which server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Those of health.
    #[error(transparent)]
    Health(#[from] StartError),
    /// The address of the metrics server cannot be had, and that is to be fatal.
    #[error("listen on {address} (metricsBindAddress; bindAddressHardFail is true)")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

fn list(unable: &[Unable]) -> String {
    unable.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
