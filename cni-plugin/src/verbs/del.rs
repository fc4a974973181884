//! DEL.

use crate::failure::Failure;
use crate::lease;
use crate::names;
use crate::node::Node;
use crate::spec::Del;

/// Detaches a container. Whatever is gone already counts as done; the container's namespace is not looked at.
///
/// # Errors
/// When the link cannot be removed or the lease not given back; a later DEL goes on from there.
pub fn del(request: &Del) -> Result<(), Failure> {
    Node::open()?.delete_link(&names::host_link(&request.attachment))?;
    lease::release(&request.leases, &request.attachment)
}
