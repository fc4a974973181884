//! A cluster: nodes with heddle-node and heddle-proxy on each, all fed by one API server on the fabric.
//!
//! It is not a control plane: the test says which Nodes there are and where endpoints are. What a test breaks in the control plane
//! of one node is [`plane`](mod@crate::plane)'s. Invariant: nobody but heddle-node tells nodes, or the fabric, where pods are.

use crate::apiserver::{ApiServer, ApiServerError, Options, Refusal};
use crate::lab::{self, Lab, Node, Underlay};
use crate::namespace;
use crate::patience::Vain;
use crate::process::{self, Process};
use crate::proxy::{self, Proxy};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::{fs, io};

/// Where the API server listens.
const API_PORT: u16 = 6443;
/// The range of all pods.
pub const PODS: &str = "10.244.0.0/16,fd00:244::/48";
/// What an agent says when its first turn is done.
const FIRST_TURN: &str = "the pods of other nodes are reached as far as they can be";

/// The socket on which a node's agent answers questions.
pub fn agent_socket(node: &Node) -> String {
    node.directory().join("agent/status.sock").to_string_lossy().into_owned()
}

/// Why there is no cluster, or it did not do what was awaited.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The nodes could not be made.
    #[error(transparent)]
    Lab(#[from] lab::Error),
    /// There is no way into a namespace.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// The API server did not start.
    #[error(transparent)]
    Server(#[from] ApiServerError),
    /// The API server did not take an object.
    #[error("the API server refuses: {0:?}")]
    Refused(Refusal),
    /// An agent did not start.
    #[error(transparent)]
    Agent(#[from] process::Error),
    /// A proxy did not start.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// A file or a listener could not be made.
    #[error("prepare a cluster")]
    Io(#[from] io::Error),
    /// It was awaited in vain.
    #[error(transparent)]
    Vain(#[from] Vain),
}

/// The nodes, and what runs on them. Dropping it takes it down in this order.
pub struct Cluster {
    agents: BTreeMap<String, Process>,
    proxies: BTreeMap<String, Proxy>,
    /// Flags of every agent.
    flags: Vec<String>,
    /// What all nodes follow.
    pub api: ApiServer,
    /// The nodes themselves.
    pub lab: Lab,
}

impl Cluster {
    /// Builds the nodes and makes them known to the API server; nothing runs on them.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn new(underlay: Underlay, flags: &[&str]) -> Result<Self, Error> {
        let lab = Lab::on(underlay)?;
        let address = SocketAddr::new(lab.fabric_addresses()[0], API_PORT);
        let listener = lab.fabric().enter(|| TcpListener::bind(address))??;
        let api = ApiServer::start(listener, Options::default())?;
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let cluster = Self { agents: BTreeMap::new(), proxies: BTreeMap::new(), flags, api, lab };
        cluster.names().iter().try_for_each(|name| cluster.register(name))?;
        Ok(cluster)
    }

    /// The same with agent and proxy at work on every node.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when a program does not start.
    pub fn start(underlay: Underlay, flags: &[&str]) -> Result<Self, Error> {
        let mut cluster = Self::new(underlay, flags)?;
        let names = cluster.names();
        names.iter().try_for_each(|name| cluster.boot(name))?;
        names.iter().try_for_each(|name| cluster.ready(name))?;
        Ok(cluster)
    }

    /// Makes a node known to the API server, as it is now.
    ///
    /// # Errors
    /// When there is no such node, or the server does not take it.
    pub fn register(&self, name: &str) -> Result<(), Error> {
        self.api.apply(self.lab.node(name)?.object()).map_err(Error::Refused).map(drop)
    }

    /// Takes a node out of the cluster.
    ///
    /// # Errors
    /// When it is not in the cluster.
    pub fn unregister(&self, name: &str) -> Result<(), Error> {
        self.api.delete("nodes", "", name).map_err(Error::Refused).map(drop)
    }

    /// Starts agent and proxy on a node.
    ///
    /// # Errors
    /// When there is no such node, or a program does not start.
    pub fn boot(&mut self, name: &str) -> Result<(), Error> {
        self.start_proxy(name)?;
        self.start_agent(name)
    }

    /// Starts the proxy of a node, in place of the one that was.
    ///
    /// # Errors
    /// As [`boot`](Self::boot).
    pub fn start_proxy(&mut self, name: &str) -> Result<(), Error> {
        self.proxies.remove(name);
        let kubeconfig = self.kubeconfig(name)?.to_string_lossy().into_owned();
        let source = ["--kubeconfig", &kubeconfig, "--cluster-cidr", PODS];
        let proxy = Proxy::start_with(self.lab.node(name)?, &source)?;
        self.proxies.insert(name.to_owned(), proxy);
        Ok(())
    }

    /// Starts the agent of a node, in place of the one that was.
    ///
    /// # Errors
    /// As [`boot`](Self::boot).
    pub fn start_agent(&mut self, name: &str) -> Result<(), Error> {
        self.agents.remove(name);
        let kubeconfig = self.kubeconfig(name)?.to_string_lossy().into_owned();
        let socket = agent_socket(self.lab.node(name)?);
        let fixed = ["--kubeconfig", &kubeconfig, "--hostname-override", name, "-v", "4"];
        let fixed = fixed.into_iter().chain(["--status-socket", &socket]);
        let flags = fixed.chain(self.flags.iter().map(String::as_str));
        let agent = self.lab.node(name)?.start("heddle-node", flags)?;
        self.agents.insert(name.to_owned(), agent);
        Ok(())
    }

    /// Waits until the agent of a node has done what it knew to do when it started, and the proxy has its tables.
    ///
    /// # Errors
    /// When they never come to it, with what they said.
    pub fn ready(&self, name: &str) -> Result<(), Error> {
        self.agents.get(name).map_or(Ok(()), |agent| agent.prints(FIRST_TURN))?;
        let node = self.lab.node(name)?;
        Ok(self.proxies.get(name).map_or(Ok(()), |proxy| proxy.ready(node))?)
    }

    /// Kills the agent of a node and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel does not.
    pub fn kill_agent(&mut self, name: &str) -> Result<(), Error> {
        self.agents.remove(name).map_or(Ok(()), |mut agent| agent.kill().map(drop))?;
        Ok(())
    }

    /// Kills the proxy of a node and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel does not.
    pub fn kill_proxy(&mut self, name: &str) -> Result<(), Error> {
        self.proxies.remove(name).map_or(Ok(()), |mut proxy| proxy.process().kill().map(drop))?;
        Ok(())
    }

    /// Switches a node off and on, with agent and proxy at work again.
    ///
    /// # Errors
    /// As [`Lab::reboot`] and [`boot`](Self::boot).
    pub fn reboot(&mut self, name: &str) -> Result<(), Error> {
        self.kill_agent(name)?;
        self.proxies.remove(name);
        self.lab.reboot(name)?;
        self.boot(name)?;
        self.ready(name)
    }

    /// A node by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        Ok(self.lab.node(name)?)
    }

    /// The names of all nodes, in order.
    pub fn names(&self) -> Vec<String> {
        self.lab.nodes().iter().map(|node| node.name().to_owned()).collect()
    }

    /// The agent of a node, if one was started and not killed.
    pub fn agent(&self, name: &str) -> Option<&Process> {
        self.agents.get(name)
    }

    /// The proxy of a node, if one was started.
    pub fn proxy(&self, name: &str) -> Option<&Proxy> {
        self.proxies.get(name)
    }

    /// What all programs have logged, for one who looks for the reason of a failure.
    pub fn log(&self) -> String {
        let agents =
            self.agents.iter().map(|(node, agent)| (node, "heddle-node", agent.stdout() + &agent.stderr()));
        let proxies = self.proxies.iter().map(|(node, proxy)| (node, "heddle-proxy", proxy.log()));
        agents
            .chain(proxies)
            .map(|(node, program, log)| format!("{program} on {node} logged:\n{log}"))
            .collect()
    }

    /// Where a node's kubeconfig is. It is written anew, as a reboot may have taken it.
    ///
    /// # Errors
    /// When there is no such node, or no room.
    pub fn kubeconfig(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.lab.node(name)?.directory().join("kubeconfig");
        fs::write(&path, self.api.kubeconfig())?;
        Ok(path)
    }
}
