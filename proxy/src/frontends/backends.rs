//! What stands behind a frontend, and what happens to connections that none of it takes.

use super::{Endpoint, Reach};
use crate::model::Policy;
use ipnetwork::IpNetwork;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Clients of a Service's port keep their endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// The port: namespace, name, port name and protocol. All frontends of the port share what is remembered.
    pub of: Arc<str>,
    /// For how many seconds after its last new connection a client is remembered.
    pub seconds: NonZeroU32,
}

/// What stands behind a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    /// How the frontend is reached.
    pub reach: Reach,
    /// Which of the two lists new connections go to.
    pub policy: Policy,
    /// The endpoints of the whole cluster. With none of them, connections are rejected.
    pub cluster: Arc<[Endpoint]>,
    /// The endpoints of this node, where the policy wants them. With none of them, connections are dropped.
    pub local: Arc<[Endpoint]>,
    /// The endpoints that may go on answering clients that they have, in order, whether or not new connections go to them.
    /// Empty but for UDP, where nobody else notices that an endpoint is gone, and for TCP where somebody asks for it.
    pub serving: Arc<[SocketAddr]>,
    /// Who may connect; empty for everybody.
    pub sources: Arc<[IpNetwork]>,
    /// Whether a client keeps its endpoint.
    pub affinity: Option<Affinity>,
}

/// What happens to connections that no endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// They are refused: there is no endpoint anywhere.
    Reject,
    /// They are dropped: there are endpoints, but none that the policy allows, and a load balancer should see a silent
    /// node rather than a refusal.
    Drop,
}

impl Backends {
    /// What happens to connections that no endpoint takes, when there are such.
    pub fn unserved(&self) -> Option<Unserved> {
        match self.policy {
            _ if self.cluster.is_empty() => Some(Unserved::Reject),
            Policy::Local if self.local.is_empty() => Some(Unserved::Drop),
            _ => None,
        }
    }
}

impl fmt::Display for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        lines.extend(self.sources.iter().map(|source| format!("  only from {source}")));
        let sticky = self.affinity.as_ref();
        lines.extend(sticky.map(|a| format!("  a client keeps its endpoint for {} s", a.seconds)));
        match self.policy {
            Policy::Cluster => lines.extend(self.cluster.iter().map(|e| format!("  {e}"))),
            Policy::Local => {
                lines.extend(self.local.iter().map(|e| format!("  {e}")));
                // Pods and the node itself reach external frontends as if they had come back from outside.
                let inside = self.cluster.iter().filter(|_| self.reach != Reach::ClusterIp);
                lines.extend(inside.map(|e| format!("  from inside: {e}")));
            }
        }
        lines.extend(self.unserved().map(|unserved| match unserved {
            Unserved::Reject => "  reject".to_owned(),
            Unserved::Drop => "  drop".to_owned(),
        }));
        f.write_str(&lines.join("\n"))
    }
}
