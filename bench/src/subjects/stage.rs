//! The hosts of one subject: a client's pod on a node with some ruleset, a server's pod, and a host outside.
//!
//! The server's pod has every address that an endpoint may have, so that each Service leads to it. Invariant: a stage knows nothing
//! of what is measured on it.

use crate::Failure;
use crate::cluster::{NODE_PORT, PORT, Size, TARGET};
use crate::interrupt::Interrupt;
use crate::load::server::Server;
use crate::subjects::Subject;
use crate::subjects::serve::{self, Keeper};
use crate::workloads::Way;
use heddle_netlink::{Family, Socket, conntrack};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::wire::Wire;
use std::net::{IpAddr, SocketAddr};

/// The nodes: the client's, and the server's where that is another one.
const NODES: [&str; 2] = ["node-1", "node-2"];
/// Names of the links that pods and nodes are on.
const BRIDGE: &str = "cni0";
const UPLINK: &str = "eth0";

/// Which hosts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Client and server are pods of one node.
    One,
    /// They are pods of two.
    Two,
}

/// The hosts of one subject.
#[derive(Debug)]
pub struct Stage {
    server: Server,
    /// The server's own address.
    pod: SocketAddr,
    node: IpAddr,
    size: Option<Size>,
    /// What must live as long as the ruleset.
    _keeper: Keeper,
    client: Pod,
    _answering: Pod,
    /// Last: all else goes before it.
    lab: Lab,
}

impl Stage {
    /// Builds the hosts and loads what the subject needs.
    ///
    /// # Errors
    /// When the lab cannot be built, the kernel does not take the ruleset, or the run is interrupted.
    pub fn build(
        subject: Subject,
        size: Option<Size>,
        nodes: Nodes,
        stop: &Interrupt,
    ) -> Result<Self, Failure> {
        let names = if nodes == Nodes::One { &NODES[..1] } else { &NODES };
        let lab = if subject.is_at_sockets() { Lab::with_sockets(names)? } else { Lab::new(names)? };
        let (near, far) = (&lab.nodes()[0], &lab.nodes()[names.len() - 1]);
        let (client, answering) = (near.pod("client")?, far.pod("server")?);
        let pod = ipv4(answering.addresses())?;
        let endpoints = size.map(|size| size.endpoints(size.services - 1)).unwrap_or_default();
        let answering_on: Vec<IpAddr> = [pod].into_iter().chain(endpoints).collect();
        lead_endpoints_to(&answering, pod, far, near)?;
        let server = Server::open(answering.namespace(), TARGET, &answering_on)?;
        let node = ipv4(&near.addresses())?;
        let keeper = serve::load(near, subject, size, stop)?;
        let pod = SocketAddr::new(pod, TARGET);
        Ok(Self { server, pod, node, size, _keeper: keeper, client, _answering: answering, lab })
    }

    /// The way of a subject that is measured on these hosts.
    pub fn way(&self, subject: Subject) -> Way<'_> {
        let size = self.size.filter(|_| !subject.is_direct());
        let service = size.map(|size| SocketAddr::new(size.cluster_ip(size.services - 1), PORT));
        Way {
            client: self.client.namespace(),
            outside: self.lab.outside(),
            server: &self.server,
            hot: service.unwrap_or(self.pod),
            node_port: if size.is_some() { SocketAddr::new(self.node, NODE_PORT) } else { self.pod },
            size,
        }
    }

    /// Makes the nodes forget all connections, so that each round begins alike.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&self) -> Result<(), Failure> {
        self.lab.nodes().iter().try_for_each(|node| {
            node.namespace().enter(|| conntrack::flush(&mut Socket::open(Family::Netfilter)?))??;
            Ok(())
        })
    }
}

fn ipv4(addresses: &[IpAddr]) -> Result<IpAddr, Failure> {
    Ok(addresses.iter().copied().find(IpAddr::is_ipv4).ok_or("a host without an IPv4 address")?)
}

/// Gives the pod all addresses of endpoints, and the nodes the way to them.
fn lead_endpoints_to(pod: &Pod, address: IpAddr, far: &Node, near: &Node) -> Result<(), Failure> {
    let range = Size::endpoint_range();
    // An address on loopback stands for all of its network.
    pod.namespace().enter(|| {
        let mut wire = Wire::open()?;
        wire.up("lo")?;
        wire.address("lo", range)
    })??;
    far.namespace().enter(|| Wire::open()?.route(BRIDGE, range, address))??;
    if near.name() != far.name() {
        let via = ipv4(&far.addresses())?;
        near.namespace().enter(|| Wire::open()?.route(UPLINK, range, via))??;
    }
    Ok(())
}
