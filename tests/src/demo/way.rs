//! A way of packets that must be: who asks whom, who answers, and whom that one sees.

use crate::demo::Error;
use crate::demo::stage::{Stage, of_family};
use crate::demo::teller::Teller;
use crate::demo::{CLUSTER_IPS, OUTSIDE, PORT, TARGET};
use crate::lab::{Node, Pod};
use crate::namespace::Namespace;
use crate::traffic::{Outcome, Steady, Transport, attempt, attempt_here, spread};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long one attempt waits while a change is awaited: a SYN that nobody answered is repeated after a second only.
const BRIEFLY: Duration = Duration::from_millis(20);
/// How long a change may take before the story is not true.
const SOON: Duration = Duration::from_secs(10);
/// Between two attempts of one who asks all the time, so that programs which start meanwhile have a processor.
const PACE: Duration = Duration::from_millis(5);
/// How often in a row all must be right to end the wait.
const CERTAIN: usize = 5;

/// Who asks whom, and what must come of it.
#[derive(Clone, Debug)]
pub(super) struct Way {
    from: Namespace,
    to: SocketAddr,
    /// Any of these answers.
    endpoints: Vec<String>,
    /// The client as it is seen: by any of these addresses.
    sources: Vec<IpAddr>,
}

impl Way {
    /// From one pod to another, which sees it as it is.
    pub(super) fn between(from: &Pod, to: &Pod) -> Vec<Self> {
        let way = |ip: &IpAddr| Self {
            from: from.namespace().clone(),
            to: SocketAddr::new(*ip, TARGET),
            endpoints: vec![to.name().to_owned()],
            sources: vec![of_family(from.addresses(), *ip)],
        };
        to.addresses().iter().map(way).collect()
    }

    /// From the client to the Service, whose pods see it as it is.
    pub(super) fn to_service(stage: &Stage) -> Vec<Self> {
        let client = stage.client();
        let way = |ip| Self {
            from: client.namespace().clone(),
            to: SocketAddr::new(ip, PORT),
            endpoints: stage.webs().map(|(_, pod)| pod.name().to_owned()).collect(),
            sources: vec![of_family(client.addresses(), ip)],
        };
        CLUSTER_IPS.map(way).to_vec()
    }

    /// From the client's node to the Service, whose pods see one of the node's addresses.
    pub(super) fn from_node_to_service(stage: &Stage) -> Vec<Self> {
        let near = stage.near();
        let seen = |way| Self { from: near.namespace().clone(), sources: own_addresses(near), ..way };
        Self::to_service(stage).into_iter().map(seen).collect()
    }

    /// From a pod to the host outside, which sees the pod's node.
    pub(super) fn out(stage: &Stage, node: &Node, pod: &Pod) -> Vec<Self> {
        let way = |ip| Self {
            from: pod.namespace().clone(),
            to: SocketAddr::new(ip, TARGET),
            endpoints: vec![OUTSIDE.to_owned()],
            sources: vec![of_family(&node.addresses(), ip)],
        };
        stage.cluster.lab.outside_addresses().into_iter().map(way).collect()
    }

    /// From the host outside to a port of a node, answered by one of these pods, which sees one of these addresses.
    pub(super) fn in_by(stage: &Stage, to: SocketAddr, endpoints: &[&str], sources: Vec<IpAddr>) -> Self {
        let endpoints = endpoints.iter().map(|&name| name.to_owned()).collect();
        Self { from: stage.cluster.lab.outside().clone(), to, endpoints, sources }
    }

    /// Asks once, says what came of it, and fails when that is not right.
    pub(super) fn show(&self, teller: &mut Teller<'_>) -> Result<(), Error> {
        let outcome = attempt(&self.from, Transport::Tcp, self.to)?;
        let told = match &outcome {
            Outcome::Answer { endpoint, source } => format!("{endpoint} answers and saw {source}"),
            other => other.to_string(),
        };
        self.say(&told, teller)?;
        if self.is_right(&outcome) { Ok(()) } else { Err(self.wrong(&outcome)) }
    }

    /// Says what came of it.
    pub(super) fn say(&self, told: &str, teller: &mut Teller<'_>) -> Result<(), Error> {
        teller.say(&format!("  {:<7} -> {:<24} {told}", self.from.name(), self.to.to_string()))
    }

    fn is_right(&self, outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Answer { endpoint, source }
            if self.endpoints.contains(endpoint) && self.sources.contains(source))
    }

    fn wrong(&self, outcome: &Outcome) -> Error {
        let (from, to) = (self.from.name(), self.to);
        Error::Wrong(format!(
            "{from} -> {to} gives {outcome}, in place of {:?} seeing one of {:?}",
            self.endpoints, self.sources
        ))
    }

    /// Asks so many times, says how often each endpoint answered, and fails when one of them never did.
    pub(super) fn show_shares(&self, count: usize, teller: &mut Teller<'_>) -> Result<(), Error> {
        let mut shares = BTreeMap::new();
        for (outcome, times) in spread(&self.from, Transport::Tcp, self.to, count)? {
            if !self.is_right(&outcome) {
                return Err(self.wrong(&outcome));
            }
            *shares.entry(outcome.endpoint().unwrap_or_default().to_owned()).or_insert(0) += times;
        }
        let told: Vec<String> =
            shares.iter().map(|(endpoint, times)| format!("{endpoint} {times}")).collect();
        self.say(&format!("{count} connections: {}", told.join(", ")), teller)?;
        if shares.len() == self.endpoints.len() {
            Ok(())
        } else {
            Err(Error::Wrong("the connections are not spread over all pods".to_owned()))
        }
    }

    /// Asks all the time.
    pub(super) fn ask_steadily(&self) -> Result<Steady, Error> {
        Ok(Steady::paced(PACE, &self.from, Transport::Tcp, self.to)?)
    }

    fn ask(&self) -> Result<Outcome, Error> {
        Ok(self.from.enter(|| attempt_here(Transport::Tcp, self.to, BRIEFLY))?)
    }
}

/// All ways that heddle-node and heddle-proxy keep open for the client.
pub(super) fn ways_of_client(stage: &Stage) -> Vec<Way> {
    let client = stage.client();
    let pods = stage.webs().flat_map(|(_, pod)| Way::between(client, pod));
    pods.chain(Way::to_service(stage)).chain(Way::out(stage, stage.near(), client)).collect()
}

/// Asks again and again until all is right some times in a row. Returns when, since `begun`, the first of those rounds had its
/// last answer.
pub(super) fn await_all(ways: &[Way], begun: Instant) -> Result<Duration, Error> {
    let (mut in_a_row, mut first) = (0, begun.elapsed());
    while in_a_row < CERTAIN {
        let wrong = first_wrong(ways)?;
        match wrong {
            Some(error) if begun.elapsed() > SOON => return Err(error),
            Some(_) => in_a_row = 0,
            None => {
                first = if in_a_row == 0 { begun.elapsed() } else { first };
                in_a_row += 1;
            }
        }
    }
    Ok(first)
}

fn first_wrong(ways: &[Way]) -> Result<Option<Error>, Error> {
    for way in ways {
        let outcome = way.ask()?;
        if !way.is_right(&outcome) {
            return Ok(Some(way.wrong(&outcome)));
        }
    }
    Ok(None)
}

/// Asks again and again until nobody answers, waiting so long for each. Returns when, since `begun`, it asked so, and what came in
/// place of an answer.
pub(super) fn await_nobody(way: &Way, begun: Instant, limit: Duration) -> Result<(Duration, Outcome), Error> {
    loop {
        let asked = begun.elapsed();
        let outcome = way.from.enter(|| attempt_here(Transport::Tcp, way.to, limit))?;
        if outcome.endpoint().is_none() {
            return Ok((asked, outcome));
        }
        if begun.elapsed() > SOON {
            return Err(Error::Wrong(format!("{} -> {} still gives {outcome}", way.from.name(), way.to)));
        }
    }
}

/// All addresses of a node by which it may be seen: those of its uplink, the bridge's, and the VXLAN device's.
pub(super) fn own_addresses(node: &Node) -> Vec<IpAddr> {
    let ranges = node.pod_ranges();
    let bridge = ranges.iter().filter_map(|range| node.masquerade_towards(range.ip()));
    node.addresses().into_iter().chain(bridge).chain(ranges.iter().map(IpNetwork::network)).collect()
}
