//! What the program does from its first to its last line: configuration, logging, run, exit code.
//!
//! It is a library's because heddle-node, started under the name heddle-proxy, is this program too. Invariant: everything that
//! it is told is in the process's arguments and environment.

use crate::config::{CommandLine, Config, ConfigError, Task};
use crate::look::command;
use crate::{causes, logging, memory, run};
use std::ffi::OsString;
use std::process::ExitCode;
use tracing::{error, info, warn};

/// Runs it to its end.
pub fn main() -> ExitCode {
    memory::keep_little();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if command::is_asked(&arguments) {
        return command::run(&arguments);
    }
    let read = CommandLine::of_process().and_then(|line| line.config().map(|config| (line, config)));
    match read {
        Ok((line, config)) => start(&line, &config),
        Err(ConfigError::Flags(error)) => error.exit(),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "nothing is set up yet that could log it")]
            {
                eprintln!("error: {}", causes::line(&error));
            }
            ExitCode::from(2)
        }
    }
}

fn start(line: &CommandLine, config: &Config) -> ExitCode {
    let verbosity = logging::start(config.log_format, config.file.logging.verbosity);
    for remark in &config.remarks {
        warn!("{remark}");
    }
    let ended = match &config.task {
        Task::WriteConfig(path) => run::write_config(config, path),
        Task::Init => run::init(config),
        Task::Cleanup => run::cleanup(config),
        Task::Run => run::run(config, line, verbosity).inspect(|()| info!("stopped; the rules stay")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{}", causes::line(&failure));
            ExitCode::FAILURE
        }
    }
}
