//! CHECK: is a container attached as the list's result says?
//!
//! It compares the lease, the node's side and the pod's side with the result. What later plugins added is tolerated;
//! what they changed is in the result. Invariant: nothing is changed, and all differences are told together.

mod vlans;

use crate::apply::Kernel;
use crate::config::Mode;
use crate::config::ipam::Ipam;
use crate::failure::Failure;
use crate::lease;
use crate::look::{NodeSide, PodSide};
use crate::names;
use crate::namespace::Namespace;
use crate::node::Node;
use crate::result::{Interface, Ip, Outcome};
use crate::spec::{Add, Check};
use crate::verbs::additions;
use std::collections::BTreeSet;

/// Succeeds when everything of this attachment is there.
///
/// # Errors
/// Code 108 with everything that is not as it was, or what kept us from looking.
pub fn check(request: &Check) -> Result<(), Failure> {
    let Check { asked, previous } = request;
    let (own, pod) = (Namespace::own()?, Namespace::open(&asked.namespace)?);
    let mut kernel = Kernel::open(Node::open()?, (own, pod), &asked.attachment.ifname)?;
    let wanted = Wanted::find(asked, previous)?;
    let mut differences = compare_pod(&wanted, &kernel.look()?, &asked.attachment.ifname);
    let unset = kernel.find_unset(&asked.config.settings)?;
    differences.extend(unset.iter().map(|s| format!("setting {} is not {}", s.key, s.value)));
    // Without our link in the result, an earlier plugin made the interface and answers for it.
    if let Some(host) = wanted.host {
        let seen = kernel.node().look(&host.name, &asked.config)?;
        differences.extend(match asked.config.mode {
            Mode::Bridge => compare_node(asked, &wanted, host, &seen),
            Mode::Ptp => compare_ways(kernel.node(), &wanted, host, &seen)?,
        });
        differences.extend(compare_lease(asked, &wanted)?);
    }
    differences.extend(additions::differences(asked, &mut kernel, previous)?);
    Failure::collected(108, "the container is not attached as the result says", &differences)
}

/// What the result says of this attachment.
struct Wanted<'a> {
    previous: &'a Outcome,
    host: Option<&'a Interface>,
    pod: &'a Interface,
    ips: Vec<&'a Ip>,
}

impl<'a> Wanted<'a> {
    fn find(asked: &Add, previous: &'a Outcome) -> Result<Self, Failure> {
        let ifname = &asked.attachment.ifname;
        let missing = || Failure {
            code: 7,
            msg: format!("prevResult: it has no interface {ifname} in the container"),
            details: String::new(),
        };
        let at = previous.find_in_container(ifname).ok_or_else(missing)?;
        let host = previous.find_on_node(&names::host_link(&asked.attachment));
        let ips = previous.ips.iter().filter(|ip| ip.interface.is_none_or(|interface| interface == at));
        let host = host.map(|at| &previous.interfaces[at]);
        Ok(Self { previous, host, pod: &previous.interfaces[at], ips: ips.collect() })
    }
}

fn compare_pod(wanted: &Wanted<'_>, seen: &PodSide, ifname: &str) -> Vec<String> {
    let Some(link) = &seen.link else { return vec![format!("interface {ifname} is missing in the pod")] };
    let mut differences = compare_link(wanted.pod, link, "in the pod");
    let lost = |ip: &&&Ip| !seen.addresses.contains(&ip.address);
    let addresses = wanted.ips.iter().filter(lost);
    differences.extend(addresses.map(|ip| format!("interface {ifname} lacks address {}", ip.address)));
    let routes = wanted.previous.routes.iter().filter(|route| !seen.has(route));
    differences.extend(routes.map(|route| format!("the pod lacks the route to {}", route.to)));
    differences
}

fn compare_link(wanted: &Interface, link: &heddle_netlink::link::Link, place: &str) -> Vec<String> {
    let mut differences = Vec::new();
    let name = &wanted.name;
    if !link.up {
        differences.push(format!("interface {name} {place} is down"));
    }
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !wanted.mac.is_empty() && !wanted.mac.eq_ignore_ascii_case(&mac) {
        differences.push(format!("interface {name} {place} has address {mac}, not {}", wanted.mac));
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != link.mtu) {
        differences.push(format!("interface {name} {place} has MTU {}, not {mtu}", link.mtu));
    }
    differences
}

fn compare_node(asked: &Add, wanted: &Wanted<'_>, host: &Interface, seen: &NodeSide) -> Vec<String> {
    let (config, name) = (&asked.config, &host.name);
    let Some(link) = &seen.link else { return vec![format!("interface {name} is missing on the node")] };
    let mut differences = compare_link(host, link, "on the node");
    let Some(bridge) = &seen.bridge else {
        differences.push(format!("bridge {} is missing", config.bridge));
        return differences;
    };
    if !bridge.up {
        differences.push(format!("bridge {} is down", config.bridge));
    }
    if link.master != Some(bridge.index) {
        differences.push(format!("interface {name} is no port of bridge {}", config.bridge));
    } else if link.port.is_some_and(|p| (p.hairpin, p.isolated) != (config.hairpin, config.isolated)) {
        differences.push(format!("port {name} has not the hairpin and isolation that are configured"));
    }
    if let Some(vlans) = &config.vlans {
        differences.extend(vlans::compare(vlans, (&bridge.name, bridge.vlans), &seen.vlans));
    }
    // A gateway outside of the pod's subnet is somebody else.
    let inside = |ip: &&Ip| ip.gateway.filter(|gateway| ip.address.contains(*gateway));
    let gateways = wanted.ips.iter().filter_map(inside).filter(|_| config.gateway);
    let lost = gateways.filter(|gateway| !seen.addresses.iter().any(|address| address.ip() == *gateway));
    differences
        .extend(lost.map(|gateway| format!("bridge {} lacks address {gateway}", config.gateway_link())));
    differences
}

fn compare_ways(
    node: &mut Node,
    wanted: &Wanted<'_>,
    host: &Interface,
    seen: &NodeSide,
) -> Result<Vec<String>, Failure> {
    let name = &host.name;
    let Some(link) = &seen.link else {
        return Ok(vec![format!("interface {name} is missing on the node")]);
    };
    let mut differences = compare_link(host, link, "on the node");
    for ip in wanted.ips.iter().map(|ip| ip.address.ip()) {
        let way = node.way_to(ip, link.index)?;
        if way.link != Some(link.index) {
            differences.push(format!("the node has no route to {ip} by interface {name}"));
        }
        if way.mac.is_none_or(|mac| !wanted.pod.mac.eq_ignore_ascii_case(&mac.to_string())) {
            differences.push(format!("the node does not know {ip} by the pod's Ethernet address"));
        }
    }
    Ok(differences)
}

fn compare_lease(asked: &Add, wanted: &Wanted<'_>) -> Result<Vec<String>, Failure> {
    let own = match &asked.config.ipam {
        Some(Ipam::Own(own)) => own,
        Some(Ipam::Delegate(delegate)) => return delegate.run("CHECK").map(|_| Vec::new()),
        None => return Ok(Vec::new()),
    };
    let held: BTreeSet<_> = lease::held(&own.leases, &asked.attachment)?.into_iter().collect();
    let lost = wanted.ips.iter().map(|ip| ip.address.ip()).filter(|ip| !held.contains(ip));
    Ok(lost.map(|ip| format!("the container does not hold the lease of {ip}")).collect())
}
