//! What is done once and before everything else, and the tasks that end with it.

use super::{KernelError, RunError};
use crate::config::{Config, Conntrack};
use crate::nft::{Abilities, Netlink, probe};
use crate::tuning::{self, Files, Unset};
use heddle_netlink::nft::TableFamily;
use std::fs;
use std::path::Path;
use tracing::{info, warn};

/// Where the kernel's files are.
const ROOT: &str = "/";
const PROC: &str = "/proc";

/// Writes the configuration to a file, in kube-proxy's form.
///
/// # Errors
/// When the file cannot be written.
pub fn write_config(config: &Config, path: &Path) -> Result<(), RunError> {
    fs::write(path, config.print())
        .map_err(|source| RunError::WriteConfig { path: path.to_owned(), source })?;
    info!(path = %path.display(), "wrote the configuration");
    Ok(())
}

/// Does what needs full privileges, and looks whether nf_tables can be used.
///
/// # Errors
/// What could not be done.
pub fn init(config: &Config) -> Result<(), RunError> {
    let mut kernel = Netlink::open().map_err(KernelError::Open)?;
    routable(&mut kernel)?;
    let (absent, refused) = tune(config);
    if !absent.is_empty() {
        warn!(
            "left to the process that writes rules, since the kernel does not have it yet: {}",
            list(&absent)
        );
    }
    refused.into_iter().next().map_or(Ok(()), |first| Err(KernelError::Tune(first).into()))
}

/// The families that the kernel can route. What it cannot is said once.
pub(super) fn routable(kernel: &mut Netlink) -> Result<Vec<TableFamily>, RunError> {
    let Abilities { able, unable } = probe::probe(kernel, probe::has_ipv6(PROC.as_ref()));
    if able.is_empty() {
        return Err(KernelError::Unable(unable).into());
    }
    for unable in unable {
        let family = unable.family;
        if unable.lacks.is_empty() {
            info!("no {family} Service is routed: {unable}");
        } else {
            warn!("no {family} Service is routed: {unable}");
        }
    }
    Ok(able)
}

/// Sets the kernel's limits. What cannot be set is said in one line, and done without. Returns whether files that the kernel
/// does not have yet are to be tried again once rules stand.
pub(super) fn tune_as_far_as_possible(config: &Config) -> bool {
    let (absent, mut refused) = tune(config);
    refused.extend(tuning::set_oom_score(ROOT.as_ref(), config.file.oom_score_adj.0).err());
    say(&refused);
    !absent.is_empty()
}

/// Sets the limits whose files the kernel may have by now, since rules stand.
pub(super) fn tune_again(sysctl: Option<&Path>, conntrack: &Conntrack) {
    say(&tuning::set_conntrack(Files { root: ROOT.as_ref(), sysctl }, conntrack));
}

/// Sets the limits. Returns those whose files the kernel does not have, and those that it refuses.
fn tune(config: &Config) -> (Vec<Unset>, Vec<Unset>) {
    let files = Files { root: ROOT.as_ref(), sysctl: config.sysctl.as_deref() };
    tuning::set_conntrack(files, &config.file.conntrack).into_iter().partition(Unset::is_absent)
}

fn say(failures: &[Unset]) {
    if !failures.is_empty() {
        warn!("done without, see --init-only: {}", list(failures));
    }
}

fn list(failures: &[Unset]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
