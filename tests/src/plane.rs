//! A control plane that a test can break: API servers on the node whose proxy follows them.
//!
//! It is no cluster of several nodes (that is [`lab`](mod@crate::lab) with [`apiserver`](mod@crate::apiserver)): one node, which has
//! everything on loopback, so that no route is needed to reach a server. Invariant: no proxy runs before the test starts one.

use crate::apiserver::{ApiServer, ApiServerError, Options, Refusal};
use crate::lab::{self, Lab, Node};
use crate::namespace;
use crate::objects::service;
use crate::patience::{PATIENCE, Vain, eventually};
use crate::proxy::{self, Proxy};
use serde_json::{Value, json};
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::{fs, io};

/// The only node.
pub const NODE: &str = "node-1";
/// The port that endpoints of [`Plane::put_service`] would have.
const TARGET: u16 = 8080;

/// Why there is no control plane, or it did not do what was awaited.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node could not be made.
    #[error(transparent)]
    Lab(#[from] lab::Error),
    /// There is no way into its namespace.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// A server did not start.
    #[error(transparent)]
    Server(#[from] ApiServerError),
    /// A server did not take an object.
    #[error("the API server refuses: {0:?}")]
    Refused(Refusal),
    /// The proxy did not start.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// A file or a listener could not be made.
    #[error("prepare a control plane")]
    Io(#[from] io::Error),
    /// It was awaited in vain.
    #[error(transparent)]
    Vain(#[from] Vain),
}

/// A node, and the API servers of its cluster, which know it.
pub struct Plane {
    /// All of the same objects; the first is there in any case.
    pub servers: Vec<ApiServer>,
    /// The node's lab.
    pub lab: Lab,
}

impl Plane {
    /// One with so many servers, at least one.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn new(count: usize) -> Result<Self, Error> {
        let lab = Lab::new(&[NODE])?;
        let network = lab.node(NODE)?.namespace();
        let listen = || network.enter(|| TcpListener::bind("127.0.0.1:0"));
        let first = ApiServer::start(listen()??, Options::default())?;
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        first.apply(node).map_err(Error::Refused)?;
        let mut servers = vec![first];
        for _ in 1..count {
            let server = servers[0].beside(listen()??)?;
            servers.push(server);
        }
        Ok(Self { servers, lab })
    }

    /// The first server.
    pub fn server(&self) -> &ApiServer {
        &self.servers[0]
    }

    /// The node.
    ///
    /// # Errors
    /// Never; the lab's own error has to go somewhere.
    pub fn node(&self) -> Result<&Node, Error> {
        Ok(self.lab.node(NODE)?)
    }

    /// All servers, as `--master` takes them.
    pub fn masters(&self) -> String {
        self.servers.iter().map(ApiServer::url).collect::<Vec<_>>().join(",")
    }

    /// Where a file of the node is, or would be.
    ///
    /// # Errors
    /// As [`node`](Self::node).
    pub fn file(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(self.node()?.directory().join(name))
    }

    /// Writes the first server's kubeconfig after a change. Returns where it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, change: impl FnOnce(&mut Value)) -> Result<String, Error> {
        let mut config = serde_json::from_str(&self.server().kubeconfig()).map_err(io::Error::from)?;
        change(&mut config);
        let path = self.file("kubeconfig")?;
        fs::write(&path, config.to_string())?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Starts a proxy that follows the first server, with these flags besides.
    ///
    /// # Errors
    /// When it does not start.
    pub fn proxy(&self, flags: &[&str]) -> Result<Proxy, Error> {
        let kubeconfig = self.kubeconfig(|_| ())?;
        Ok(Proxy::start_with(self.node()?, &[&["--kubeconfig", &kubeconfig], flags].concat())?)
    }

    /// Makes a Service with this address.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn put_service(&self, address: IpAddr) -> Result<(), Error> {
        let name = format!("s{address}").replace(['.', ':'], "-");
        self.server().apply(service(&name, &[address], 80, TARGET)).map_err(Error::Refused)?;
        Ok(())
    }

    /// Waits until what `nft list ruleset` prints has all of these texts and none of those.
    ///
    /// # Errors
    /// When it never does, with what the proxy said.
    pub fn holds(&self, proxy: &Proxy, present: &[&str], absent: &[&str]) -> Result<(), Error> {
        let node = self.node()?;
        eventually(&format!("{present:?} without {absent:?}"), PATIENCE, || {
            let listed = node.nft(["list", "ruleset"]).map_err(|error| error.to_string())?.stdout;
            let right = present.iter().all(|text| listed.contains(text))
                && !absent.iter().any(|text| listed.contains(text));
            if right { Ok(()) } else { Err(format!("{listed}\nthe proxy said:\n{}", proxy.log())) }
        })?;
        Ok(())
    }
}
