//! What an operator decides about routing, for the whole life of the process.

use crate::ebpf::between::Untracking;
use crate::frontends::IpFamily;
use heddle_netlink::nft::{End, Sense, Statement};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// How packets of this node's pods are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Locality {
    /// They are not: nobody counts as a pod, and nothing to a cluster IP is masqueraded.
    #[default]
    Unknown,
    /// By their source: one network of each family, where there is one.
    Networks(Vec<IpNetwork>),
    /// By their source, as [`Locality::Networks`]: those that the Node object has for its pods, whatever it has at the moment.
    NodeNetworks,
    /// By the interface that they come in by; a name that ends in `*` stands for all that begin so.
    Interface(String),
}

/// On which of the node's addresses node ports are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Its first address of each family, as the Node object has it; on all where it has none.
    #[default]
    Primary,
    /// Those in these networks; on all in a family that has none of them.
    Networks(Vec<IpNetwork>),
}

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which packets are pods'.
    pub locality: Locality,
    /// Everything to a cluster IP gets the node's address as its source.
    pub masquerade_all: bool,
    /// Where node ports are served.
    pub node_port_addresses: NodePortAddresses,
    /// Whether the kernel counts the connections to each frontend.
    pub counts_connections: bool,
    /// Where sockets are served, whether connections between pods of this node are kept out of tracking.
    pub untracking: Untracking,
}

impl Settings {
    /// The match for packets that come, or do not come, from a pod of this node.
    pub fn from_pod(&self, family: IpFamily, sense: Sense) -> Option<Statement> {
        match &self.locality {
            Locality::Unknown | Locality::NodeNetworks => None,
            Locality::Networks(networks) => {
                let ours = networks.iter().find(|network| IpFamily::of(network.ip()) == family)?;
                Some(Statement::Address(End::Source, sense, *ours))
            }
            Locality::Interface(name) => Some(Statement::Iif(sense, name.as_str().into())),
        }
    }

    /// The networks in which an address of the node serves node ports; `None` for all.
    pub fn node_port_networks(&self, family: IpFamily, primary: Option<IpAddr>) -> Option<Vec<IpNetwork>> {
        let networks: Vec<IpNetwork> = match &self.node_port_addresses {
            NodePortAddresses::Primary => primary.map(IpNetwork::from).into_iter().collect(),
            NodePortAddresses::Networks(networks) => {
                networks.iter().filter(|network| IpFamily::of(network.ip()) == family).copied().collect()
            }
        };
        // A network of all addresses is not a match on any. Loopback addresses stay the node's own, as in all of them.
        (!networks.is_empty() && networks.iter().all(|network| network.prefix() > 0))
            .then(|| networks.into_iter().filter(|network| !network.ip().is_loopback()).collect())
    }

    /// Whether node ports are served on an address that the node has. `of_object` are those that its Node object says.
    pub fn serves_node_ports_on(&self, address: &IpAddr, of_object: &[IpAddr]) -> bool {
        let family = IpFamily::of(*address);
        let primary = of_object.iter().copied().find(|one| IpFamily::of(*one) == family);
        let within = |networks: Vec<IpNetwork>| networks.iter().any(|network| network.contains(*address));
        !address.is_loopback() && self.node_port_networks(family, primary).is_none_or(within)
    }
}
