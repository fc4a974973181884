//! What is removed: our rules and programs, when we are told to; kube-proxy's, when we take its place.
//!
//! Taking its place is make before break: its rules go once ours stand, so that at every moment a new connection finds
//! rules that mean the same, and connections that are tracked stay as they are.

use super::{KernelError, RunError, sockets};
use crate::cleanup::{self, Outcome};
use crate::config::Config;
use heddle_netlink::{Error, Family, Socket};
use tracing::{error, info, warn};

/// Removes our rules and programs, and what is kube-proxy's when that is asked for.
///
/// # Errors
/// When something is still there.
pub fn cleanup(config: &Config) -> Result<(), RunError> {
    let at_sockets = cleanup::at_sockets(&sockets::pins(config));
    let mut outcomes = vec![("heddle-proxy at sockets", Ok(at_sockets)), ("heddle-proxy", cleanup::ours())];
    if config.replaces_kube_proxy {
        outcomes.push(("kube-proxy", cleanup::kube_proxys()));
    }
    let mut left = 0;
    for (whose, outcome) in outcomes {
        let outcome = outcome.map_err(KernelError::Open)?;
        say(whose, &outcome);
        left += outcome.failures.len();
    }
    if left == 0 { Ok(()) } else { Err(KernelError::Cleanup { left }.into()) }
}

fn say(whose: &str, outcome: &Outcome) {
    info!("removed of {whose}: {}", cleanup::list(&outcome.removed));
    outcome.failures.iter().for_each(|failure| error!("{failure}"));
    outcome.left.iter().for_each(|left| warn!("left alone: {left}"));
}

/// Says that kube-proxy's rules are there.
pub(super) fn mind_kube_proxy() {
    let is_here =
        Socket::open(Family::Netfilter).and_then(|mut socket| cleanup::is_kube_proxy_here(&mut socket));
    // What keeps us from asking is said by the first write.
    if is_here.unwrap_or(false) {
        warn!(
            "rules of kube-proxy are in this kernel: if it runs, stop it; --cleanup-kube-proxy removes them once our own \
             stand"
        );
    }
}

/// Removes kube-proxy's rules, now that ours stand.
pub(super) fn take_over() {
    match cleanup::kube_proxys() {
        Ok(outcome) => say("kube-proxy", &outcome),
        Err(source) => not_removed(&source),
    }
}

fn not_removed(source: &Error) {
    error!("remove what kube-proxy left: {source}");
}
