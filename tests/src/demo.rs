//! The demonstration: nodes behind a router, a pod on each, and a Service, with heddle-node and heddle-proxy on every node.
//!
//! It is a story for a newcomer that fails when a line of it is not true, not a test of corner cases (those are the
//! scenarios and the stories of the whole network). Everything in it is a namespace, a descriptor or a process of its own, so
//! it is gone with its process.

mod damage;
mod pods;
mod services;
mod stage;
mod story;
mod teller;
mod way;
mod ways_in;

pub use stage::Stage;
pub use story::tell;

use crate::apiserver::Refusal;
use crate::patience::Vain;
use crate::{cluster, lab, namespace, process, traffic};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The nodes of each subnet. The client is on the first, the Service's endpoints are on the others.
const SUBNETS: &[&[&str]] = &[&["node-1", "node-2"], &["node-3"]];
/// Name of the pod on the first node; those on the others are called by [`SERVICE`] and their node's number.
const CLIENT: &str = "client";
/// Name of the host outside the cluster, as it answers.
const OUTSIDE: &str = "outside";
/// Name of the Service.
const SERVICE: &str = "web";
/// The pods' port, the Service's, and the one that it has on every node.
const TARGET: u16 = 8080;
const PORT: u16 = 80;
const NODE_PORT: u16 = 30_080;
/// The Service's addresses; the node reaches them by its default route, as on any cluster.
const CLUSTER_IPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10))];

/// Why the demonstration could not be given, or what in it was not true.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The nodes and what runs on them could not be had.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A server could not be started.
    #[error(transparent)]
    Server(#[from] traffic::Error),
    /// The API server refused an object.
    #[error("apply an object")]
    Refused(#[from] Refusal),
    /// A line could not be printed.
    #[error("print a line")]
    Print(#[from] io::Error),
    /// Something else came back than must.
    #[error("this is not right: {0}")]
    Wrong(String),
}

impl From<lab::Error> for Error {
    fn from(error: lab::Error) -> Self {
        Self::Cluster(error.into())
    }
}

impl From<namespace::Error> for Error {
    fn from(error: namespace::Error) -> Self {
        Self::Cluster(error.into())
    }
}

impl From<process::Error> for Error {
    fn from(error: process::Error) -> Self {
        Self::Cluster(error.into())
    }
}

impl From<Vain> for Error {
    fn from(vain: Vain) -> Self {
        Self::Cluster(vain.into())
    }
}
