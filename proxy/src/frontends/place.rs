//! Where clients connect to.

use crate::model::Protocol;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        if self == Self::V4 { "IPv4" } else { "IPv6" }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// To which address clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// This one.
    Address(IpAddr),
    /// Whichever of the node's own addresses serve node ports.
    Node(IpFamily),
}

impl Place {
    /// Its address family.
    pub fn family(self) -> IpFamily {
        match self {
            Self::Address(address) => IpFamily::of(address),
            Self::Node(family) => family,
        }
    }
}

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The address.
    pub place: Place,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Address(address) => write!(f, "{}/{}", SocketAddr::new(address, self.port), self.protocol),
            Place::Node(IpFamily::V4) => write!(f, "node:{}/{}", self.port, self.protocol),
            Place::Node(IpFamily::V6) => write!(f, "[node]:{}/{}", self.port, self.protocol),
        }
    }
}

/// Which field of the Service a frontend comes from. Where one Service has the same frontend twice, the first of these
/// holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// A cluster IP.
    ClusterIp,
    /// A load balancer's address.
    LoadBalancer,
    /// An external IP.
    ExternalIp,
    /// A node port.
    NodePort,
}

impl Reach {
    /// The Service's field, as Kubernetes names it.
    pub fn field(self) -> &'static str {
        match self {
            Self::ClusterIp => "spec.clusterIPs",
            Self::LoadBalancer => "status.loadBalancer.ingress",
            Self::ExternalIp => "spec.externalIPs",
            Self::NodePort => "spec.ports[].nodePort",
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "cluster-ip",
            Self::LoadBalancer => "load-balancer",
            Self::ExternalIp => "external-ip",
            Self::NodePort => "node-port",
        })
    }
}
