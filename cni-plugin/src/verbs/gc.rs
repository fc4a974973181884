//! GC: what attachments left that are no more.
//!
//! What is found, and how it goes, is [`leftovers`](crate::leftovers)'s; what is valid, the runtime says. Invariant: nothing of
//! another network is touched.

use crate::failure::Failure;
use crate::leftovers::Network;
use crate::node::Node;
use crate::spec::{Attachment, Gc};
use crate::verbs::additions;

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
    let network = Network { name: &request.network, leases: &request.leases };
    let found = network.attachments(&mut node, troubles);
    for attachment in found.iter().filter(|attachment| !valid.contains(attachment)) {
        let removed = network.remove(&mut node, attachment);
        troubles.extend(removed.err().map(|failure| describe(attachment, &failure)));
    }
    Ok(())
}

fn describe(attachment: &Attachment, failure: &Failure) -> String {
    format!("container {} interface {}: {}", attachment.container, attachment.ifname, failure.to_line())
}
