//! The hosts of one subject: a client's pod on a node with some ruleset, a server's pod, and a host outside.
//!
//! The server's pod has every address that an endpoint may have, so that each Service leads to it. Invariant: a stage knows nothing
//! of what is measured on it.

use crate::Failure;
use crate::cluster::{NODE_PORT, PORT, Size, TARGET};
use crate::interrupt::Interrupt;
use crate::load::connections::connections;
use crate::load::server::Server;
use crate::subjects::serve::{self, Means};
use crate::subjects::{Subject, handicap};
use crate::workloads::Way;
use heddle_netlink::{Family, Socket, conntrack};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::wire::Wire;
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The nodes: the client's, and the server's where that is another one.
const NODES: [&str; 2] = ["node-1", "node-2"];
/// Names of the links that pods and nodes are on.
const BRIDGE: &str = "cni0";
/// What makes all bridges of a node hand frames to its rules. Off, only those do that are told to, as the plugin tells its own.
const BRIDGE_SETTINGS: [&str; 2] = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"];
const UPLINK: &str = "eth0";

/// Which hosts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Client and server are pods of one node.
    One,
    /// They are pods of two.
    Two,
}

/// What all hosts are built with, whoever is measured on them.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Which hosts there are.
    pub nodes: Nodes,
    /// The binary of a kube-proxy, where that is the subject.
    pub kube_proxy: Option<&'a Path>,
    /// Rules of a [`handicap`]; mostly none.
    pub handicap: u32,
}

/// The hosts of one subject.
#[derive(Debug)]
pub struct Stage {
    server: Server,
    /// The server's own address.
    pod: SocketAddr,
    /// One of its addresses as an endpoint, so that who asks it directly asks what a Service leads to.
    endpoint: SocketAddr,
    node: IpAddr,
    size: Option<Size>,
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
        setting: Setting<'_>,
        stop: &Interrupt,
    ) -> Result<Self, Failure> {
        let Setting { nodes, kube_proxy, handicap } = setting;
        let names = if nodes == Nodes::One { &NODES[..1] } else { &NODES };
        let lab = if subject.is_at_sockets() { Lab::with_sockets(names)? } else { Lab::new(names)? };
        for node in lab.nodes() {
            for key in BRIDGE_SETTINGS {
                node.namespace().sysctl(key, "0")?;
            }
        }
        let (near, far) = (&lab.nodes()[0], &lab.nodes()[names.len() - 1]);
        let (client, answering) = (near.pod("client")?, far.pod("server")?);
        let pod = ipv4(answering.addresses())?;
        let usual = size.unwrap_or(Size { services: 1, endpoints: 1 });
        let endpoints = usual.endpoints(usual.services - 1);
        let endpoint = endpoints.first().copied().unwrap_or(pod);
        let answering_on: Vec<IpAddr> = [pod].into_iter().chain(endpoints).collect();
        lead_endpoints_to(&answering, pod, &lab, &client)?;
        let server = Server::open(answering.namespace(), TARGET, &answering_on)?;
        let node = ipv4(&near.addresses())?;
        let [pod, endpoint] = [pod, endpoint].map(|ip| SocketAddr::new(ip, TARGET));
        let hot = last_service(size).unwrap_or(endpoint);
        let ask = || connections(client.namespace(), &server.listener, 1, |_| hot);
        let answers = || ask().map(drop).map_err(|error| error.to_string());
        let means = Means { object: object(near, nodes), kube_proxy, answers: &answers };
        serve::load(near, (subject, size), &means, stop)?;
        if handicap > 0 {
            handicap::load(near, handicap)?;
        }
        Ok(Self { server, pod, endpoint, node, size, client, _answering: answering, lab })
    }

    /// The way of a subject that is measured on these hosts.
    pub fn way(&self, subject: Subject) -> Way<'_> {
        let size = self.size.filter(|_| !subject.is_direct());
        Way {
            client: self.client.namespace(),
            outside: self.lab.outside(),
            server: &self.server,
            hot: last_service(size).unwrap_or(self.endpoint),
            node_port: if size.is_some() { SocketAddr::new(self.node, NODE_PORT) } else { self.pod },
            size,
        }
    }

    /// Its nodes, the client's first.
    pub fn nodes(&self) -> &[Node] {
        self.lab.nodes()
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

    /// How many connections its nodes track now.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn tracked(&self) -> Result<u32, Failure> {
        let count = |node: &Node| -> Result<u32, Failure> {
            // /proc/sys/net shows the namespace of the thread that opens it.
            let read = || fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
            Ok(node.namespace().enter(read)??.trim().parse()?)
        };
        self.lab.nodes().iter().map(count).sum()
    }
}

/// Where the Service is that has all that is asked for.
fn last_service(size: Option<Size>) -> Option<SocketAddr> {
    size.map(|size| SocketAddr::new(size.cluster_ip(size.services - 1), PORT))
}

fn ipv4(addresses: &[IpAddr]) -> Result<IpAddr, Failure> {
    Ok(addresses.iter().copied().find(IpAddr::is_ipv4).ok_or("a host without an IPv4 address")?)
}

/// Gives the server all addresses of endpoints, and everybody the way to them that leads to its own one, so that they cost what a
/// pod's own address costs.
fn lead_endpoints_to(server: &Pod, address: IpAddr, lab: &Lab, client: &Pod) -> Result<(), Failure> {
    let range = Size::endpoint_range();
    // An address on loopback stands for all of its network.
    server.namespace().enter(|| {
        let mut wire = Wire::open()?;
        wire.up("lo")?;
        wire.address("lo", range)
    })??;
    let lead = |host: &Namespace, link, via| host.enter(|| Wire::open()?.route(link, range, via));
    match lab.nodes() {
        [near, far] => {
            lead(near.namespace(), UPLINK, ipv4(&far.addresses())?)??;
            lead(far.namespace(), BRIDGE, address)??;
        }
        nodes => {
            // Pods of one node reach each other over its bridge.
            lead(client.namespace(), UPLINK, address)??;
            nodes
                .iter()
                .try_for_each(|node| lead(node.namespace(), BRIDGE, address)?.map_err(Failure::from))?;
        }
    }
    Ok(())
}

/// A node's object, with all endpoints among its own pods where they are.
fn object(node: &Node, nodes: Nodes) -> Value {
    let mut object = node.object();
    if nodes == Nodes::One {
        let range = Size::pod_range().to_string();
        object["spec"] = json!({ "podCIDR": range, "podCIDRs": [range] });
    }
    object
}
