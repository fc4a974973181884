//! Our table: its names, its sets, its keys.
//!
//! This is the one place that knows how the table looks; which elements are in it is the plan's. Its shapes are limited to
//! what nft 1.0.6 can print and load again, since operators list rulesets.

use super::chains::{self, Present};
use super::settings::Settings;
use crate::frontends::{Endpoint, Frontend, IpFamily, Place, Unserved};
use crate::model::Protocol;
use heddle_netlink::nft::{Cells, DataType, Elements, Field, Name, Set, SetType, Table, TableFamily, Type};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The table, in the families `ip` and `ip6`.
pub const TABLE: &str = "heddle-proxy";
/// The table of heddle-node, which masquerades what leaves the cluster.
pub const NODE_TABLE: &str = "heddle-node";
/// What `nft list table` shows of the table's purpose.
pub const COMMENT: &str = "Services of this node, kept by heddle-proxy: edits are undone";

/// (address, protocol, port) of a frontend → the chain for its shape.
pub const SERVICES: &str = "services";
/// (frontend, slot) → an endpoint of the cluster; slots count from 0 without gaps.
pub const ENDPOINTS: &str = "endpoints";
/// (frontend, slot) → an endpoint of this node.
pub const LOCAL_ENDPOINTS: &str = "local-endpoints";
/// (protocol, port) of a node port → the chain for its shape.
pub const NODE_PORTS: &str = "node-ports";
/// (node port, slot) → an endpoint of the cluster.
pub const NODE_PORT_ENDPOINTS: &str = "node-port-endpoints";
/// (node port, slot) → an endpoint of this node.
pub const NODE_PORT_LOCAL_ENDPOINTS: &str = "node-port-local-endpoints";
/// The maps that each first packet of a served connection finds its frontend in, and no other packet.
pub const COUNTED: [&str; 2] = [SERVICES, NODE_PORTS];
/// The maps from slots to endpoints.
pub const SLOTS: [&str; 4] = [ENDPOINTS, LOCAL_ENDPOINTS, NODE_PORT_ENDPOINTS, NODE_PORT_LOCAL_ENDPOINTS];
/// Frontends where new connections may find no endpoint → [`REFUSE`] or [`DISCARD`].
pub const UNSERVED: &str = "unserved";
/// The same for node ports.
pub const UNSERVED_NODE_PORTS: &str = "unserved-node-ports";
/// Frontends whose clients keep their endpoint → the number of the Service's port, a connection mark.
pub const AFFINITY: &str = "affinity";
/// The same for endpoints of this node.
pub const LOCAL_AFFINITY: &str = "local-affinity";
/// The same for node ports.
pub const NODE_PORT_AFFINITY: &str = "node-port-affinity";
/// The same for node ports and endpoints of this node.
pub const NODE_PORT_LOCAL_AFFINITY: &str = "node-port-local-affinity";
/// A number → the chain that remembers for its time.
pub const AFFINITY_TIMES: &str = "affinity-times";
/// (client, protocol, number) → the endpoint that it keeps; filled by packets.
pub const CLIENTS: &str = "clients";
/// How many clients are remembered at most; more are served without.
const MOST_CLIENTS: u32 = 262_144;
/// (address, address) of endpoints that may reach themselves.
pub const HAIRPIN: &str = "hairpin";
/// Cluster IPs, whatever the port.
pub const CLUSTER_IPS: &str = "cluster-ips";
/// Frontends that only some may connect to.
pub const FILTERED: &str = "filtered";
/// (frontend, source range): who may.
pub const SOURCES: &str = "sources";

/// The chain in which clients are remembered whose endpoint is elsewhere.
pub const REMEMBER: &str = "remember";
/// The same where the endpoint has an address of this node: such packets do not leave again.
pub const REMEMBER_HERE: &str = "remember-here";
/// The chain that answers with a refusal.
pub const REFUSE: &str = "refuse";
/// The chain that drops.
pub const DISCARD: &str = "discard";
/// What new connections to this node meet that no Service took.
pub const UNSERVED_HERE: &str = "unserved-here";
/// What other new connections meet.
pub const UNSERVED_ELSEWHERE: &str = "unserved-elsewhere";

/// The conntrack label of connections whose source is to be translated. Policy routing and other rulesets see packet
/// marks, but not this.
pub const MASQUERADE_LABEL: u8 = 127;

/// Our family name for the kernel's.
pub fn ip_family(family: TableFamily) -> IpFamily {
    if family == TableFamily::Ip { IpFamily::V4 } else { IpFamily::V6 }
}

/// The names of the maps that hold one kind of frontend, addresses or node ports.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// Frontend → chain.
    pub chains: &'static str,
    /// Frontend → what happens without an endpoint.
    pub unserved: &'static str,
    /// (Frontend, slot) → endpoint of the cluster.
    pub cluster: &'static str,
    /// (Frontend, slot) → endpoint of this node.
    pub local: &'static str,
    /// Frontend → number of its port, for the first list.
    pub cluster_affinity: &'static str,
    /// The same for the second list.
    pub local_affinity: &'static str,
}

impl Maps {
    /// Those of a frontend.
    pub fn of(place: Place) -> Self {
        match place {
            Place::Address(_) => Self {
                chains: SERVICES,
                unserved: UNSERVED,
                cluster: ENDPOINTS,
                local: LOCAL_ENDPOINTS,
                cluster_affinity: AFFINITY,
                local_affinity: LOCAL_AFFINITY,
            },
            Place::Node(_) => Self {
                chains: NODE_PORTS,
                unserved: UNSERVED_NODE_PORTS,
                cluster: NODE_PORT_ENDPOINTS,
                local: NODE_PORT_LOCAL_ENDPOINTS,
                cluster_affinity: NODE_PORT_AFFINITY,
                local_affinity: NODE_PORT_LOCAL_AFFINITY,
            },
        }
    }
}

impl Maps {
    fn all(&self) -> [&'static str; 6] {
        [self.chains, self.unserved, self.cluster, self.local, self.cluster_affinity, self.local_affinity]
    }
}

/// The element key of a frontend.
pub fn frontend_key(frontend: &Frontend) -> Cells {
    let key = match frontend.place {
        Place::Address(address) => Cells::default().address(address),
        Place::Node(_) => Cells::default(),
    };
    key.protocol(frontend.protocol.number()).port(frontend.port)
}

/// The frontend that an element is about, where its set has frontends in its keys.
pub fn frontend_of(family: TableFamily, set: &str, key: &Cells) -> Option<Frontend> {
    let family = ip_family(family);
    let address: Option<IpAddr> = match family {
        IpFamily::V4 => key.as_bytes().first_chunk().map(|bytes: &[u8; 4]| (*bytes).into()),
        IpFamily::V6 => key.as_bytes().first_chunk().map(|bytes: &[u8; 16]| (*bytes).into()),
    };
    let in_set = |place: &Place| match place {
        Place::Address(_) if [FILTERED, SOURCES].contains(&set) => true,
        _ => Maps::of(*place).all().contains(&set),
    };
    let mut places = address.map(Place::Address).into_iter().chain([Place::Node(family)]);
    let place = places.find(in_set)?;
    let mut frontends = Protocol::ALL.into_iter().filter_map(|protocol| {
        let start = frontend_key(&Frontend { place, protocol, port: 0 }).as_bytes().len() - 4;
        let port = key.as_bytes().get(start..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))?;
        Some(Frontend { place, protocol, port })
    });
    frontends.find(|frontend| key.as_bytes().starts_with(frontend_key(frontend).as_bytes()))
}

/// The element data of an endpoint.
pub fn endpoint_data(endpoint: &Endpoint) -> Cells {
    Cells::default().address(endpoint.address).port(endpoint.port)
}

/// The element key of an endpoint's traffic to itself.
pub fn hairpin_key(address: IpAddr) -> Cells {
    Cells::default().address(address).address(address)
}

/// The chain for connections without an endpoint.
pub fn unserved_chain(unserved: Unserved) -> Name {
    match unserved {
        Unserved::Reject => REFUSE.into(),
        Unserved::Drop => DISCARD.into(),
    }
}

/// The fields of a frontend's key.
pub fn frontend_fields(node_port: bool) -> Vec<Field> {
    if node_port {
        vec![Field::L4Proto, Field::Dport]
    } else {
        vec![Field::Daddr, Field::L4Proto, Field::Dport]
    }
}

/// The fields that a client is remembered by. The protocol is there for nft, which wants one beside a port.
pub fn client_fields() -> Vec<Field> {
    vec![Field::Saddr, Field::L4Proto, Field::CtMark]
}

/// The table with no Service in it.
pub fn empty(family: TableFamily, settings: &Settings) -> Table {
    let mut table = Table::new(family, TABLE);
    table.sets = sets(family);
    for (name, set) in &mut table.sets {
        set.kind.counted = settings.counts_connections && COUNTED.contains(&&**name);
    }
    table.chains = chains::fixed();
    table.chains.extend(chains::nat(settings, family, &Present::default()));
    table
}

fn sets(family: TableFamily) -> BTreeMap<Name, Set> {
    use Type::{InetProto, InetService, Slot};
    let address = if family == TableFamily::Ip { Type::Ipv4Addr } else { Type::Ipv6Addr };
    let endpoint = || DataType::Cells(vec![address, InetService]);
    let mark = || DataType::Cells(vec![Type::Mark]);
    let set = |name: &str, key: &[Type], data, comment: &str| {
        let kind =
            SetType { key: key.to_vec(), data, dynamic: None, counted: false, comment: comment.into() };
        (Name::from(name), Set { kind, elements: Elements::default() })
    };
    let frontend = [address, InetProto, InetService];
    let slot = [address, InetProto, InetService, Slot];
    let source = [address, InetProto, InetService, address];
    let node_slot = [InetProto, InetService, Slot];
    let mut sets = BTreeMap::from([
        set(SERVICES, &frontend, DataType::Verdict, "Service : chain for its policy and number of endpoints"),
        set(ENDPOINTS, &slot, endpoint(), "Service . slot : endpoint"),
        set(LOCAL_ENDPOINTS, &slot, endpoint(), "Service . slot : endpoint on this node"),
        set(
            NODE_PORTS,
            &frontend[1..],
            DataType::Verdict,
            "node port : chain for its policy and number of endpoints",
        ),
        set(NODE_PORT_ENDPOINTS, &node_slot, endpoint(), "node port . slot : endpoint"),
        set(NODE_PORT_LOCAL_ENDPOINTS, &node_slot, endpoint(), "node port . slot : endpoint on this node"),
        set(UNSERVED, &frontend, DataType::Verdict, "Service without an endpoint : what happens"),
        set(
            UNSERVED_NODE_PORTS,
            &frontend[1..],
            DataType::Verdict,
            "node port without an endpoint : what happens",
        ),
        set(HAIRPIN, &[address, address], DataType::None, "endpoints that may reach themselves"),
        set(CLUSTER_IPS, &[address], DataType::None, "cluster IPs, whose other ports are refused"),
        set(FILTERED, &frontend, DataType::None, "Services that only some may reach"),
        set(SOURCES, &source, DataType::Ranges, "Service . who may reach it"),
        set(AFFINITY, &frontend, mark(), "Service whose clients keep their endpoint : mark"),
        set(LOCAL_AFFINITY, &frontend, mark(), "the same for endpoints on this node"),
        set(NODE_PORT_AFFINITY, &frontend[1..], mark(), "node port whose clients keep their endpoint : mark"),
        set(NODE_PORT_LOCAL_AFFINITY, &frontend[1..], mark(), "the same for endpoints on this node"),
        set(AFFINITY_TIMES, &[Type::Mark], DataType::Verdict, "mark : chain that remembers for its time"),
        set(CLIENTS, &[address, InetProto, Type::Mark], endpoint(), "client . mark : its endpoint"),
    ]);
    if let Some(clients) = sets.get_mut(CLIENTS) {
        clients.kind.dynamic = Some(MOST_CLIENTS);
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_says_which_frontend_it_is_about() {
        for (family, address) in [(TableFamily::Ip, "10.96.0.1"), (TableFamily::Ip6, "fd00::1")] {
            let address: IpAddr = address.parse().unwrap();
            for (place, filters) in
                [(Place::Address(address), &[FILTERED, SOURCES][..]), (Place::Node(ip_family(family)), &[])]
            {
                let frontend = Frontend { place, protocol: Protocol::Udp, port: 53 };
                for set in Maps::of(place).all().iter().chain(filters) {
                    for key in [frontend_key(&frontend), frontend_key(&frontend).slot(6)] {
                        assert_eq!(frontend_of(family, set, &key), Some(frontend), "{set}");
                    }
                }
            }
            assert_eq!(frontend_of(family, HAIRPIN, &hairpin_key(address)), None);
            assert_eq!(frontend_of(family, AFFINITY_TIMES, &Cells::default().mark(6)), None);
        }
    }
}
