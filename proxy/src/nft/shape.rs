//! The shapes of frontends: what two frontends have in common that are routed by the same chain.
//!
//! A shape has no addresses: those are elements. So the number of chains is that of the combinations in use, not that of
//! Services.

use super::ruleset::{self, MASQUERADE_LABEL, Maps};
use super::settings::Settings;
use crate::frontends::{Backends, Frontend, IpFamily, Place, Reach};
use crate::model::Policy;
use heddle_netlink::nft::{End, Field, Name, Rule, Sense, Statement};

/// What decides a frontend's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// A cluster IP that goes to so many endpoints of the cluster.
    Cluster {
        /// How many.
        count: usize,
    },
    /// A cluster IP that goes to so many endpoints of this node.
    ClusterLocal {
        /// How many.
        count: usize,
    },
    /// A load balancer address, external IP or node port that goes to endpoints of the cluster.
    External {
        /// It is a node port.
        node_port: bool,
        /// How many.
        count: usize,
    },
    /// One that keeps clients' addresses: from outside to endpoints of this node, from inside to those of the cluster.
    ExternalLocal {
        /// It is a node port.
        node_port: bool,
        /// How many in the cluster.
        count: usize,
        /// How many on this node.
        local: usize,
    },
}

impl Shape {
    /// The shape of a frontend; `None` when no connection to it finds an endpoint.
    pub fn of(frontend: &Frontend, backends: &Backends) -> Option<Self> {
        let (count, local) = (backends.cluster.len(), backends.local.len());
        let node_port = matches!(frontend.place, Place::Node(_));
        match (backends.reach, backends.policy) {
            _ if count == 0 => None,
            (Reach::ClusterIp, Policy::Cluster) => Some(Self::Cluster { count }),
            (Reach::ClusterIp, Policy::Local) => (local > 0).then_some(Self::ClusterLocal { count: local }),
            (_, Policy::Cluster) => Some(Self::External { node_port, count }),
            (_, Policy::Local) => Some(Self::ExternalLocal { node_port, count, local }),
        }
    }

    /// Whether connections go to the list of the cluster, and whether to that of this node.
    pub fn lists(&self) -> (bool, bool) {
        match self {
            Self::Cluster { .. } | Self::External { .. } => (true, false),
            Self::ClusterLocal { .. } => (false, true),
            Self::ExternalLocal { .. } => (true, true),
        }
    }

    /// Name of its chain.
    pub fn name(&self) -> Name {
        let kind = |node_port: bool| if node_port { "node-port" } else { "external" };
        match *self {
            Self::Cluster { count } => format!("cluster-{count}"),
            Self::ClusterLocal { count } => format!("cluster-local-{count}"),
            Self::External { node_port, count } => format!("{}-{count}", kind(node_port)),
            Self::ExternalLocal { node_port, count, local } => {
                format!("{}-local-{local}-of-{count}", kind(node_port))
            }
        }
        .into()
    }

    /// The rules of its chain.
    pub fn rules(&self, settings: &Settings, family: IpFamily) -> Vec<Rule> {
        let addresses = Maps::of(Place::Address(std::net::Ipv4Addr::UNSPECIFIED.into()));
        let node_ports = Maps::of(Place::Node(family));
        let maps = |node_port: bool| if node_port { node_ports } else { addresses };
        match *self {
            Self::Cluster { count } => cluster_rules(settings, family, to(addresses.cluster, false, count)),
            Self::ClusterLocal { count } => {
                cluster_rules(settings, family, to(addresses.local, false, count))
            }
            Self::External { node_port, count } => {
                vec![vec![masquerade(), to(maps(node_port).cluster, node_port, count)]]
            }
            Self::ExternalLocal { node_port, count, local } => {
                let cluster = to(maps(node_port).cluster, node_port, count);
                let mut rules = Vec::new();
                // A pod's packet is treated as if it had gone out and come back, but keeps its source.
                if let Some(from_pod) = settings.from_pod(family, Sense::Is) {
                    rules.push(vec![from_pod, cluster.clone()]);
                }
                rules.push(vec![Statement::Local(End::Source, Sense::Is), masquerade(), cluster]);
                rules.push(if local > 0 {
                    vec![to(maps(node_port).local, node_port, local)]
                } else {
                    vec![Statement::Goto(ruleset::DISCARD.into())]
                });
                rules
            }
        }
    }
}

/// Pods of the cluster reach a cluster IP with their own address; who else comes could not be answered.
fn cluster_rules(settings: &Settings, family: IpFamily, to: Statement) -> Vec<Rule> {
    let mut rules = Vec::new();
    if settings.masquerade_all {
        rules.push(vec![masquerade()]);
    } else if let Some(not_from_pod) = settings.from_pod(family, Sense::IsNot) {
        rules.push(vec![not_from_pod, masquerade()]);
    }
    rules.push(vec![to]);
    rules
}

fn masquerade() -> Statement {
    Statement::SetLabel(MASQUERADE_LABEL)
}

fn to(map: &str, node_port: bool, count: usize) -> Statement {
    let mut key = ruleset::frontend_fields(node_port);
    key.push(Field::Random(u32::try_from(count).expect("a Service has fewer than 2^32 endpoints")));
    Statement::Dnat(key, map.into())
}
