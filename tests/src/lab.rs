//! A data centre in one process: a fabric, nodes on it, a host outside the cluster, and pods on the nodes.
//!
//! It is not a cluster: nothing here knows Services. The fabric is a switch that is also everybody's router, so that a
//! packet for an address that no node translates comes back as "network unreachable", which no test can take for
//! anything else. Invariant: every host is a namespace of its own, the node included.

mod node;
mod pod;

pub use node::Node;
pub use pod::Pod;

use crate::namespace::{self, Namespace};
use crate::process;
use crate::wire::{Cable, Wire};
use heddle_netlink::link;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

/// Why a lab, a node or a pod could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A namespace could not be made or used.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// The kernel refused a link, an address or a route.
    #[error("wire {host}")]
    Wire {
        /// Which host of the lab.
        host: String,
        /// The cause.
        #[source]
        source: heddle_netlink::Error,
    },
    /// There is no directory for a node's files.
    #[error("make a directory for {host}")]
    Directory {
        /// Which host of the lab.
        host: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `heddle-cni` could not be run.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// `heddle-cni` ran and failed, or gave what the specification does not allow.
    #[error("{command} of pod {pod} failed: {answer}")]
    Cni {
        /// The CNI command.
        command: &'static str,
        /// The pod.
        pod: String,
        /// Everything that the plugin printed.
        answer: String,
    },
    /// There is no node of this name.
    #[error("there is no node {name} in this lab")]
    NoNode {
        /// The name.
        name: String,
    },
}

const BRIDGE: &str = "fabric";
const UNDERLAY_4: (Ipv4Addr, u8) = (Ipv4Addr::new(192, 168, 0, 0), 24);
const UNDERLAY_6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x192, 0, 0, 0, 0, 0, 0), 64);
/// The host's number in the underlay of the fabric itself, of the first node, and of the host outside.
const FABRIC: u8 = 1;
const FIRST_NODE: u8 = 11;
const OUTSIDE: u8 = 250;
/// Name of every host's uplink.
const UPLINK: &str = "eth0";

/// The fabric with everything on it.
#[derive(Debug)]
pub struct Lab {
    fabric: Namespace,
    outside: Namespace,
    nodes: Vec<Node>,
}

impl Lab {
    /// Builds a fabric with these nodes: the first has the addresses 192.168.0.11 and fd00:192::b, and the pod ranges
    /// 10.244.1.0/24 and fd00:244:0:1::/64; the next ones count up. Each node reaches the others' pods by a route over
    /// the fabric.
    ///
    /// # Errors
    /// Mostly when the process is not root.
    pub fn new(nodes: &[&str]) -> Result<Self, Error> {
        let lab = Self::without_pod_routes(nodes)?;
        lab.route_pods()?;
        Ok(lab)
    }

    /// The same where nobody has told the nodes, or the fabric, where the others' pods are.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn without_pod_routes(nodes: &[&str]) -> Result<Self, Error> {
        let fabric = Namespace::new(BRIDGE)?;
        fabric.sysctl("ipv6/conf/default/accept_dad", "0")?;
        fabric.enter(lay_fabric)?.map_err(|source| Error::Wire { host: BRIDGE.into(), source })?;
        route_between_links(&fabric)?;
        let mut lab = Self { outside: Namespace::new("outside")?, fabric, nodes: Vec::new() };
        lab.connect(&lab.outside, OUTSIDE)?;
        for (number, name) in (1..).zip(nodes) {
            let node = Node::new(name, number)?;
            lab.connect(node.namespace(), FIRST_NODE + number - 1)?;
            node.forward()?;
            lab.nodes.push(node);
        }
        Ok(lab)
    }

    /// A host beside the nodes that is not part of the cluster: 192.168.0.250 and fd00:192::fa.
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// The addresses of [`outside`](Self::outside): IPv4, then IPv6.
    pub fn outside_addresses(&self) -> [IpAddr; 2] {
        underlay(OUTSIDE).map(|network| network.ip())
    }

    /// The switch and router between the hosts.
    pub fn fabric(&self) -> &Namespace {
        &self.fabric
    }

    /// The addresses of [`fabric`](Self::fabric): IPv4, then IPv6.
    pub fn fabric_addresses(&self) -> [IpAddr; 2] {
        underlay(FABRIC).map(|network| network.ip())
    }

    /// A node by its name.
    ///
    /// # Errors
    /// [`Error::NoNode`].
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        self.nodes
            .iter()
            .find(|node| node.name() == name)
            .ok_or_else(|| Error::NoNode { name: name.to_owned() })
    }

    /// All nodes, in the order in which they were named.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The host outside sends what is for an address to this node, until [`forget`](Self::forget).
    ///
    /// # Errors
    /// [`Error::NoNode`], or when the kernel refuses the route.
    pub fn steer(&self, address: IpAddr, node: &str) -> Result<(), Error> {
        let via = self.router(address, node)?;
        self.outside_wire(|wire| wire.reroute(UPLINK, address.into(), via))
    }

    /// The host outside has no way of its own by this node to an address any more.
    ///
    /// # Errors
    /// When it had none.
    pub fn forget(&self, address: IpAddr, node: &str) -> Result<(), Error> {
        let via = self.router(address, node)?;
        self.outside_wire(|wire| wire.unroute(UPLINK, address.into(), via))
    }

    fn router(&self, towards: IpAddr, node: &str) -> Result<IpAddr, Error> {
        Ok(self.node(node)?.addresses()[usize::from(towards.is_ipv6())])
    }

    fn outside_wire(
        &self,
        work: impl FnOnce(&mut Wire) -> Result<(), heddle_netlink::Error> + Send,
    ) -> Result<(), Error> {
        let failed = |source| Error::Wire { host: self.outside.name().to_owned(), source };
        self.outside.enter(|| work(&mut Wire::open()?))?.map_err(failed)
    }

    /// Plugs a host into the fabric and gives it the fabric as its default route, as Services' addresses need one.
    fn connect(&self, host: &Namespace, number: u8) -> Result<(), Error> {
        let failed = |source| Error::Wire { host: host.name().to_owned(), source };
        let port: String = host.name().chars().take(link::NAME_MAX).collect();
        let cable = Cable { bridge: BRIDGE, port: &port, plug: UPLINK, other: host.as_fd(), number };
        self.fabric.enter(|| Wire::open()?.cable(cable))?.map_err(failed)?;
        // Until its link-local address is proven unique, which takes seconds, a router asks for no IPv6 neighbour.
        host.sysctl(&format!("ipv6/conf/{UPLINK}/accept_dad"), "0")?;
        host.enter(|| connect_here(number))?.map_err(failed)
    }

    /// Tells every node, and the fabric, behind which node each pod range lies.
    fn route_pods(&self) -> Result<(), Error> {
        let links = self.nodes.iter().map(|node| (node.namespace(), UPLINK)).chain([(&self.fabric, BRIDGE)]);
        for (host, link) in links {
            let others = self.nodes.iter().filter(|node| node.name() != host.name());
            let mut routes = others.flat_map(|node| node.pod_ranges().into_iter().zip(node.addresses()));
            host.enter(|| {
                let mut wire = Wire::open()?;
                routes.try_for_each(|(range, via)| wire.route(link, range, via))
            })?
            .map_err(|source| Error::Wire { host: host.name().to_owned(), source })?;
        }
        Ok(())
    }
}

/// Host number `number` of the underlay, in both families.
fn underlay(number: u8) -> [IpNetwork; 2] {
    let [a, b, c, _] = UNDERLAY_4.0.octets();
    let v4 =
        Ipv4Network::new(Ipv4Addr::new(a, b, c, number), UNDERLAY_4.1).expect("a prefix of at most 32 bits");
    let mut octets = UNDERLAY_6.0.octets();
    octets[15] = number;
    let v6 = Ipv6Network::new(Ipv6Addr::from(octets), UNDERLAY_6.1).expect("a prefix of at most 128 bits");
    [v4.into(), v6.into()]
}

/// The two networks that hold every address.
fn everything() -> [IpNetwork; 2] {
    let v4 = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("a prefix of no bits");
    let v6 = Ipv6Network::new(Ipv6Addr::UNSPECIFIED, 0).expect("a prefix of no bits");
    [v4.into(), v6.into()]
}

fn lay_fabric() -> Result<(), heddle_netlink::Error> {
    let mut wire = Wire::open()?;
    wire.up("lo")?;
    wire.bridge(BRIDGE)?;
    underlay(FABRIC).into_iter().try_for_each(|address| wire.address(BRIDGE, address))
}

fn connect_here(number: u8) -> Result<(), heddle_netlink::Error> {
    let mut wire = Wire::open()?;
    wire.up("lo")?;
    wire.up(UPLINK)?;
    underlay(number).into_iter().try_for_each(|address| wire.address(UPLINK, address))?;
    let mut routes = everything().into_iter().zip(underlay(FABRIC));
    routes.try_for_each(|(to, router)| wire.route(UPLINK, to, router.ip()))
}

/// Lets a host pass packets on, and answer every undeliverable one: the kernel's limit of about one ICMP error a
/// second to one host would turn "refused" into "no answer" in a test that asks often.
fn route_between_links(host: &Namespace) -> Result<(), namespace::Error> {
    let settings = [
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/icmp_ratemask", "0"),
        ("ipv6/icmp/ratelimit", "0"),
    ];
    settings.into_iter().try_for_each(|(key, value)| host.sysctl(key, value))
}
