//! Where a report goes: the terminal always, files and a comparison by flags.

use crate::report::{Report, json};
use crate::{Failure, html, markdown, regress};
use clap::Args;
use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The flags of everything that has a report.
#[derive(Clone, Debug, Default, Args)]
pub struct Outputs {
    /// Writes the report there too, as JSON.
    #[arg(long, value_name = "FILE", global = true)]
    pub json: Option<PathBuf>,
    /// Writes it there as one page with plots.
    #[arg(long, value_name = "FILE", global = true)]
    pub html: Option<PathBuf>,
    /// Writes it there as Markdown.
    #[arg(long, value_name = "FILE", global = true)]
    pub markdown: Option<PathBuf>,
    /// Compares with this older report: the exit code says whether something is worse.
    #[arg(long, value_name = "FILE", global = true)]
    pub against: Option<PathBuf>,
    /// What is worse by less, in per cent, is no regression.
    #[arg(long, value_name = "PER CENT", global = true, default_value_t = 5.0, value_parser = per_cent)]
    pub threshold: f64,
}

/// Outputs whose older report was read: before a run, so that a wrong name does not cost one.
#[derive(Debug)]
pub struct Ready<'a> {
    outputs: &'a Outputs,
    older: Option<Report>,
}

impl Outputs {
    /// Reads what there is to read.
    ///
    /// # Errors
    /// When the older report cannot be read.
    pub fn ready(&self) -> Result<Ready<'_>, Failure> {
        let older = self.against.as_deref().map(read).transpose()?;
        Ok(Ready { outputs: self, older })
    }
}

impl Ready<'_> {
    /// Writes the report everywhere. The code says whether it is worse than the older one.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn deliver(&self, report: &Report) -> Result<ExitCode, Failure> {
        let Outputs { json, html, markdown, threshold, .. } = self.outputs;
        write!(stdout(), "{report}")?;
        write_file(json.as_deref(), || format!("{:#}\n", json::write(report)))?;
        write_file(html.as_deref(), || html::write(report))?;
        write_file(markdown.as_deref(), || markdown::write(report))?;
        let Some(older) = &self.older else { return Ok(ExitCode::SUCCESS) };
        writeln!(stdout())?;
        tell(older, report, *threshold)
    }
}

/// Compares two saved reports; `threshold` is in per cent. The code says whether the new one is worse.
///
/// # Errors
/// When one cannot be read.
pub fn compare(old: &Path, new: &Path, threshold: f64) -> Result<ExitCode, Failure> {
    tell(&read(old)?, &read(new)?, threshold)
}

/// Reads a saved report.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read(file: &Path) -> Result<Report, Failure> {
    let failed = |cause: Failure| format!("read {}: {cause}", file.display());
    let text = fs::read_to_string(file).map_err(|cause| failed(cause.into()))?;
    Ok(json::read(&text).map_err(failed)?)
}

fn tell(old: &Report, new: &Report, threshold: f64) -> Result<ExitCode, Failure> {
    let found = regress::compare(old, new, threshold / 100.0);
    write!(stdout(), "{found}")?;
    Ok(found.answer().code().into())
}

fn write_file(file: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    Ok(fs::write(file, text()).map_err(|cause| format!("write {}: {cause}", file.display()))?)
}

fn per_cent(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "this is no number".to_owned())?;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err("this is no share".to_owned()) }
}
