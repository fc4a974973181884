//! What is logged, and how: klog's levels and formats on `tracing`.
//!
//! Not a place to log from. The level can change while the process runs.

use crate::config::LogFormat;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// The libraries under the API server's client.
const TRANSPORT: [&str; 5] = ["h2", "hyper", "hyper_util", "rustls", "tower"];

/// How much is logged, to be changed.
#[derive(Clone, Debug)]
pub struct Verbosity(reload::Handle<Targets, Registry>);

/// Starts to log to standard error, with klog's number for how much.
pub fn start(format: LogFormat, verbosity: u32) -> Verbosity {
    let (filter, handle) = reload::Layer::new(targets(verbosity));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Verbosity(handle)
}

impl Verbosity {
    /// Logs so much from now on.
    pub fn set(&self, verbosity: u32) {
        // It fails only when the logger is gone, and with it everything that could be told.
        let _ = self.0.reload(targets(verbosity));
    }
}

fn targets(verbosity: u32) -> Targets {
    match level(verbosity) {
        // kube warns of each refused watch with the whole answer; we say once what is missing.
        LevelFilter::INFO => {
            Targets::new().with_default(LevelFilter::INFO).with_target("kube_runtime", LevelFilter::ERROR)
        }
        // Each frame of HTTP/2 is news only to who looks for everything.
        LevelFilter::DEBUG => Targets::new()
            .with_default(LevelFilter::DEBUG)
            .with_targets(TRANSPORT.map(|library| (library, LevelFilter::INFO))),
        more => Targets::new().with_default(more),
    }
}

/// klog says each sync from 4 on, and everything from 6 on.
fn level(verbosity: u32) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
