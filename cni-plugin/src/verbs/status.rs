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

/// Succeeds when an ADD would.
///
/// # Errors
/// Code 50 when an ADD would fail, 51 when pods that are there have lost their network, too.
pub fn status(request: &Status) -> Result<(), Failure> {
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
    match Node::open()?.find_bridge(&config.bridge) {
        Ok(None) if held => Err(missing("is missing")),
        Ok(Some(bridge)) if held && !bridge.up => Err(missing("is down")),
        Ok(_) => Ok(()),
        Err(error @ apply::Error::NotABridge { .. }) => Err(Failure { code: 50, ..Failure::from(error) }),
        Err(error) => Err(error.into()),
    }
}
