//! The shapes of frontends: what two frontends have in common that are routed by the same chain.
//!
//! A shape has no addresses: those are elements. So the number of chains is that of the combinations in use, not that of
//! Services.

use super::affinity::List;
use super::ruleset::{self, MASQUERADE_LABEL, Maps};
use super::settings::Settings;
use crate::frontends::{Backends, Frontend, IpFamily, Place, Reach};
use crate::model::Policy;
use heddle_netlink::nft::{End, Field, Name, Rule, Sense, Statement};

/// What decides a frontend's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Where its connections go.
    pub route: Route,
    /// Clients keep their endpoint.
    pub sticky: bool,
}

/// Where connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
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
        let route = match (backends.reach, backends.policy) {
            _ if count == 0 => return None,
            (Reach::ClusterIp, Policy::Cluster) => Route::Cluster { count },
            (Reach::ClusterIp, Policy::Local) if local == 0 => return None,
            (Reach::ClusterIp, Policy::Local) => Route::ClusterLocal { count: local },
            (_, Policy::Cluster) => Route::External { node_port, count },
            (_, Policy::Local) => Route::ExternalLocal { node_port, count, local },
        };
        Some(Self { route, sticky: backends.affinity.is_some() })
    }

    /// Whether connections go to the list of the cluster, and whether to that of this node.
    pub fn lists(&self) -> (bool, bool) {
        match self.route {
            Route::Cluster { .. } | Route::External { .. } => (true, false),
            Route::ClusterLocal { .. } => (false, true),
            Route::ExternalLocal { .. } => (true, true),
        }
    }

    /// Name of its chain.
    pub fn name(&self) -> Name {
        let kind = |node_port: bool| if node_port { "node-port" } else { "external" };
        let name = match self.route {
            Route::Cluster { count } => format!("cluster-{count}"),
            Route::ClusterLocal { count } => format!("cluster-local-{count}"),
            Route::External { node_port, count } => format!("{}-{count}", kind(node_port)),
            Route::ExternalLocal { node_port, count, local } => {
                format!("{}-local-{local}-of-{count}", kind(node_port))
            }
        };
        if self.sticky { format!("{name}-sticky") } else { name }.into()
    }

    /// The rules of its chain.
    pub fn rules(&self, settings: &Settings, family: IpFamily) -> Vec<Rule> {
        let to = |node_port: bool, list: List, count: usize| {
            let place = if node_port { Place::Node(family) } else { Place::Address(ANY) };
            destinations(Maps::of(place), list, self.sticky, (node_port, count))
        };
        match self.route {
            Route::Cluster { count } => cluster_rules(settings, family, to(false, List::Cluster, count)),
            Route::ClusterLocal { count } => cluster_rules(settings, family, to(false, List::Local, count)),
            Route::External { node_port, count } => {
                prefixed(&[masquerade()], to(node_port, List::Cluster, count))
            }
            Route::ExternalLocal { node_port, count, local } => {
                let cluster = || to(node_port, List::Cluster, count);
                let mut rules = Vec::new();
                // A pod's packet is treated as if it had gone out and come back, but keeps its source.
                if let Some(from_pod) = settings.from_pod(family, Sense::Is) {
                    rules.extend(prefixed(&[from_pod], cluster()));
                }
                let from_here = [Statement::Local(End::Source, Sense::Is), masquerade()];
                rules.extend(prefixed(&from_here, cluster()));
                rules.extend(match local {
                    0 => vec![vec![Statement::Goto(ruleset::DISCARD.into())]],
                    _ => to(node_port, List::Local, local),
                });
                rules
            }
        }
    }
}

/// Only says that a frontend has an address.
const ANY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

fn prefixed(prefix: &[Statement], rules: Vec<Rule>) -> Vec<Rule> {
    rules.into_iter().map(|rule| [prefix, &rule].concat()).collect()
}

/// Pods of the cluster reach a cluster IP with their own address; who else comes could not be answered.
fn cluster_rules(settings: &Settings, family: IpFamily, to: Vec<Rule>) -> Vec<Rule> {
    let mut rules = Vec::new();
    if settings.masquerade_all {
        rules.push(vec![masquerade()]);
    } else if let Some(not_from_pod) = settings.from_pod(family, Sense::IsNot) {
        rules.push(vec![not_from_pod, masquerade()]);
    }
    rules.extend(to);
    rules
}

/// To the endpoint that the client keeps, if it is remembered, and otherwise to any.
fn destinations(maps: Maps, list: List, sticky: bool, (node_port, count): (bool, usize)) -> Vec<Rule> {
    let (endpoints, affinity) = match list {
        List::Cluster => (maps.cluster, maps.cluster_affinity),
        List::Local => (maps.local, maps.local_affinity),
    };
    let mut rules = Vec::new();
    if sticky {
        rules.push(vec![Statement::SetCtMark(ruleset::frontend_fields(node_port), affinity.into())]);
        rules.push(vec![Statement::Dnat(ruleset::client_fields(), ruleset::CLIENTS.into())]);
    }
    let mut key = ruleset::frontend_fields(node_port);
    key.push(Field::Random(u32::try_from(count).expect("a Service has fewer than 2^32 endpoints")));
    rules.push(vec![Statement::Dnat(key, endpoints.into())]);
    rules
}

fn masquerade() -> Statement {
    Statement::SetLabel(MASQUERADE_LABEL)
}
