//! A scenario's traffic, passed through real kernels: the lab is built as the topology says, each node runs the real
//! `heddle-proxy` on the objects, and every attempt is made exactly once after the rules stand.

use crate::lab::{self, Lab};
use crate::namespace::{self, Namespace};
use crate::proxy::{self, Manifests, Proxy};
use crate::scenario::{Attempt, Outcomes, Scenario, Unexpected, same};
use crate::traffic::{self, Outcome, Server, spread};
use heddle_netlink::nft::{self, Table, TableFamily};
use heddle_netlink::{Family, Socket};
use heddle_proxy::nft::ruleset::TABLE;
use std::collections::BTreeMap;
use std::fmt;
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
    /// A node's proxy could not be run.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// A kernel's tables could not be read back.
    #[error("read the tables of {node} back")]
    Read {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: heddle_netlink::Error,
    },
    /// The kernel holds something else than the pure parts of the programs say.
    #[error("in the kernel of {node}: {source}")]
    Kernel {
        /// The node.
        node: String,
        /// The difference.
        source: Unexpected,
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
    proxies: Vec<(String, Proxy)>,
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
    running.await_rules(&scenario.outcomes)?;
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

    /// Waits for each node's rules. The first node's are those of the scenario's section: the kernel in memory and the
    /// real one must end alike.
    fn await_rules(&self, outcomes: &Outcomes) -> Result<(), Error> {
        for (number, (name, proxy)) in self.proxies.iter().enumerate() {
            let node = self.lab.node(name)?;
            proxy.ready(node)?;
            if number == 0 {
                same("nft", &outcomes.nft, &kernel_tables(node)?)
                    .map_err(|source| Error::Kernel { node: name.clone(), source })?;
            }
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
        let shown = |(name, proxy): &(String, Proxy)| {
            let listed = self.lab.node(name).ok().and_then(|node| node.nft(["list", "ruleset"]).ok());
            let listed = listed.map(|output| output.stdout + &output.stderr).unwrap_or_default();
            format!("--- nft list ruleset on {name}\n{listed}--- heddle-proxy printed\n{}", proxy.log())
        };
        Error::Mismatches { mismatches, rulesets: self.proxies.iter().map(shown).collect() }
    }
}

/// Gives a node's proxy the objects and starts it, with no cluster at all.
fn start_proxy(node: &lab::Node, objects: &str) -> Result<Proxy, proxy::Error> {
    let manifests = Manifests::of(node)?;
    manifests.put("objects.yaml", objects)?;
    Proxy::start(node, &manifests)
}

/// What a node's kernel holds in our tables, in the words of the scenario's section.
fn kernel_tables(node: &lab::Node) -> Result<String, Error> {
    let load = || -> Result<Vec<Option<Table>>, heddle_netlink::Error> {
        let mut socket = Socket::open(Family::Netfilter)?;
        TableFamily::ALL.into_iter().map(|family| nft::load(&mut socket, family, TABLE)).collect()
    };
    let failed = |source| Error::Read { node: node.name().to_owned(), source };
    let tables = node.namespace().enter(load)?.map_err(failed)?;
    Ok(tables.iter().flatten().map(ToString::to_string).collect())
}
