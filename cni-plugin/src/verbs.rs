//! ADD and DEL: in which order the parts work.
//!
//! ADD takes an address first and makes the link last; on failure it goes back the same way. DEL removes the link first
//! and gives the address back last, so that no address is handed out while a pod still answers to it. Invariant: what
//! will be made is on disk, or follows from the attachment, before it is made: a killed ADD leaves nothing that a DEL
//! does not find.

use crate::apply::{Failed, Kernel};
use crate::dns::Dns;
use crate::failure::Failure;
use crate::ipam::{Ask, Assigned, Owner};
use crate::namespace::Namespace;
use crate::node::Node;
use crate::spec::{Add, Attachment, Del};
use crate::store::{Store, boot_id};
use crate::{names, plan, result};
use std::path::Path;

/// Attaches a container, and gives the result document.
///
/// # Errors
/// What failed; then nothing is left of the attempt, unless the details say so.
pub fn add(request: &Add) -> Result<String, Failure> {
    let mut kernel = open(request)?;
    let mtu = match request.config.mtu {
        Some(mtu) => Some(mtu),
        None => kernel.node().uplink_mtu()?.map(|mtu| mtu.min(LARGEST_MTU)),
    };
    let dns = read_dns(request)?;
    let (assigned, fresh) = lease(request)?;
    match kernel.apply(&plan::plan(request, &assigned, mtu)) {
        Ok(made) => Ok(result::added(request, &assigned, &made, &dns)),
        // A lease that an earlier attempt took is given back by the DEL of that attempt.
        Err(failed) if fresh => Err(go_back(request, failed)),
        Err(failed) => Err(report(failed)),
    }
}

/// The kernel's side is undone already; the lease is left.
fn go_back(request: &Add, failed: Failed) -> Failure {
    let failure = report(failed);
    match release(&request.config.leases, &request.attachment) {
        Ok(()) => failure,
        Err(e) => failure.and(&format!("left behind the lease: {}: {}", e.msg, e.details)),
    }
}

fn report(failed: Failed) -> Failure {
    let left = failed.left.iter().map(|e| format!("left behind: {e}"));
    left.fold(Failure::from(failed.error), |failure, line| failure.and(&line))
}

/// What a veth can carry at most; a loopback uplink has one byte more.
const LARGEST_MTU: u32 = 65535;

/// Everything that can be wrong with the pod is found here, before anything is touched.
fn open(request: &Add) -> Result<Kernel, Failure> {
    let (own, pod) = (Namespace::own()?, Namespace::open(&request.namespace)?);
    if !request.own_namespace {
        pod.check_differs(&own)?;
    }
    let mut kernel = Kernel::open(Node::open()?, (own, pod), &request.attachment.ifname)?;
    kernel.check_pod_lacks_link()?;
    Ok(kernel)
}

fn read_dns(request: &Add) -> Result<Dns, Failure> {
    match &request.config.resolv_conf {
        Some(path) if request.config.dns.is_empty() => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Dns::from_resolv_conf(&text)),
            Err(e) => {
                let msg = format!("read ipam.resolvConf {path:?}");
                Err(Failure { code: 5, msg, details: e.to_string() })
            }
        },
        _ => Ok(request.config.dns.clone()),
    }
}

/// Takes the addresses, and says whether they were not held before.
fn lease(request: &Add) -> Result<(Vec<Assigned>, bool), Failure> {
    let Add { attachment, config, .. } = request;
    let mut store = Store::open(&config.leases, &attachment.network, &boot_id()?)?;
    let ask = Ask { sets: &config.sets, wanted: &config.addresses, cooldown: config.cooldown, avoid: &[] };
    let granted = store.grant(&Owner::of(attachment), &ask)?;
    Ok((granted.addresses, granted.fresh))
}

fn release(leases: &Path, attachment: &Attachment) -> Result<(), Failure> {
    if let Some(mut store) = Store::open_existing(leases, &attachment.network, &boot_id()?)? {
        store.release(&Owner::of(attachment))?;
    }
    Ok(())
}

/// Detaches a container. Whatever is gone already counts as done; the container's namespace is not looked at.
///
/// # Errors
/// When the link cannot be removed or the lease not given back; a later DEL goes on from there.
pub fn del(request: &Del) -> Result<(), Failure> {
    Node::open()?.delete_link(&names::host_link(&request.attachment))?;
    release(&request.leases, &request.attachment)
}
