//! The flags of logging, which count beside a configuration file too.

use super::super::duration::GoDuration;
use super::super::file::{File, VmoduleItem};
use super::put;
use clap::Args;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(super) struct LoggingFlags {
    /// How much is logged: 0 says what happens, 4 each sync, 6 everything.
    #[arg(short = 'v', long = "v", value_name = "LEVEL")]
    verbosity: Option<u32>,
    /// How it is logged: text or json.
    #[arg(long, value_name = "FORMAT")]
    logging_format: Option<String>,
    /// Accepted, without effect.
    #[arg(long, value_name = "PATTERN=LEVEL", value_delimiter = ',', value_parser = vmodule)]
    vmodule: Option<Vec<VmoduleItem>>,
    /// Accepted, without effect: every line is written at once.
    #[arg(long, value_name = "DURATION")]
    log_flush_frequency: Option<GoDuration>,
    /// Accepted, without effect.
    #[arg(long)]
    log_text_split_stream: Option<bool>,
    /// Accepted, without effect.
    #[arg(long, value_name = "QUANTITY")]
    log_text_info_buffer_size: Option<String>,
    /// Accepted, without effect.
    #[arg(long)]
    log_json_split_stream: Option<bool>,
    /// Accepted, without effect.
    #[arg(long, value_name = "QUANTITY")]
    log_json_info_buffer_size: Option<String>,
}

impl LoggingFlags {
    pub(super) fn apply(&self, file: &mut File) {
        let logging = &mut file.logging;
        put(&mut logging.verbosity, self.verbosity);
        put(&mut logging.format, self.logging_format.clone());
        put(&mut logging.flush_frequency, self.log_flush_frequency);
        put(&mut logging.options.text.split_stream, self.log_text_split_stream);
        put(&mut logging.options.json.split_stream, self.log_json_split_stream);
        put(
            &mut logging.options.text.info_buffer_size,
            self.log_text_info_buffer_size.clone().map(Into::into),
        );
        put(
            &mut logging.options.json.info_buffer_size,
            self.log_json_info_buffer_size.clone().map(Into::into),
        );
        // The flags' come first, and so win over the file's.
        let of_flags = self.vmodule.iter().flatten().cloned();
        logging.vmodule = of_flags.chain(std::mem::take(&mut logging.vmodule)).collect();
    }
}

fn vmodule(text: &str) -> Result<VmoduleItem, String> {
    let (pattern, level) = text.split_once('=').ok_or_else(|| format!("{text:?} is not pattern=level"))?;
    let verbosity = level.parse().map_err(|_| format!("{level:?} is not a level"))?;
    Ok(VmoduleItem { file_pattern: pattern.to_owned(), verbosity })
}
