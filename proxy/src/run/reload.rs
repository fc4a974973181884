//! Follows the configuration file while the process runs.
//!
//! What can change then, changes; for the rest the process ends, and whoever started it starts it anew. A file that makes
//! no configuration is told of, and the last one that did counts on.

use super::{RunError, spawn};
use crate::config::{CommandLine, Config, ConfigError, Step};
use crate::logging::Verbosity;
use crate::watch::WatchedFile;
use std::error::Error;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{error, info};

/// Returns when a new configuration cannot count in this process, with the reason. Without a file, never.
pub(super) async fn follow(
    mut config: Config,
    line: &CommandLine,
    verbosity: Verbosity,
) -> Result<(), RunError> {
    let Some(path) = line.file() else { return std::future::pending().await };
    let watched = WatchedFile::open(path)?;
    let mut news = watch(watched)?;
    // What was written between the first reading and the watch.
    let mut read = Some(line.config());
    loop {
        match read {
            Some(Ok(new)) => config = take(config, new, &verbosity)?,
            Some(Err(error)) => complain(&error),
            None => return Err(RunError::Ended("the watch of the configuration file")),
        }
        read = news.recv().await.map(|()| line.config());
    }
}

/// The watch blocks, so it has a thread. It ends with the process, or when the file cannot be watched any more.
fn watch(mut file: WatchedFile) -> Result<UnboundedReceiver<()>, RunError> {
    let (tell, news) = unbounded_channel();
    spawn("configuration", move || {
        while let Ok(()) = file.wait().inspect_err(|error| error!("{error}")) {
            if tell.send(()).is_err() {
                return;
            }
        }
    })?;
    Ok(news)
}

fn take(old: Config, new: Config, verbosity: &Verbosity) -> Result<Config, RunError> {
    match old.step_to(&new) {
        Step::Nothing => return Ok(old),
        Step::Verbosity(level) => {
            verbosity.set(level);
            info!(level, "the configuration file changed how much is logged");
        }
        Step::Restart(fields) => return Err(RunError::Configuration { fields: fields.join(", ") }),
    }
    Ok(new)
}

fn complain(error: &ConfigError) {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    error!("{error}{cause}; the configuration stays as it was");
}
