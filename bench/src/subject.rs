//! Hosts between which connections are made: a client outside, a node with some ruleset, and a pod that answers.
//!
//! Each subject has a lab of its own, and all stand together, so that they can take turns.

use crate::cluster::{PORT, Size, TARGET};
use crate::{Failure, follow, layout, load};
use heddle_tests::lab::{Lab, Pod};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::Proxy;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

const NODE: &str = "node-1";
/// kube-proxy's layout takes the kernel a minute at 10 000 Services, and more beside other work.
const LOADING: Duration = Duration::from_secs(300);

/// What a node's ruleset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruleset {
    /// None, and the client asks the pod itself.
    Direct,
    /// heddle's, for so many Services; the client asks the last one.
    Heddle(u32),
    /// kube-proxy's layout, the same.
    Layout(u32),
}

/// A client, a node and a server.
#[derive(Debug)]
pub struct Subject {
    /// What is on the node.
    pub ruleset: Ruleset,
    lab: Lab,
    listener: TcpListener,
    to: SocketAddr,
    _server: Pod,
}

impl Subject {
    /// Builds the hosts and loads the ruleset.
    ///
    /// # Errors
    /// When the lab cannot be built, or the kernel does not take the ruleset.
    pub fn build(ruleset: Ruleset) -> Result<Self, Failure> {
        let lab = Lab::new(&[NODE])?;
        let server = lab.node(NODE)?.pod("server")?;
        let pod = server.addresses().iter().copied().find(IpAddr::is_ipv4).ok_or("the pod has no IPv4")?;
        let listener = load::listen(server.namespace(), TARGET)?;
        let to = match ruleset {
            Ruleset::Direct => SocketAddr::new(pod, TARGET),
            Ruleset::Heddle(services) => route(&lab, services, |size| load_heddle(&lab, size, pod))?,
            Ruleset::Layout(services) => route(&lab, services, |size| load_layout(&lab, size, pod))?,
        };
        Ok(Self { ruleset, lab, listener, to, _server: server })
    }

    /// What it is called in the report.
    pub fn name(&self) -> &'static str {
        match self.ruleset {
            Ruleset::Direct => "direct",
            Ruleset::Heddle(_) => "heddle nft",
            Ruleset::Layout(_) => "kube-proxy's nft layout",
        }
    }

    /// How many Services it has, if it has any.
    pub fn size(&self) -> Option<Size> {
        match self.ruleset {
            Ruleset::Direct => None,
            Ruleset::Heddle(services) | Ruleset::Layout(services) => Some(size(services)),
        }
    }

    /// Makes connections and returns microseconds of CPU for each.
    ///
    /// # Errors
    /// When one fails.
    pub fn connections(&self, count: u32) -> Result<f64, Failure> {
        load::connections(self.lab.outside(), &self.listener, self.to, count)
            .map_err(|cause| format!("connect: {:?}: {cause}", self.ruleset).into())
    }

    /// Sends bytes over one connection and returns gigabits for each second of CPU.
    ///
    /// # Errors
    /// When it breaks.
    pub fn bulk(&self, bytes: u64) -> Result<f64, Failure> {
        load::bulk(self.lab.outside(), &self.listener, self.to, bytes)
            .map_err(|cause| format!("send bytes: {:?}: {cause}", self.ruleset).into())
    }
}

fn size(services: u32) -> Size {
    Size { services, endpoints: 3 }
}

/// Loads a ruleset and returns the address of its last Service, which the client has a route to.
fn route(
    lab: &Lab,
    services: u32,
    load: impl FnOnce(Size) -> Result<(), Failure>,
) -> Result<SocketAddr, Failure> {
    let size = size(services);
    load(size)?;
    let ip = size.cluster_ip(services - 1);
    lab.steer(ip, NODE)?;
    Ok(SocketAddr::new(ip, PORT))
}

/// The tables stay when the proxy ends.
fn load_heddle(lab: &Lab, size: Size, last: IpAddr) -> Result<(), Failure> {
    let node = lab.node(NODE)?;
    let mut objects: Vec<_> = size.objects().collect();
    let slice = heddle_tests::objects::slice(&size.name(size.services - 1), NODE, &[last], TARGET);
    objects[usize::try_from(size.services)? - 1] = slice;
    let manifests = follow::write(node, &objects)?;
    let proxy = Proxy::start(node, &manifests)?;
    Ok(proxy.ready(node)?)
}

fn load_layout(lab: &Lab, size: Size, last: IpAddr) -> Result<(), Failure> {
    let nft = Invocation::foreign("nft").args(["-f", "-"]).input(layout::ruleset(size, last));
    let mut nft = nft.start(lab.node(NODE)?.namespace())?;
    if nft.wait(LOADING)?.success() { Ok(()) } else { Err(format!("nft: {}", nft.stderr()).into()) }
}
