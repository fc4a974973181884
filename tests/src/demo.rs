//! The demonstration: a node, two pods, and a Service with both as endpoints, fed by the lab's API server.
//!
//! It is a story for a newcomer that fails when a line of it is not true, not a test of corner cases (those are the
//! scenarios). Everything in it is a namespace, a descriptor or a process of its own, so it is gone with its process.

mod story;

pub use story::tell;

use crate::apiserver::{ApiServer, ApiServerError, Options, Refusal};
use crate::lab::{self, Lab, Node, Pod};
use crate::namespace::{self, Namespace};
use crate::objects::{service, slice};
use crate::proxy::{self, Proxy};
use crate::traffic::{self, Server, Transport};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

/// Name of the node.
const NODE: &str = "node-1";
/// Names of the pods, which are the Service's endpoints.
const PODS: [&str; 2] = ["web-1", "web-2"];
/// Name of the Service.
const SERVICE: &str = "web";
/// The pods' port, and the Service's.
const TARGET: u16 = 8080;
const PORT: u16 = 80;
/// The Service's addresses; the node reaches them by its default route, as on any cluster.
const CLUSTER_IPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10))];
/// Where the API server listens, on the lab's fabric.
const API_PORT: u16 = 6443;

/// Why the demonstration could not be given, or what in it was not true.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab could not be built.
    #[error(transparent)]
    Lab(#[from] lab::Error),
    /// A server in a pod could not be started.
    #[error(transparent)]
    Server(#[from] traffic::Error),
    /// The API server could not be started.
    #[error("start the API server")]
    Api(#[from] ApiServerError),
    /// The API server refused an object.
    #[error("apply an object")]
    Refused(#[from] Refusal),
    /// The proxy could not be run.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// A file, a socket or the screen could not be used.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Something else came back than must.
    #[error("this is not right: {0}")]
    Wrong(String),
}

impl From<namespace::Error> for Error {
    fn from(error: namespace::Error) -> Self {
        Self::Lab(error.into())
    }
}

/// The whole of it, running. Dropping it takes it down in this order.
pub struct Stage {
    proxy: Proxy,
    api: ApiServer,
    _servers: Vec<Server>,
    pods: Vec<Pod>,
    lab: Lab,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("pods", &self.pods).field("lab", &self.lab).finish_non_exhaustive()
    }
}

impl Stage {
    /// Builds everything but the Service.
    ///
    /// # Errors
    /// Mostly when the process is not root, or a program is not built.
    pub fn build() -> Result<Self, Error> {
        let lab = Lab::new(&[NODE])?;
        let node = lab.node(NODE)?;
        let pods = PODS.into_iter().map(|name| node.pod(name)).collect::<Result<Vec<_>, _>>()?;
        let server = |pod: &Pod| Server::start(pod.namespace(), pod.name(), Transport::Tcp, TARGET);
        let servers = pods.iter().map(server).collect::<Result<_, _>>()?;
        let api = start_api(&lab)?;
        let kubeconfig = kubeconfig_of(node);
        fs::write(&kubeconfig, api.kubeconfig()).map_err(failed("write the kubeconfig"))?;
        let proxy = Proxy::start_with(node, &["--kubeconfig", &kubeconfig.to_string_lossy()])?;
        proxy.ready(node)?;
        Ok(Self { proxy, api, _servers: servers, pods, lab })
    }

    /// Creates the Service, or changes it, so that it has these pods as endpoints.
    ///
    /// # Errors
    /// [`Error::Refused`] when the API server does not like it.
    pub fn serve(&self, pods: &[Pod]) -> Result<(), Error> {
        let mut web = service(SERVICE, &CLUSTER_IPS, PORT, TARGET);
        web["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
        self.api.apply(web)?;
        for ipv4 in [true, false] {
            let addresses = pods.iter().flat_map(Pod::addresses).copied().filter(|ip| ip.is_ipv4() == ipv4);
            self.api.apply(slice(SERVICE, NODE, &addresses.collect::<Vec<_>>(), TARGET))?;
        }
        Ok(())
    }

    /// Creates the Service with every pod as an endpoint.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn serve_all(&self) -> Result<(), Error> {
        self.serve(&self.pods)
    }

    /// The Service as clients see it: IPv4, then IPv6.
    pub fn frontends(&self) -> [SocketAddr; 2] {
        CLUSTER_IPS.map(|ip| SocketAddr::new(ip, PORT))
    }

    /// Prints the ways into what stands, for another shell.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn show_ways_in(&self, out: &mut impl Write) -> io::Result<()> {
        let node = self.lab.node(NODE).map_err(io::Error::other)?;
        let enter = |host: &Namespace| format!("nsenter --net={}", host.path().display());
        let (node_way, pod_way) = (enter(node.namespace()), enter(self.pods[0].namespace()));
        writeln!(out, "The ways in, from another shell as root:")?;
        let hosts = [node.namespace(), self.lab.outside(), self.lab.fabric()];
        for host in hosts.into_iter().chain(self.pods.iter().map(Pod::namespace)) {
            writeln!(out, "  {:<8} {}", host.name(), enter(host))?;
        }
        writeln!(out, "\nThe Service, from {}: which pod answers, and whom it saw", PODS[0])?;
        for frontend in self.frontends() {
            writeln!(out, "  {pod_way} bash -c 'cat </dev/tcp/{}/{}'", frontend.ip(), frontend.port())?;
        }
        writeln!(out, "\nThe rules, and the API server through an unmodified kubectl:")?;
        writeln!(out, "  {node_way} nft list ruleset")?;
        let kubeconfig = kubeconfig_of(node);
        let kubeconfig = kubeconfig.display();
        writeln!(out, "  {node_way} kubectl --kubeconfig={kubeconfig} get services,endpointslices -A")
    }

    /// What the proxy has logged, for one who looks for the reason of a failure.
    pub fn log(&self) -> String {
        self.proxy.log()
    }
}

fn start_api(lab: &Lab) -> Result<ApiServer, Error> {
    let address = SocketAddr::new(lab.fabric_addresses()[0], API_PORT);
    let listener =
        lab.fabric().enter(|| TcpListener::bind(address))?.map_err(failed("open the API server's port"))?;
    Ok(ApiServer::start(listener, Options::default())?)
}

fn kubeconfig_of(node: &Node) -> PathBuf {
    node.directory().join("kubeconfig")
}

/// Makes an error of what was tried.
fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, source }
}
