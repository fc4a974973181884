//! What waits for the first time that all rules stand.

use super::{RunError, prepare, remove, sockets};
use crate::config::Config;
use crate::process::spawn;
use std::sync::mpsc::Receiver;

/// Starts it, where there is anything. `tunes_again` says that limits of the kernel's wait too.
pub(super) fn wait(config: &Config, tunes_again: bool, stands: Receiver<()>) -> Result<(), RunError> {
    let (replaces, lets_go) = (config.replaces_kube_proxy, sockets::is_to_let_go(config));
    if !replaces {
        remove::mind_kube_proxy();
    }
    if !replaces && !tunes_again && !lets_go {
        return Ok(());
    }
    let (config, conntrack, sysctl) = (config.clone(), config.file.conntrack.clone(), config.sysctl.clone());
    spawn("standing", move || {
        if stands.recv().is_err() {
            return;
        }
        if tunes_again {
            prepare::tune_again(sysctl.as_deref(), &conntrack);
        }
        if replaces {
            remove::take_over();
        }
        if lets_go {
            sockets::let_go(&config);
        }
    })?;
    Ok(())
}
