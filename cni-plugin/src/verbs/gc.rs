//! GC: what attachments left that are no more.
//!
//! Links are found by what their aliases say, leases by the lease file, host ports by their comments: each may be there
//! without the others. Invariant:
//! nothing of another network is touched, and an address whose link could not be removed stays held.

use crate::failure::Failure;
use crate::lease;
use crate::names;
use crate::node::Node;
use crate::spec::{Attachment, Gc};
use crate::verbs::additions;
use std::collections::BTreeSet;

/// Removes links, leases and host ports of this network that belong to none of the valid attachments. When the runtime does not say
/// which are valid, nothing is removed.
///
/// # Errors
/// Everything that could not be removed, after all the rest was.
pub fn gc(request: &Gc) -> Result<(), Failure> {
    let mut troubles = Vec::new();
    if let Some(valid) = &request.valid {
        collect(request, valid, &mut troubles)?;
    }
    let delegated = request.delegate.as_ref().map(|delegate| delegate.run("GC"));
    troubles.extend(delegated.and_then(Result::err).map(|failure| failure.to_line()));
    Failure::collected(109, "garbage collection left something behind", &troubles)
}

fn collect(request: &Gc, valid: &[Attachment], troubles: &mut Vec<String>) -> Result<(), Failure> {
    let closed = additions::collect(&request.network, valid);
    troubles.extend(closed.err().map(|failure| failure.to_line()));
    let mut node = Node::open()?;
    for attachment in find_stale(&mut node, request, valid, troubles) {
        let link = node.delete_link(&names::host_link(&attachment)).map_err(Failure::from);
        let removed = link.and_then(|()| lease::release(&request.leases, &attachment));
        troubles.extend(removed.err().map(|failure| describe(&attachment, &failure)));
    }
    Ok(())
}

fn find_stale(
    node: &mut Node,
    request: &Gc,
    valid: &[Attachment],
    troubles: &mut Vec<String>,
) -> BTreeSet<Attachment> {
    let mut found = BTreeSet::new();
    match node.attachments() {
        Ok(linked) => found.extend(linked.into_iter().filter(|a| a.network == request.network)),
        Err(e) => troubles.push(Failure::from(e).to_line()),
    }
    match lease::holders(&request.leases, &request.network) {
        Ok(holders) => found.extend(holders),
        Err(failure) => troubles.push(failure.to_line()),
    }
    found.retain(|attachment| !valid.contains(attachment));
    found
}

fn describe(attachment: &Attachment, failure: &Failure) -> String {
    format!("container {} interface {}: {}", attachment.container, attachment.ifname, failure.to_line())
}
