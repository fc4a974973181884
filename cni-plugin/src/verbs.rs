//! The commands: in which order the parts work.
//!
//! ADD takes an address first and makes the link last; on failure it goes back the same way. DEL removes the link first
//! and gives the address back last, so that no address is handed out while a pod still answers to it. Invariant: what
//! will be made is on disk, or follows from the attachment, before it is made: a killed ADD leaves nothing that a DEL
//! does not find.

mod add;
mod additions;
mod check;
mod del;
mod gc;
pub mod loopback;
mod status;

use crate::config::Config;
use crate::failure::Failure;
use crate::node::Node;

pub use add::add;
pub use check::check;
pub use del::del;
pub use gc::gc;
pub use status::status;

/// Fails when VLANs are asked for and the kernel has none. It is the first that is done, so that nothing is left.
fn check_vlans(config: &Config, node: &mut Node) -> Result<(), Failure> {
    match &config.vlans {
        Some(vlans) if !node.has_vlans()? => Err(vlans.unsupported().into()),
        _ => Ok(()),
    }
}
