//! A network with a pod on each node, and what is asked of it.

use crate::Outcomes;
use heddle_tests::cluster::Cluster;
use heddle_tests::lab::{Families, Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{service, slice_over};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::traffic::{Outcome, Server, Transport, attempt, attempt_here};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub(crate) const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];
/// The port of every server.
pub(crate) const TARGET: u16 = 8080;
/// How long one attempt waits while a change is awaited.
const BRIEFLY: Duration = Duration::from_millis(100);

/// A network on which every story is told.
pub(crate) struct Network {
    pub(crate) name: &'static str,
    pub(crate) subnets: &'static [&'static [&'static str]],
    pub(crate) families: Families,
    pub(crate) pods: Families,
    /// Of heddle-node.
    pub(crate) mode: &'static str,
}

impl Network {
    /// The largest packet between pods of two nodes, in the family of this address: cables take 1500 bytes.
    pub(crate) fn mtu(&self, nodes: [&str; 2], like: IpAddr) -> u32 {
        let together = self.subnets.iter().any(|subnet| nodes.iter().all(|node| subnet.contains(node)));
        let has_family = match self.families {
            Families::Both => true,
            Families::Ipv4 => like.is_ipv4(),
            Families::Ipv6 => like.is_ipv6(),
        };
        match self.families {
            _ if together && has_family && self.mode != "vxlan" => 1500,
            Families::Both | Families::Ipv4 => 1450,
            Families::Ipv6 => 1430,
        }
    }
}

/// A Service, for TCP and UDP.
pub(crate) struct Web<'a> {
    pub(crate) name: &'a str,
    pub(crate) addresses: Vec<IpAddr>,
    /// The endpoints' port.
    pub(crate) target: u16,
    /// Nodes and their pods.
    pub(crate) endpoints: &'a [(&'a str, &'a str)],
}

/// A running network: on each node a pod called as the node with `pod` for `node`, which serves.
pub(crate) struct Stage {
    servers: BTreeMap<String, Vec<Server>>,
    pods: BTreeMap<String, Pod>,
    pub(crate) network: &'static Network,
    pub(crate) cluster: Cluster,
}

impl Stage {
    pub(crate) fn build(network: &'static Network) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::start(network.underlay(), &["--mode", network.mode])?;
        let mut stage = Self { servers: BTreeMap::new(), pods: BTreeMap::new(), network, cluster };
        for number in 1..=stage.cluster.names().len() {
            stage.add_pod(&format!("node-{number}"), &format!("pod-{number}"))?;
        }
        Ok(stage)
    }

    pub(crate) fn node(&self, name: &str) -> Result<&Node, Box<dyn Error>> {
        Ok(self.cluster.node(name)?)
    }

    pub(crate) fn pod(&self, name: &str) -> Result<&Pod, Box<dyn Error>> {
        Ok(self.pods.get(name).ok_or_else(|| format!("there is no pod {name}"))?)
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// Makes a pod with its servers, in place of the one of that name.
    pub(crate) fn add_pod(&mut self, node: &str, name: &str) -> Outcomes {
        let pod = self.cluster.node(node)?.pod(name)?;
        let serve = |transport| Server::start(pod.namespace(), name, transport, TARGET);
        let servers = BOTH.map(serve).into_iter().collect::<Result<Vec<_>, _>>()?;
        self.servers.insert(name.to_owned(), servers);
        self.pods.insert(name.to_owned(), pod);
        Ok(())
    }

    /// A Service on port 80 of addresses that end so, of each family that pods have.
    pub(crate) fn web<'a>(
        &self,
        (name, last): (&'a str, u8),
        endpoints: &'a [(&'a str, &'a str)],
    ) -> Result<Web<'a>, Box<dyn Error>> {
        let of = |ip: &IpAddr| match ip {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::new(10, 96, 0, last)),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, last.into()).into(),
        };
        let addresses = self.pod("pod-1")?.addresses().iter().map(of).collect();
        Ok(Web { name, addresses, target: TARGET, endpoints })
    }

    /// Makes or changes a Service; `change` has the last word about the Service itself.
    pub(crate) fn serve(&self, web: &Web<'_>, change: impl Fn(&mut Value)) -> Outcomes {
        let refused = |refusal| format!("{refusal:?}");
        let mut object = service(web.name, &web.addresses, 80, web.target);
        let policy = if web.addresses.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        object["spec"]["ipFamilyPolicy"] = policy.into();
        object["spec"]["ipFamilies"] = web.addresses.iter().map(family_name).collect();
        let udp = json!({ "name": "udp", "protocol": "UDP", "port": 80, "targetPort": web.target });
        object["spec"]["ports"].as_array_mut().ok_or("a Service has ports")?.push(udp);
        change(&mut object);
        self.cluster.api.apply(object).map_err(refused)?;
        for family in &web.addresses {
            self.cluster.api.apply(self.slice(web, family)?).map_err(refused)?;
        }
        Ok(())
    }

    /// The slice of the endpoints' addresses of a family.
    fn slice(&self, web: &Web<'_>, family: &IpAddr) -> Result<Value, Box<dyn Error>> {
        let mut endpoints = Vec::new();
        for (node, pod) in web.endpoints {
            let address = like(self.pod(pod)?.addresses(), family).ok_or("pods have the family")?;
            endpoints.push((*node, *address));
        }
        let mut slice = slice_over(web.name, &endpoints, web.target);
        slice["addressType"] = family_name(family);
        slice["metadata"]["name"] = json!(format!("{}-{}", web.name, if family.is_ipv4() { 4 } else { 6 }));
        let udp = json!({ "name": "udp", "protocol": "UDP", "port": web.target });
        slice["ports"].as_array_mut().ok_or("a slice has ports")?.push(udp);
        Ok(slice)
    }
}

fn family_name(ip: &IpAddr) -> Value {
    json!(if ip.is_ipv4() { "IPv4" } else { "IPv6" })
}

/// The one of some addresses that has the family of another.
pub(crate) fn like<'a>(addresses: &'a [IpAddr], other: &IpAddr) -> Option<&'a IpAddr> {
    addresses.iter().find(|ip| ip.is_ipv4() == other.is_ipv4())
}

/// All addresses of a node by which it may be seen: those of its uplink, the bridge's, and the VXLAN device's.
pub(crate) fn own_addresses(node: &Node) -> Vec<IpAddr> {
    let ranges = node.pod_ranges();
    let bridge = ranges.iter().filter_map(|range| node.masquerade_towards(range.ip()));
    node.addresses().into_iter().chain(bridge).chain(ranges.iter().map(IpNetwork::network)).collect()
}

pub(crate) fn answer(endpoint: &str, source: IpAddr) -> Outcome {
    Outcome::Answer { endpoint: endpoint.into(), source }
}

/// Asks once, as a client does that has no reason to doubt, and compares.
pub(crate) fn answers(from: &Namespace, to: SocketAddr, wanted: &Outcome) -> Outcomes {
    for transport in BOTH {
        let outcome = attempt(from, transport, to)?;
        if outcome != *wanted {
            return Err(format!("{} {transport} -> {to}: {outcome} in place of {wanted}", from.name()).into());
        }
    }
    Ok(())
}

/// Asks again and again until the answer is this one.
pub(crate) fn comes_to_answer(
    from: &Namespace,
    to: SocketAddr,
    wanted: impl Fn(&Outcome) -> bool,
) -> Outcomes {
    for transport in BOTH {
        eventually(&format!("{} {transport} -> {to}", from.name()), PATIENCE, || {
            let outcome = from.enter(|| attempt_here(transport, to, BRIEFLY));
            let outcome = outcome.map_err(|error| error.to_string())?;
            if wanted(&outcome) { Ok(()) } else { Err(outcome.to_string()) }
        })?;
    }
    Ok(())
}
