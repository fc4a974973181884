//! ADD.

use crate::apply::{Failed, Kernel, Made};
use crate::config::ipam::{Ipam, Own};
use crate::dns::Dns;
use crate::failure::Failure;
use crate::lease::{self, Taken};
use crate::names;
use crate::namespace::Namespace;
use crate::node::Node;
use crate::plan;
use crate::result::{Interface, Ip, Outcome};
use crate::spec::Add;
use crate::verbs::additions;
use heddle_netlink::link::{Link, Mac};
use heddle_netlink::tuning::Tuning;

/// Attaches a container, and gives the result document.
///
/// A container whose interface an earlier plugin of the list made keeps it: then only what belongs to an interface is
/// added, and the earlier result is handed on.
///
/// # Errors
/// What failed; then nothing is left of the attempt, unless the details say so.
pub fn add(request: &Add) -> Result<String, Failure> {
    additions::check_free(request)?;
    let outcome = match (additions::earlier(request), &request.previous) {
        (Some(earlier), _) => adjust(request, earlier.clone())?,
        (None, Some(previous)) => previous.clone().and(connect(request)?),
        (None, None) => connect(request)?,
    };
    Ok(outcome.write(request.version))
}

/// The interface is there, and stays what it is but for what is asked for.
fn adjust(request: &Add, mut outcome: Outcome) -> Result<Outcome, Failure> {
    let config = &request.config;
    let tuning = Tuning { mac: config.mac, mtu: config.mtu, ..config.tuning };
    let mut kernel = open(request)?;
    let link = kernel.adjust(&config.settings, tuning)?;
    additions::add(request, &mut kernel, &outcome)?;
    for interface in outcome.interfaces.iter_mut().filter(|i| i.name == link.name && i.sandbox.is_some()) {
        interface.mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        interface.mtu = Some(link.mtu);
    }
    Ok(outcome)
}

fn connect(request: &Add) -> Result<Outcome, Failure> {
    let ipam = request.config.ipam.as_ref().ok_or_else(without_ipam)?;
    let mut kernel = open(request)?;
    kernel.check_pod_lacks_link()?;
    super::check_vlans(&request.config, kernel.node())?;
    let mtu = match request.config.mtu {
        Some(mtu) => Some(mtu),
        None => kernel.node().uplink_mtu()?.map(|mtu| mtu.min(LARGEST_MTU)),
    };
    let Taken { given, fresh } = take(request, ipam, kernel.node())?;
    let given = plan::settle(&request.config, given);
    match attach(request, &mut kernel, (given, mtu)) {
        // A lease that an earlier attempt took is given back by the DEL of that attempt.
        Err(failure) if fresh => Err(give_back(request, ipam, failure)),
        attached => attached,
    }
}

/// All that the kernel does, or nothing.
fn attach(
    request: &Add,
    kernel: &mut Kernel,
    (given, mtu): (Outcome, Option<u32>),
) -> Result<Outcome, Failure> {
    let made = kernel.apply(&plan::plan(request, &given, mtu)).map_err(report)?;
    let outcome = outcome(request, given, &made);
    let Err(failure) = additions::add(request, kernel, &outcome) else { return Ok(outcome) };
    match kernel.node().delete_link(&names::host_link(&request.attachment)) {
        Ok(()) => Err(failure),
        Err(left) => Err(failure.and(&format!("left behind: {left}"))),
    }
}

fn without_ipam() -> Failure {
    let msg = "ipam: it is missing, and no earlier plugin made the interface".to_owned();
    Failure { code: 7, msg, details: String::new() }
}

/// Addresses, and what is said with them.
fn take(request: &Add, ipam: &Ipam, node: &mut Node) -> Result<Taken, Failure> {
    let configured = &request.config.dns;
    match ipam {
        Ipam::Own(own) => {
            let dns = read_dns(configured, own)?;
            let Taken { given, fresh } = lease::take(request, own, node)?;
            Ok(Taken { given: Outcome { dns, ..given }, fresh })
        }
        Ipam::Delegate(delegate) => {
            let mut given = delegate.add()?;
            if !configured.is_empty() {
                given.dns.clone_from(configured);
            }
            Ok(Taken { given, fresh: true })
        }
    }
}

/// The kernel's side is undone already; the address is left.
fn give_back(request: &Add, ipam: &Ipam, failure: Failure) -> Failure {
    match ipam {
        Ipam::Delegate(delegate) => delegate.give_back(failure),
        Ipam::Own(own) => match lease::release(&own.leases, &request.attachment) {
            Ok(()) => failure,
            Err(e) => failure.and(&format!("left behind the lease: {}", e.to_line())),
        },
    }
}

fn report(failed: Failed) -> Failure {
    let left = failed.left.iter().map(|e| format!("left behind: {e}"));
    left.fold(Failure::from(failed.error), |failure, line| failure.and(&line))
}

/// What a veth can carry at most; a loopback uplink has one byte more.
const LARGEST_MTU: u32 = 65535;

/// Everything that can be wrong with the pod's namespace is found here, before anything is touched.
fn open(request: &Add) -> Result<Kernel, Failure> {
    let (own, pod) = (Namespace::own()?, Namespace::open(&request.namespace)?);
    if !request.own_namespace {
        pod.check_differs(&own)?;
    }
    Ok(Kernel::open(Node::open()?, (own, pod), &request.attachment.ifname)?)
}

fn read_dns(configured: &Dns, own: &Own) -> Result<Dns, Failure> {
    match &own.resolv_conf {
        Some(path) if configured.is_empty() => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Dns::from_resolv_conf(&text)),
            Err(e) => {
                let msg = format!("read ipam.resolvConf {path:?}");
                Err(Failure { code: 5, msg, details: e.to_string() })
            }
        },
        _ => Ok(configured.clone()),
    }
}

/// Bridge, host's end, pod's end, and what the pod's end has.
fn outcome(request: &Add, given: Outcome, made: &Made) -> Outcome {
    let mac = |mac: Option<Mac>| mac.map(|mac| mac.to_string()).unwrap_or_default();
    let seen = |link: &Link| Interface {
        name: link.name.clone(),
        mac: mac(link.mac),
        mtu: Some(link.mtu),
        ..Interface::default()
    };
    let host = Interface {
        name: names::host_link(&request.attachment),
        mac: names::host_mac(&request.attachment).to_string(),
        mtu: Some(made.pod.mtu),
        ..Interface::default()
    };
    let pod = Interface { sandbox: Some(request.namespace.clone()), ..seen(&made.pod) };
    let interfaces: Vec<_> = made.bridge.iter().map(seen).chain([host, pod]).collect();
    let at = interfaces.len() - 1;
    // Behind the others, where the reference plugin has it.
    let interfaces = interfaces.into_iter().chain(made.vlan_link.iter().map(seen)).collect();
    let ips = given.ips.into_iter().map(|ip| Ip { interface: Some(at), ..ip }).collect();
    Outcome { interfaces, ips, ..given }
}
