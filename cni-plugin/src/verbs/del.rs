//! DEL.

use crate::failure::Failure;
use crate::lease;
use crate::names;
use crate::node::Node;
use crate::spec::Del;
use crate::verbs::additions;

/// Detaches a container. Whatever is gone already counts as done; the container's namespace is not looked at.
///
/// # Errors
/// When the link or a port cannot be removed, or the lease not given back; a later DEL goes on from there.
pub fn del(request: &Del) -> Result<(), Failure> {
    let closed = additions::remove(&request.attachment);
    Node::open()?.delete_link(&names::host_link(&request.attachment))?;
    let released = lease::release(&request.leases, &request.attachment);
    // The configuration may name another IPAM plugin now than it did at the ADD, so ours is asked in any case.
    let given_back = request.delegate.as_ref().map_or(Ok(()), |delegate| delegate.run("DEL").map(drop));
    let failures = [closed.map(drop), released, given_back].into_iter().filter_map(Result::err);
    failures.reduce(|all, failure| all.and(&failure.to_line())).map_or(Ok(()), Err)
}
