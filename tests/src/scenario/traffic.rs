//! A scenario's traffic, passed through real kernels: the lab is built as the topology says, each node runs the real
//! `heddle-proxy` on the objects, and every attempt is made exactly once after the rules stand.

use crate::lab::{self, Lab};
use crate::namespace::{self, Namespace};
use crate::patience::{PATIENCE, Vain, eventually};
use crate::process::{self, Process};
use crate::scenario::{Attempt, Scenario};
use crate::traffic::{self, Outcome, Server, spread};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;

/// Why a scenario did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab could not be built.
    #[error(transparent)]
    Lab(#[from] lab::Error),
    /// A namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// A server could not be started.
    #[error(transparent)]
    Server(#[from] traffic::Error),
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The objects could not be given to a proxy.
    #[error("write the manifests of {node}")]
    Manifests {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A proxy never wrote its tables.
    #[error("{node}: {vain}; the proxy printed:\n{printed}")]
    Unready {
        /// The node.
        node: String,
        /// What was awaited.
        vain: Vain,
        /// Everything that the proxy printed.
        printed: String,
    },
    /// Clients saw something else than the scenario says.
    #[error("{}\n{rulesets}", mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mismatches {
        /// Each attempt that ended otherwise.
        mismatches: Vec<Mismatch>,
        /// What each node's kernel held.
        rulesets: String,
    },
}

/// One attempt that ended otherwise than the scenario says.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Line number in the file.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// The outcomes, with how often each came.
    pub got: BTreeMap<Outcome, usize>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)?;
        self.got.iter().try_for_each(|(outcome, count)| write!(f, "\n    got {count} × {outcome}"))
    }
}

/// A client with the addresses that servers see when nothing rewrites them.
struct Client {
    namespace: Namespace,
    addresses: Vec<IpAddr>,
}

/// The lab of a scenario with everything in it running; dropped in this order.
struct Running {
    proxies: Vec<(String, Process)>,
    _servers: Vec<Server>,
    _pods: Vec<lab::Pod>,
    clients: BTreeMap<String, Client>,
    lab: Lab,
}

/// Builds the scenario's lab and makes every attempt of its traffic section.
///
/// # Errors
/// [`Error::Mismatches`] lists every attempt that ended otherwise; the other errors are the lab's own.
pub fn pass_traffic(scenario: &Scenario) -> Result<(), Error> {
    let running = Running::build(scenario)?;
    running.await_rules()?;
    let mut mismatches = Vec::new();
    for attempt in &scenario.traffic {
        mismatches.extend(running.try_once(attempt)?);
    }
    if mismatches.is_empty() { Ok(()) } else { Err(running.differ(mismatches)) }
}

impl Running {
    fn build(scenario: &Scenario) -> Result<Self, Error> {
        let names: Vec<&str> = scenario.nodes.iter().map(|node| node.name.as_str()).collect();
        let lab = Lab::new(&names)?;
        let outside = Client { namespace: lab.outside().clone(), addresses: lab.outside_addresses().into() };
        let mut clients = BTreeMap::from([("outside".to_owned(), outside)]);
        let (mut pods, mut servers, mut proxies) = (Vec::new(), Vec::new(), Vec::new());
        for host in &scenario.nodes {
            let node = lab.node(&host.name)?;
            let namespace = node.namespace().clone();
            for (transport, port) in &host.servers {
                servers.push(Server::start(&namespace, &host.name, *transport, *port)?);
            }
            clients.insert(host.name.clone(), Client { namespace, addresses: node.addresses().into() });
            for planned in &host.pods {
                let pod = node.pod_at(&planned.name, &planned.addresses)?;
                for (transport, port) in &planned.servers {
                    servers.push(Server::start(pod.namespace(), &planned.name, *transport, *port)?);
                }
                let client = Client { namespace: pod.namespace().clone(), addresses: pod.addresses().into() };
                clients.insert(planned.name.clone(), client);
                pods.push(pod);
            }
            proxies.push((host.name.clone(), start_proxy(node, &scenario.objects)?));
        }
        Ok(Self { proxies, _servers: servers, _pods: pods, clients, lab })
    }

    /// Waits until each node's kernel holds our tables. They come complete, in one transaction.
    fn await_rules(&self) -> Result<(), Error> {
        for (name, proxy) in &self.proxies {
            let node = self.lab.node(name)?;
            eventually("the tables of heddle-proxy", PATIENCE, || tables(node)).map_err(|vain| {
                Error::Unready { node: name.clone(), vain, printed: proxy.stdout() + &proxy.stderr() }
            })?;
        }
        Ok(())
    }

    fn try_once(&self, attempt: &Attempt) -> Result<Option<Mismatch>, Error> {
        let client = self.clients.get(&attempt.from).expect("the parser knows every client");
        let got = spread(&client.namespace, attempt.transport, attempt.to, attempt.count)?;
        let own = client.addresses.iter().copied().find(|ip| ip.is_ipv4() == attempt.to.is_ipv4());
        let fits = attempt.expected.fits(&got, own);
        Ok((!fits).then(|| Mismatch { line: attempt.line, text: attempt.text.clone(), got }))
    }

    fn differ(&self, mismatches: Vec<Mismatch>) -> Error {
        let shown = |(name, proxy): &(String, Process)| {
            let listed = self.lab.node(name).ok().and_then(|node| node.nft(["list", "ruleset"]).ok());
            let listed = listed.map(|output| output.stdout + &output.stderr).unwrap_or_default();
            format!("--- nft list ruleset on {name}\n{listed}--- heddle-proxy printed\n{}", proxy.stderr())
        };
        Error::Mismatches { mismatches, rulesets: self.proxies.iter().map(shown).collect() }
    }
}

/// Gives a node's proxy the objects and starts it, with no cluster at all.
fn start_proxy(node: &lab::Node, objects: &str) -> Result<Process, Error> {
    let folder = node.directory().join("manifests");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("objects.yaml"), objects))
        .map_err(|source| Error::Manifests { node: node.name().to_owned(), source })?;
    let folder = folder.to_string_lossy().into_owned();
    let arguments = ["--manifests", &folder, "--proxy-mode", "nftables", "--hostname-override", node.name()];
    Ok(node.start("heddle-proxy", arguments)?)
}

fn tables(node: &lab::Node) -> Result<(), String> {
    let listed = node.nft(["list", "tables"]).map_err(|error| error.to_string())?;
    let ours = ["table ip heddle-proxy", "table ip6 heddle-proxy"];
    if ours.iter().all(|table| listed.stdout.lines().any(|line| line == *table)) {
        Ok(())
    } else {
        Err(listed.stdout + &listed.stderr)
    }
}
