//! heddle-proxy's process: flags, logging, run, exit code.

use heddle_proxy::config::{Config, ConfigError, LogFormat};
use heddle_proxy::run;
use std::error::Error;
use std::process::ExitCode;
use tracing::{error, info};
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let config = match Config::from_args() {
        Ok(config) => config,
        Err(ConfigError::Flags(error)) => error.exit(),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "nothing is set up yet that could log it")]
            {
                eprintln!("error: {error}");
            }
            return ExitCode::from(2);
        }
    };
    start_logging(&config);
    match run::run(&config) {
        Ok(()) => {
            info!("stopped; the rules stay");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            error!("{}", with_causes(&failure));
            ExitCode::FAILURE
        }
    }
}

fn start_logging(config: &Config) {
    let level = match config.verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let lines =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    match config.log_format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// The error and what caused it, in one line. A cause whose text its effect already tells is not told twice.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
