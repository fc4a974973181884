//! Which ways into Services the scenarios' traffic takes.
//!
//! A [`Way`] says where a packet comes from and to what kind of frontend it goes. It does not judge what follows: that
//! is the line of traffic's part. Invariant: [`Way::all`] is the product of all that a way consists of.

use crate::scenario::attempt::OUTSIDE;
use crate::scenario::{Attempt, Expected, Scenario, Target, expect};
use crate::traffic::Transport;
use heddle_proxy::frontends::{Frontend, IpFamily, Place, Reach};
use heddle_proxy::model::{Policy, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A pod.
    Pod,
    /// A pod that is the Service's own endpoint.
    Itself,
    /// The node whose proxy routes it.
    Node,
    /// A node whose own proxy does not take it.
    OtherNode,
    /// The host that is not in the cluster.
    Outside,
}

impl Origin {
    const ALL: [Self; 5] = [Self::Pod, Self::Itself, Self::Node, Self::OtherNode, Self::Outside];
}

/// A way into a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// From where.
    pub origin: Origin,
    /// To what.
    pub reach: Reach,
    /// With which policy, the internal one for cluster IPs.
    pub policy: Policy,
    /// In which protocol.
    pub protocol: Protocol,
    /// In which family.
    pub family: IpFamily,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, reach, policy, protocol, family } = self;
        write!(f, "{origin:?} to {reach} with policy {policy:?} by {protocol} over {family:?}")
    }
}

impl Way {
    /// Every way that there could be.
    pub fn all() -> BTreeSet<Self> {
        let reaches = [Reach::ClusterIp, Reach::LoadBalancer, Reach::ExternalIp, Reach::NodePort];
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let mut all = BTreeSet::new();
        for origin in Origin::ALL {
            for reach in reaches {
                for policy in [Policy::Cluster, Policy::Local] {
                    for protocol in protocols {
                        let way = |family| Self { origin, reach, policy, protocol, family };
                        all.extend([IpFamily::V4, IpFamily::V6].map(way));
                    }
                }
            }
        }
        all
    }

    /// The ways that a scenario's traffic takes.
    pub fn of(scenario: &Scenario) -> BTreeSet<Self> {
        let frontends = expect::frontends(scenario);
        let kinds: BTreeMap<Frontend, (Reach, Policy)> = frontends
            .iter()
            .map(|(frontend, _, backends)| (*frontend, (backends.reach, backends.policy)))
            .collect();
        let mut ways = BTreeSet::new();
        for attempt in &scenario.traffic {
            for (transport, to) in
                attempt.transports.iter().flat_map(|t| attempt.to.iter().map(move |to| (t, to)))
            {
                let frontend = aimed_at(*transport, to);
                let Some(&(reach, policy)) = kinds.get(&frontend) else { continue };
                let origin = origin(scenario, attempt, to);
                let (protocol, family) = (frontend.protocol, frontend.place.family());
                ways.insert(Self { origin, reach, policy, protocol, family });
            }
        }
        ways
    }
}

/// The frontend that a target would be.
fn aimed_at(transport: Transport, to: &Target) -> Frontend {
    let protocol = match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    let (place, port) = match to {
        Target::Address(address) => (Place::Address(address.ip()), address.port()),
        Target::Node { ipv6, port, .. } => {
            (Place::Node(if *ipv6 { IpFamily::V6 } else { IpFamily::V4 }), *port)
        }
    };
    Frontend { place, protocol, port }
}

fn origin(scenario: &Scenario, attempt: &Attempt, to: &Target) -> Origin {
    let is_node = scenario.nodes.iter().any(|node| node.name == attempt.from);
    match (&attempt.expected, to) {
        _ if attempt.from == OUTSIDE => Origin::Outside,
        (_, Target::Node { name, .. }) if is_node && *name != attempt.from => Origin::OtherNode,
        _ if is_node => Origin::Node,
        (Expected::Answers { endpoints, .. }, _) if endpoints.contains(&attempt.from) => Origin::Itself,
        _ => Origin::Pod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# A node port
--- topology
node-1
    web  10.244.1.11  tcp:8080
node-2
--- objects
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.96.0.10, ports: [{port: 80, nodePort: 30080}]}
--- traffic
web tcp -> 10.96.0.10:80 = web
node-1 tcp -> node-1:30080 = web
node-2 tcp -> node-1:30080 = web
outside udp -> node-1:30080 = refused
";

    #[test]
    fn a_way_is_taken_where_a_frontend_is_aimed_at() {
        let scenario = Scenario::parse(TEXT).unwrap();
        let ways: Vec<_> = Way::of(&scenario).iter().map(ToString::to_string).collect();
        assert_eq!(
            ways,
            [
                "Itself to cluster-ip with policy Cluster by tcp over V4",
                "Node to node-port with policy Local by tcp over V4",
                "OtherNode to node-port with policy Local by tcp over V4",
            ]
        );
        assert_eq!(Way::all().len(), 5 * 4 * 2 * 3 * 2);
    }
}
