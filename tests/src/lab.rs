//! A data centre in one process: a fabric, nodes on it, a host outside the cluster, and pods on the nodes.
//!
//! It is not a cluster: nothing here knows Services. The fabric is a switch for each subnet of the [`Underlay`] and everybody's
//! router, so that a packet for an address that no node translates comes back as "network unreachable", which no test can
//! take for anything else. Invariant: every host is a namespace of its own, the node included.

mod node;
mod pod;
mod underlay;

pub use node::Node;
pub use pod::Pod;
pub use underlay::{Families, Underlay};

use crate::namespace::{self, Namespace};
use crate::process::{self, Invocation};
use crate::wire::{Cable, Wire};
use heddle_netlink::link;
use ipnetwork::IpNetwork;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use underlay::Seat;

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
    /// The underlay does not carry the family that is needed.
    #[error("node {name} has no address of the family of {like}")]
    NoAddress {
        /// The node.
        name: String,
        /// An address of that family.
        like: IpAddr,
    },
}

/// Name of every host's uplink.
const UPLINK: &str = "eth0";

/// The fabric with everything on it.
#[derive(Debug)]
pub struct Lab {
    underlay: Underlay,
    fabric: Namespace,
    outside: Namespace,
    nodes: Vec<Node>,
}

impl Lab {
    /// Builds a fabric with these nodes on one subnet: the first has the addresses 192.168.0.11 and fd00:192::b, and the pod ranges
    /// 10.244.1.0/24 and fd00:244:0:1::/64; the next ones count up. Each node reaches the others' pods by a route over
    /// the fabric.
    ///
    /// # Errors
    /// Mostly when the process is not root.
    pub fn new(nodes: &[&str]) -> Result<Self, Error> {
        let lab = Self::on(Underlay::flat(nodes))?;
        lab.route_pods()?;
        Ok(lab)
    }

    /// The same, where proxies serve Services at sockets.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_sockets(nodes: &[&str]) -> Result<Self, Error> {
        let lab = Self::on(Underlay::flat(nodes).with_sockets())?;
        lab.route_pods()?;
        Ok(lab)
    }

    /// Builds what is described. Nobody tells the nodes, or the fabric, where the others' pods are.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn on(underlay: Underlay) -> Result<Self, Error> {
        let fabric = Namespace::new("fabric")?;
        fabric.sysctl("ipv6/conf/default/accept_dad", "0")?;
        fabric
            .enter(|| lay_fabric(&underlay.routers()))?
            .map_err(|source| Error::Wire { host: fabric.name().to_owned(), source })?;
        route_between_links(&fabric)?;
        if underlay.is_routed() {
            drop_pods_packets(&fabric, &underlay.routers())?;
        }
        let mut lab = Self { outside: Namespace::new("outside")?, fabric, nodes: Vec::new(), underlay };
        lab.connect(&lab.outside, lab.underlay.outside())?;
        for (name, number, seat) in lab.underlay.nodes() {
            let node = Node::new(name, number, seat, &lab.underlay)?;
            lab.connect(node.namespace(), seat)?;
            node.forward()?;
            lab.nodes.push(node);
        }
        Ok(lab)
    }

    /// A host beside the nodes of the first subnet that is not part of the cluster: 192.168.0.250 and fd00:192::fa.
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// The addresses of [`outside`](Self::outside): IPv4, then IPv6.
    pub fn outside_addresses(&self) -> Vec<IpAddr> {
        addresses(self.underlay.outside())
    }

    /// The switches and the router between the hosts.
    pub fn fabric(&self) -> &Namespace {
        &self.fabric
    }

    /// The addresses of [`fabric`](Self::fabric) on the first subnet: IPv4, then IPv6.
    pub fn fabric_addresses(&self) -> Vec<IpAddr> {
        addresses(self.underlay.outside().router())
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

    /// Switches a node off and on: its network is a new one, and what its programs kept for one boot is gone. Programs and
    /// pods of before are cut off, and for the test to end.
    ///
    /// # Errors
    /// [`Error::NoNode`], or as [`new`](Self::new).
    pub fn reboot(&mut self, name: &str) -> Result<(), Error> {
        let old = self.node(name)?;
        let (seat, port) = (old.seat(), port(old.namespace()));
        let failed = |source| Error::Wire { host: name.to_owned(), source };
        self.fabric.enter(|| Wire::open()?.remove(&port))?.map_err(failed)?;
        let namespace = Namespace::new(name)?.in_cgroup(self.node(name)?.namespace().cgroup().cloned());
        self.connect(&namespace, seat)?;
        let node = self.nodes.iter_mut().find(|node| node.name() == name).expect("it was found above");
        node.reboot(namespace)
    }

    /// Gives a node the pod ranges of this number in place of its own, as when it registers anew. Its pods keep their
    /// addresses.
    ///
    /// # Errors
    /// [`Error::NoNode`].
    pub fn give_ranges(&mut self, name: &str, number: u8) -> Result<(), Error> {
        let missing = || Error::NoNode { name: name.to_owned() };
        self.nodes.iter_mut().find(|node| node.name() == name).ok_or_else(missing)?.give_ranges(number);
        Ok(())
    }

    /// The host outside sends what is for an address to this node, which must be on its subnet, until
    /// [`forget`](Self::forget).
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
        let addresses = self.node(node)?.addresses();
        let like = addresses.iter().copied().find(|ip| ip.is_ipv4() == towards.is_ipv4());
        like.ok_or_else(|| Error::NoAddress { name: node.to_owned(), like: towards })
    }

    fn outside_wire(
        &self,
        work: impl FnOnce(&mut Wire) -> Result<(), heddle_netlink::Error> + Send,
    ) -> Result<(), Error> {
        let failed = |source| Error::Wire { host: self.outside.name().to_owned(), source };
        self.outside.enter(|| work(&mut Wire::open()?))?.map_err(failed)
    }

    /// Plugs a host into the fabric and gives it the fabric as its default route, as Services' addresses need one.
    fn connect(&self, host: &Namespace, seat: Seat) -> Result<(), Error> {
        let failed = |source| Error::Wire { host: host.name().to_owned(), source };
        let port = port(host);
        let (bridge, number, mtu) = (&seat.bridge(), seat.number, self.underlay.mtu);
        let cable = Cable { bridge, port: &port, plug: UPLINK, other: host.as_fd(), number, mtu };
        self.fabric.enter(|| Wire::open()?.cable(cable))?.map_err(failed)?;
        // Until its link-local address is proven unique, which takes seconds, a router asks for no IPv6 neighbour.
        host.sysctl(&format!("ipv6/conf/{UPLINK}/accept_dad"), "0")?;
        host.enter(|| connect_here(seat))?.map_err(failed)
    }

    /// Tells every node, and the fabric, behind which node each pod range lies.
    fn route_pods(&self) -> Result<(), Error> {
        let bridge = self.underlay.outside().bridge();
        let links =
            self.nodes.iter().map(|node| (node.namespace(), UPLINK)).chain([(&self.fabric, &*bridge)]);
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

/// Name of the fabric's end of a host's cable.
fn port(host: &Namespace) -> String {
    host.name().chars().take(link::NAME_MAX).collect()
}

fn addresses(seat: Seat) -> Vec<IpAddr> {
    seat.networks().iter().map(IpNetwork::ip).collect()
}

/// The network that holds every address of a family.
fn everything(ipv6: bool) -> IpNetwork {
    let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    IpNetwork::new(any, 0).expect("a prefix of no bits")
}

/// Makes a bridge for each subnet.
fn lay_fabric(routers: &[Seat]) -> Result<(), heddle_netlink::Error> {
    let mut wire = Wire::open()?;
    wire.up("lo")?;
    routers.iter().try_for_each(|seat| {
        let bridge = seat.bridge();
        wire.bridge(&bridge)?;
        seat.networks().into_iter().try_for_each(|address| wire.address(&bridge, address))
    })
}

fn connect_here(seat: Seat) -> Result<(), heddle_netlink::Error> {
    let mut wire = Wire::open()?;
    wire.up("lo")?;
    wire.up(UPLINK)?;
    seat.networks().into_iter().try_for_each(|address| wire.address(UPLINK, address))?;
    seat.router()
        .networks()
        .into_iter()
        .try_for_each(|router| wire.route(UPLINK, everything(router.is_ipv6()), router.ip()))
}

/// Makes a router drop what comes from or goes to pods' addresses, as the networks of clouds do: a packet that passes it did so
/// inside another one, or with a node's address. What stays on a switch is seen here too, and passes.
fn drop_pods_packets(router: &Namespace, seats: &[Seat]) -> Result<(), Error> {
    let stays = |seat: &Seat| format!("iifname {0} oifname {0} accept;", seat.bridge());
    let rules = format!(
        "table inet strict {{ chain forward {{ type filter hook forward priority 0; {}
        ip saddr 10.244.0.0/16 drop; ip daddr 10.244.0.0/16 drop;
        ip6 saddr fd00:244::/48 drop; ip6 daddr fd00:244::/48 drop; }}; }}",
        seats.iter().map(stays).collect::<String>()
    );
    let done = Invocation::foreign("nft").args(["-f", "-"]).input(rules).run(router)?;
    assert!(done.status.success(), "nft takes the router's rules: {}", done.stderr);
    Ok(())
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
