//! Follows the configuration file while the process runs.
//!
//! What can change then, changes; for the rest the process ends, and whoever started it starts it anew. A file that makes
//! no configuration is told of, and the last one that did counts on. So it does when the file cannot be watched: routing does
//! not depend on it.

use super::RunError;
use crate::causes;
use crate::config::{CommandLine, Config, ConfigError, Step};
use crate::logging::Verbosity;
use crate::process::spawn;
use crate::watch::{FileError, WatchedFile};
use std::path::Path;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{error, info};

/// Returns when a new configuration cannot count in this process, with the reason. Without a file, never.
pub(super) async fn follow(
    mut config: Config,
    line: &CommandLine,
    verbosity: Verbosity,
) -> Result<(), RunError> {
    let Some(path) = line.file() else { return std::future::pending().await };
    let mut news = watch(path)?;
    // What was written between the first reading and the watch.
    let mut read = Some(line.config());
    while let Some(now) = read {
        match now {
            Ok(new) => config = take(config, new, &verbosity)?,
            Err(error) => complain(&error),
        }
        read = news.recv().await.map(|()| line.config());
    }
    // The watch is gone, and has said so.
    std::future::pending().await
}

/// The watch blocks, so it has a thread. It ends with the process, or when the file cannot be watched any more.
fn watch(path: &Path) -> Result<UnboundedReceiver<()>, RunError> {
    let (tell, news) = unbounded_channel();
    let watched = WatchedFile::open(path).inspect_err(unwatched);
    if let Ok(mut file) = watched {
        spawn("configuration", move || {
            while let Ok(()) = file.wait().inspect_err(unwatched) {
                if tell.send(()).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(news)
}

fn unwatched(error: &FileError) {
    error!("{}; changes of the configuration count at the next start only", causes::line(error));
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
    error!("{}; the configuration stays as it was", causes::line(error));
}
