//! STATUS: would an ADD succeed, and do pods that are there have their network?
//!
//! containerd asks every five seconds and waits without a limit, so it makes nothing and waits for
//! nothing.

use crate::apply;
use crate::config::ipam::{Ipam, Own};
use crate::config::{Config, Mode};
use crate::failure::Failure;
use crate::lease;
use crate::node::Node;
use crate::spec::Status;
use rustix::fs::{Access, access};
use std::path::Path;
use std::time::Duration;

/// Succeeds when an ADD would.
///
/// # Errors
/// Code 50 when an ADD would fail, 51 when pods that are there have lost their network, too.
pub fn status(request: &Status) -> Result<(), Failure> {
    if let Some((file, max_age)) = &request.config.agent {
        check_agent(file, *max_age)?;
    }
    let held = match &request.config.ipam {
        Some(Ipam::Own(own)) => check_leases(own, &request.network)?,
        Some(Ipam::Delegate(delegate)) => {
            delegate.run("STATUS")?;
            false
        }
        None => false,
    };
    match request.config.mode {
        Mode::Bridge => check_bridge(&request.config, held),
        Mode::Ptp => Ok(()),
    }
}

/// The agent touches the file as long as the network between the nodes works.
fn check_agent(file: &Path, max_age: Duration) -> Result<(), Failure> {
    let stale = |details| {
        let msg = format!("the node's agent has not touched {} for {} s", file.display(), max_age.as_secs());
        Failure { code: 50, msg, details }
    };
    let touched = file.metadata().and_then(|file| file.modified()).map_err(|e| stale(e.to_string()))?;
    // A file from the future was touched before the clock was set back.
    let age = touched.elapsed().unwrap_or_default();
    if age > max_age { Err(stale(format!("the last time was {} s ago", age.as_secs()))) } else { Ok(()) }
}

/// Whether anybody holds an address.
fn check_leases(own: &Own, network: &str) -> Result<bool, Failure> {
    let folder = own.leases.join(network);
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(&folder);
    let unusable = |details| {
        let msg = format!("leases cannot be written below {}", there.display());
        Failure { code: 50, msg, details }
    };
    if !there.is_dir() {
        return Err(unusable("it is no folder".to_owned()));
    }
    access(there, Access::WRITE_OK).map_err(|e| unusable(std::io::Error::from(e).to_string()))?;
    lease::is_in_use(own, network).map_err(|failure| Failure { code: 50, ..failure })
}

/// A bridge that is missing is made by the next ADD, but pods that were connected to it are cut off.
fn check_bridge(config: &Config, held: bool) -> Result<(), Failure> {
    let missing = |what: &str| Failure {
        code: 51,
        msg: format!("bridge {} {what}, and pods are connected to it", config.bridge),
        details: "pods that are made anew are connected again".to_owned(),
    };
    let mut node = Node::open()?;
    super::check_vlans(config, &mut node).map_err(|failure| Failure { code: 50, ..failure })?;
    match node.find_bridge(&config.bridge) {
        Ok(None) if held => Err(missing("is missing")),
        Ok(Some(bridge)) if held && !bridge.up => Err(missing("is down")),
        Ok(_) => Ok(()),
        Err(error @ apply::Error::NotABridge { .. }) => Err(Failure { code: 50, ..Failure::from(error) }),
        Err(error) => Err(error.into()),
    }
}
