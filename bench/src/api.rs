//! An API server on a node's own loopback, with a made-up cluster: what a proxy follows.
//!
//! Invariant: whoever has the kubeconfig's path can read the file as long as the node lives.

use crate::Failure;
use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::lab::Node;
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};

/// Where API servers listen.
const PORT: u16 = 6443;
/// Where cluster IPs come from.
const SERVICES: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 12);

/// A running API server.
pub struct Api {
    server: ApiServer,
    kubeconfig: String,
}

impl Api {
    /// Starts it with these objects.
    ///
    /// # Errors
    /// When it cannot be started, or refuses an object.
    pub fn open(node: &Node, objects: impl IntoIterator<Item = Value>) -> Result<Self, Failure> {
        let listener = node.namespace().enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)))??;
        let service_networks = vec![IpNetwork::new(SERVICES.0.into(), SERVICES.1)?];
        let server = ApiServer::start(listener, Options { service_networks, ..Options::default() })?;
        let file = node.directory().join("kubeconfig");
        fs::write(&file, server.kubeconfig())?;
        let api = Self { server, kubeconfig: file.to_string_lossy().into_owned() };
        objects.into_iter().try_for_each(|object| api.apply(object))?;
        Ok(api)
    }

    /// Writes an object; watches have it when this returns, or will at once.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, object: Value) -> Result<(), Failure> {
        self.server.apply(object)?;
        Ok(())
    }

    /// The path of its kubeconfig.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }
}
