//! What a container gets beside its interface: ports of the node, and limits of what it sends and receives.
//!
//! They come after the link, whoever made it, and go before it, so that a port leads to nothing else meanwhile. Invariant: a
//! container whose additions fail has none.

use crate::apply::Kernel;
use crate::config::ipam::Ipam;
use crate::failure::Failure;
use crate::hostports::HostPorts;
use crate::hostports::claim::{Claim, claims};
use crate::hostports::note::{self, Interface, Note};
use crate::node::Node;
use crate::result::Outcome;
use crate::spec::{Add, Attachment};
use std::net::IpAddr;

/// Fails before anything is made when a living pod has one of the ports. When two come at once, the second one is refused as
/// it claims.
pub(super) fn check_free(request: &Add) -> Result<(), Failure> {
    let pod = foreseeable(request);
    if request.config.ports.is_empty() || pod.is_empty() {
        return Ok(());
    }
    let claims = claims(&request.config.ports, &pod)?;
    Ok(HostPorts::open()?.check_free(&mut Node::open()?, (&claims, &write_note(request)))?)
}

/// An address of each family that the container will have; none when another plugin gives them out.
fn foreseeable(request: &Add) -> Vec<IpAddr> {
    match (earlier(request), &request.config.ipam) {
        (Some(previous), _) => addresses(request, previous),
        (None, Some(Ipam::Own(own))) => {
            own.sets.iter().filter_map(|set| set.ranges().first()?.usable_from(0)).collect()
        }
        (None, _) => Vec::new(),
    }
}

/// The result of the plugins before us, when one of them made the interface.
pub(super) fn earlier(request: &Add) -> Option<&Outcome> {
    let previous = request.previous.as_ref()?;
    previous.find_in_container(&request.attachment.ifname).map(|_| previous)
}

/// The addresses of the container's interface.
fn addresses(request: &Add, outcome: &Outcome) -> Vec<IpAddr> {
    let at = outcome.find_in_container(&request.attachment.ifname);
    let here = outcome.ips.iter().filter(|ip| ip.interface.is_none() || ip.interface == at);
    here.map(|ip| ip.address.ip()).collect()
}

fn write_note(request: &Add) -> String {
    let interface = if earlier(request).is_some() { Interface::Foreign } else { Interface::Ours };
    note::write(&request.attachment, interface, request.pod.as_deref())
}

/// Adds them to the container whose result this is.
pub(super) fn add(request: &Add, kernel: &mut Kernel, outcome: &Outcome) -> Result<(), Failure> {
    if let Some(limits) = &request.config.bandwidth {
        kernel.limit(limits)?;
    }
    let claims = wanted(request, outcome)?;
    if claims.is_empty() {
        return Ok(());
    }
    let (mut ports, note) = (HostPorts::open()?, write_note(request));
    if let Some(link) = Note::of(&note).link() {
        kernel.node().remember_ports(link, &claims)?;
    }
    ports.claim(kernel.node(), (&claims, &note)).map_err(|error| {
        let failure = Failure::from(error);
        match ports.release(|note| note.is_of(&request.attachment)) {
            Ok(()) => failure,
            Err(left) => failure.and(&format!("left behind ports: {}", Failure::from(left).to_line())),
        }
    })
}

fn wanted(request: &Add, outcome: &Outcome) -> Result<Vec<Claim>, Failure> {
    Ok(claims(&request.config.ports, &addresses(request, outcome))?)
}

/// What is not as it was added.
pub(super) fn differences(
    request: &Add,
    kernel: &mut Kernel,
    outcome: &Outcome,
) -> Result<Vec<String>, Failure> {
    let mut differences = match &request.config.bandwidth {
        Some(limits) => kernel.find_unlimited(limits)?,
        None => Vec::new(),
    };
    let claims = wanted(request, outcome)?;
    if !claims.is_empty() {
        differences.extend(HostPorts::open()?.differences(&claims)?);
    }
    Ok(differences)
}

/// Removes what an attachment has. What comes back is to be kept while the link is removed: closing it waits until the kernel
/// has freed what was removed, and it does both at once.
pub(super) fn remove(attachment: &Attachment) -> Result<Option<HostPorts>, Failure> {
    let mut ports = HostPorts::find()?;
    if let Some(ports) = &mut ports {
        ports.release(|note| note.is_of(attachment))?;
    }
    Ok(ports)
}

/// Removes what attachments to a network have that are none of these.
pub(super) fn collect(network: &str, valid: &[Attachment]) -> Result<(), Failure> {
    let stale = |note: Note<'_>| note.is_in(network) && !valid.iter().any(|valid| note.is_of(valid));
    Ok(HostPorts::find()?.map_or(Ok(()), |mut ports| ports.release(stale))?)
}
