//! A scenario's traffic, passed through real kernels: the lab is built as the topology says, each node runs the real
//! `heddle-proxy` on the objects, and every attempt is made exactly once after the rules stand.

use crate::lab::{self, Lab};
use crate::namespace::{self, Namespace};
use crate::patience::Vain;
use crate::proxy::{self, Manifests, Proxy};
use crate::scenario::attempt::OUTSIDE;
use crate::scenario::sockets::Sockets;
use crate::scenario::{Attempt, Expected, Outcomes, Scenario, Source, Target, Unexpected, same};
use crate::traffic::{self, Outcome, PATIENT, Server, Transport, attempt_here};
use heddle_netlink::nft::{self, Table, TableFamily};
use heddle_netlink::{Family, Socket};
use heddle_proxy::nft::ruleset::TABLE;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

/// How long a client waits for an answer that must not come: longer than the kernel takes to repeat a lost SYN (1 s).
const SILENCE: Duration = Duration::from_millis(1500);

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
    /// A proxy did not say what was awaited.
    #[error(transparent)]
    Vain(#[from] Vain),
    /// Clients saw something else than the scenario says.
    #[error("{}\n{rulesets}", mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mismatches {
        /// Each attempt that ended otherwise.
        mismatches: Vec<Mismatch>,
        /// What each node's kernel held.
        rulesets: String,
    },
}

/// Where proxies serve Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// In nf_tables alone.
    AtPackets,
    /// At sockets, and in nf_tables where no socket is seen.
    AtSockets,
}

/// One attempt that ended otherwise than the scenario says.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Line number in the file.
    pub line: usize,
    /// The attempt.
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

/// One transport to one target, and its address.
type Question<'a> = (Transport, &'a Target, SocketAddr);

/// A client with the addresses that servers see when nothing rewrites them.
struct Client {
    namespace: Namespace,
    addresses: Vec<IpAddr>,
    sockets: Sockets,
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
pub fn pass_traffic(scenario: &Scenario, served: Served) -> Result<(), Error> {
    let running = Running::build(scenario, served)?;
    running.await_rules(&scenario.outcomes)?;
    let mut mismatches = Vec::new();
    for attempt in &scenario.traffic {
        mismatches.extend(running.try_line(attempt)?);
    }
    if mismatches.is_empty() { Ok(()) } else { Err(running.differ(mismatches)) }
}

impl Running {
    fn build(scenario: &Scenario, served: Served) -> Result<Self, Error> {
        let names: Vec<&str> = scenario.nodes.iter().map(|node| node.name.as_str()).collect();
        let lab = match served {
            Served::AtPackets => Lab::new(&names)?,
            Served::AtSockets => Lab::with_sockets(&names)?,
        };
        let outside = Client {
            namespace: lab.outside().clone(),
            addresses: lab.outside_addresses(),
            sockets: Sockets::default(),
        };
        let mut clients = BTreeMap::from([(OUTSIDE.to_owned(), outside)]);
        let (mut pods, mut servers, mut proxies) = (Vec::new(), Vec::new(), Vec::new());
        for host in &scenario.nodes {
            let node = lab.node(&host.name)?;
            let namespace = node.namespace().clone();
            host.addresses.iter().try_for_each(|address| node.own(*address))?;
            for (transport, port) in &host.servers {
                servers.push(Server::start(&namespace, &host.name, *transport, *port)?);
            }
            let sockets = match served {
                Served::AtPackets => Sockets::default(),
                Served::AtSockets => Sockets::of(scenario, (node, host)),
            };
            let (addresses, pods_sockets) = (node.addresses(), sockets.of_pods());
            clients.insert(host.name.clone(), Client { namespace, addresses, sockets });
            for planned in &host.pods {
                let pod = node.pod_at(&planned.name, &planned.addresses)?;
                for (transport, port) in &planned.servers {
                    servers.push(Server::start(pod.namespace(), &planned.name, *transport, *port)?);
                }
                let (namespace, addresses) = (pod.namespace().clone(), pod.addresses().into());
                let client = Client { namespace, addresses, sockets: pods_sockets.clone() };
                clients.insert(planned.name.clone(), client);
                pods.push(pod);
            }
            proxies.push((host.name.clone(), start_proxy(node, scenario)?));
        }
        Ok(Self { proxies, _servers: servers, _pods: pods, clients, lab })
    }

    /// Waits for each node's rules. The first node's are those of the scenario's section: the kernel in memory and the
    /// real one must end alike.
    fn await_rules(&self, outcomes: &Outcomes) -> Result<(), Error> {
        for (number, (name, proxy)) in self.proxies.iter().enumerate() {
            let node = self.lab.node(name)?;
            proxy.ready(node)?;
            if node.namespace().cgroup().is_some() {
                proxy.serves_sockets()?;
            }
            if number == 0 {
                same("nft", &outcomes.nft, &kernel_tables(node)?)
                    .map_err(|source| Error::Kernel { node: name.clone(), source })?;
            }
        }
        Ok(())
    }

    /// Tries each transport with each target of a line.
    fn try_line(&self, attempt: &Attempt) -> Result<Vec<Mismatch>, Error> {
        let targets = attempt.to.iter().map(|to| Ok((to, self.address(to)?)));
        let targets: Vec<(&Target, SocketAddr)> = targets.collect::<Result<_, Error>>()?;
        // A node's own address needs no way through it.
        let strange = targets.iter().filter(|(to, _)| matches!(to, Target::Address(_)));
        let strange: BTreeSet<IpAddr> = strange.map(|(_, to)| to.ip()).collect();
        let steered = attempt.via.iter().flat_map(|node| strange.iter().map(move |ip| (node, *ip)));
        steered.clone().try_for_each(|(node, address)| self.lab.steer(address, node))?;
        let questions = attempt
            .transports
            .iter()
            .flat_map(|t| targets.iter().map(move |(to, address)| (*t, *to, *address)));
        let mismatches = self.ask(attempt, &questions.collect::<Vec<_>>())?;
        steered.clone().try_for_each(|(node, address)| self.lab.forget(address, node))?;
        Ok(mismatches)
    }

    /// What is asked once is asked all at once: silence takes its time, and so does a refusal of the client's own host,
    /// which is lost while the socket that sent the packet is still busy (a SYN is repeated after 1 s).
    fn ask(&self, attempt: &Attempt, questions: &[Question<'_>]) -> Result<Vec<Mismatch>, Error> {
        let client = self.clients.get(&attempt.from).expect("the parser knows every client");
        let ask = |(transport, _, to): Question<'_>| {
            client.namespace.enter(|| match attempt.expected {
                Expected::Timeout => BTreeMap::from([(attempt_here(transport, to, SILENCE), 1)]),
                _ => repeat(transport, to, attempt.count),
            })
        };
        let outcomes: Vec<_> = if attempt.count == 1 {
            thread::scope(|scope| {
                let asked: Vec<_> = questions.iter().map(|question| scope.spawn(|| ask(*question))).collect();
                asked.into_iter().map(|asked| asked.join().unwrap_or_else(|p| resume_unwind(p))).collect()
            })
        } else {
            questions.iter().map(|question| ask(*question)).collect()
        };
        let mut mismatches = Vec::new();
        for ((transport, to, address), got) in questions.iter().zip(outcomes) {
            let got = got?;
            if !attempt
                .expected
                .fits(&got, |source, endpoint| self.source(client, source, (endpoint, (*transport, address))))
            {
                let text = format!("{} {transport} -> {to}", attempt.from);
                mismatches.push(Mismatch { line: attempt.line, text, got });
            }
        }
        Ok(mismatches)
    }

    fn address(&self, target: &Target) -> Result<SocketAddr, Error> {
        Ok(match target {
            Target::Address(address) => *address,
            Target::Node { name, ipv6, port } => {
                SocketAddr::new(self.lab.node(name)?.addresses()[usize::from(*ipv6)], *port)
            }
        })
    }

    /// Which address a source is, seen by an endpoint that was reached by way of `to`.
    fn source(
        &self,
        client: &Client,
        source: &Source,
        (endpoint, (transport, to)): (&str, (Transport, &SocketAddr)),
    ) -> Option<IpAddr> {
        let of_family =
            |addresses: &[IpAddr]| addresses.iter().copied().find(|ip| ip.is_ipv4() == to.is_ipv4());
        match source {
            // A socket that is led to its endpoint has the source that it has when it connects there by itself.
            _ if client.sockets.serve(transport, *to) => {
                let endpoint = of_family(&self.clients.get(endpoint)?.addresses)?;
                match &client.sockets.node {
                    Some(node) => self.lab.node(node).ok()?.masquerade_towards(endpoint),
                    None => of_family(&client.addresses),
                }
            }
            Source::Kept => of_family(&client.addresses),
            Source::Is(address) => Some(*address),
            Source::Node(name) => {
                let endpoint = of_family(&self.clients.get(endpoint)?.addresses)?;
                self.lab.node(name).ok()?.masquerade_towards(endpoint)
            }
        }
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

/// The outcomes of `count` attempts, or of fewer: what was refused once need not be asked again.
fn repeat(transport: Transport, to: SocketAddr, count: usize) -> BTreeMap<Outcome, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let outcome = attempt_here(transport, to, PATIENT);
        let answered = outcome.endpoint().is_some();
        *seen.entry(outcome).or_default() += 1;
        if !answered {
            break;
        }
    }
    seen
}

/// Gives a node's proxy the objects and starts it, with no cluster at all.
fn start_proxy(node: &lab::Node, scenario: &Scenario) -> Result<Proxy, proxy::Error> {
    let manifests = Manifests::of(node)?;
    manifests.put("objects.yaml", &scenario.objects)?;
    let folder = manifests.folder();
    let flags = scenario.flags.iter().map(String::as_str);
    Proxy::start_with(node, &["--manifests", &folder].into_iter().chain(flags).collect::<Vec<_>>())
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
