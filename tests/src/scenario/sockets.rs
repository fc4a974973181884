//! Which Services a client's sockets lead it to, as the pure half of the eBPF dataplane says.

use crate::lab;
use crate::scenario::expect::{node_of, resolved_on};
use crate::scenario::{Host, Scenario};
use crate::traffic::Transport;
use heddle_proxy::ebpf::plan::{self, Leads};
use heddle_proxy::frontends::IpFamily;
use heddle_proxy::nft::settings::Locality;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// What sockets of one client serve.
#[derive(Clone, Debug, Default)]
pub(super) struct Sockets {
    /// The client is this node.
    pub(super) node: Option<String>,
    /// Addresses of Services with protocol and port, as the maps have them.
    frontends: BTreeSet<heddle_ebpf::abi::Frontend>,
    /// Those of them that pods do not see.
    not_for_pods: BTreeSet<heddle_ebpf::abi::Frontend>,
    node_addresses: Vec<IpAddr>,
}

impl Sockets {
    /// Those of a node.
    pub(super) fn of(scenario: &Scenario, (node, host): (&lab::Node, &Host)) -> Self {
        let settings = &scenario.settings;
        let object = node_of(scenario, node.name());
        let bridge = node.pod_ranges().into_iter().filter_map(|range| node.masquerade_towards(range.ip()));
        let own = node.addresses().into_iter().chain(host.addresses.iter().copied()).chain(bridge);
        let mut sockets = Self {
            node: Some(node.name().to_owned()),
            node_addresses: own.filter(|address| settings.serves_node_ports_on(address, &object)).collect(),
            ..Self::default()
        };
        for (frontend, _, backends) in resolved_on(scenario, node.name()).iter() {
            let knows_pods = match &settings.locality {
                Locality::Unknown => false,
                Locality::Networks(networks) => {
                    networks.iter().any(|network| IpFamily::of(network.ip()) == frontend.place.family())
                }
                Locality::NodeNetworks | Locality::Interface(_) => true,
            };
            let leads = Leads::of(frontend, backends, settings, knows_pods);
            if let (Some(key), Some(leads)) = (plan::key(frontend), leads) {
                sockets.frontends.insert(key);
                if leads.not_for_pods {
                    sockets.not_for_pods.insert(key);
                }
            }
        }
        sockets
    }

    /// Those of the node's pods.
    pub(super) fn of_pods(&self) -> Self {
        let mut sockets = Self { node: None, ..self.clone() };
        sockets.frontends.retain(|frontend| !self.not_for_pods.contains(frontend));
        sockets
    }

    /// Whether they lead the client somewhere from here.
    pub(super) fn serve(&self, transport: Transport, to: SocketAddr) -> bool {
        use heddle_ebpf::abi::{Frontend, HERE, NODE_V4, NODE_V6, TCP, UDP};
        let protocol = if transport == Transport::Tcp { TCP } else { UDP };
        let port = to.port().to_be();
        let here = Frontend { address: plan::address(to.ip()), port, protocol, scope: HERE };
        let scope = if to.is_ipv4() { NODE_V4 } else { NODE_V6 };
        let node_port = Frontend { address: [0; 4], scope, ..here };
        self.frontends.contains(&here)
            || self.node_addresses.contains(&to.ip()) && self.frontends.contains(&node_port)
    }
}
