//! Rulesets in the layouts of kube-proxy's modes, written by the bench.
//!
//! Not kube-proxy: what it would write for the cluster IPs of a [`Size`] and one node port, with no pod network set. A Service has one TCP
//! port; the last one has a UDP port beside it, and a port on the node.

mod iptables;
mod nftables;

pub use iptables::Kind;

use crate::Failure;
use crate::cluster::{NODE_PORT, Size, TARGET};
use crate::interrupt::Interrupt;
use heddle_tests::lab::Node;
use heddle_tests::process::Invocation;
use std::net::IpAddr;
use std::time::Duration;

/// The larger layouts take the kernel minutes, and more beside other work.
const LOADING: Duration = Duration::from_secs(900);

/// One port of a Service.
#[derive(Clone, Debug)]
struct Port {
    /// The Service's name.
    service: String,
    /// Its number among all ports.
    number: u32,
    protocol: &'static str,
    ip: IpAddr,
    /// The port that it has on every node.
    node_port: Option<u16>,
    endpoints: Vec<IpAddr>,
}

/// All ports of a cluster, in order.
fn ports(size: Size) -> impl Iterator<Item = Port> {
    let last = size.services - 1;
    let port = move |number: u32, protocol, service| Port {
        service: size.name(service),
        number,
        protocol,
        ip: size.cluster_ip(service),
        node_port: (protocol == "tcp" && service == last).then_some(NODE_PORT),
        endpoints: size.endpoints(service),
    };
    // The port that most workloads ask for is the last one, which is the worst for a list.
    let udp = port(last, "udp", last);
    let tcp = (0..last).map(move |number| port(number, "tcp", number));
    tcp.chain([udp, port(last + 1, "tcp", last)])
}

/// Loads the layout of the nftables mode. The kernel's work grows with the square of a transaction: so there are several.
///
/// # Errors
/// When nft refuses, or the run is interrupted.
pub fn load_nftables(node: &Node, size: Size, stop: &Interrupt) -> Result<(), Failure> {
    nftables::pieces(size, &node.addresses()).try_for_each(|text| {
        let nft = Invocation::foreign("nft").args(["-f", "-"]).input(text);
        load(node, nft, stop)
    })
}

/// Loads the layout of the iptables mode in one go, as kube-proxy does.
///
/// # Errors
/// As [`load_nftables`].
pub fn load_iptables(node: &Node, size: Size, kind: Kind, stop: &Interrupt) -> Result<(), Failure> {
    // The lock is one file for all namespaces.
    load(node, Invocation::foreign(kind.program()).args(["-w", "60"]).input(iptables::ruleset(size)), stop)
}

fn load(node: &Node, program: Invocation, stop: &Interrupt) -> Result<(), Failure> {
    let mut program = program.start(node.namespace())?;
    let status = stop.await_end(&mut program, LOADING)?;
    if status.success() { Ok(()) } else { Err(format!("{status}: {}", program.stderr()).into()) }
}

/// Where a port's endpoint listens.
fn target(endpoint: &IpAddr) -> String {
    format!("{endpoint}:{TARGET}")
}
