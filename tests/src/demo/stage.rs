//! What the story is told on: the nodes and what runs on them, the pods, and the Service.
//!
//! Nothing here is printed. Invariant: who knows where pods are knows it from heddle-node.

use crate::cluster::{Cluster, agent_socket};
use crate::demo::{CLIENT, CLUSTER_IPS, Error, NODE_PORT, OUTSIDE, PORT, SERVICE, SUBNETS, TARGET};
use crate::lab::{Node, Pod, Underlay};
use crate::objects::{service, slice_over};
use crate::process::Invocation;
use crate::traffic::{Server, Transport};
use serde_json::json;
use std::fmt;
use std::net::IpAddr;

/// The whole of it. Dropping it takes it down in this order.
pub struct Stage {
    servers: Vec<Server>,
    pods: Vec<Pod>,
    pub(super) cluster: Cluster,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("pods", &self.pods)
            .field("lab", &self.cluster.lab)
            .finish_non_exhaustive()
    }
}

impl Stage {
    /// Everything at work, as the story has it before the damage.
    ///
    /// # Errors
    /// Mostly when the process is not root, or a program is not built.
    pub fn build() -> Result<Self, Error> {
        let mut stage = Self::of_nodes()?;
        stage.start_programs()?;
        stage.add_pods()?;
        stage.serve("Cluster")?;
        Ok(stage)
    }

    /// Nodes that the API server knows, with nothing on them.
    pub(super) fn of_nodes() -> Result<Self, Error> {
        let cluster = Cluster::new(Underlay::routed(SUBNETS), &[])?;
        Ok(Self { servers: Vec::new(), pods: Vec::new(), cluster })
    }

    /// Starts heddle-node and heddle-proxy on every node, and waits until they are ready.
    pub(super) fn start_programs(&mut self) -> Result<(), Error> {
        let names = self.cluster.names();
        names.iter().try_for_each(|name| self.cluster.boot(name))?;
        Ok(names.iter().try_for_each(|name| self.cluster.ready(name))?)
    }

    /// Kills them all.
    pub(super) fn kill_programs(&mut self) -> Result<(), Error> {
        for name in self.cluster.names() {
            self.cluster.kill_agent(&name)?;
            self.cluster.kill_proxy(&name)?;
        }
        Ok(())
    }

    /// Makes a pod on every node; each serves, and so does the host outside.
    pub(super) fn add_pods(&mut self) -> Result<(), Error> {
        let lab = &self.cluster.lab;
        let mut servers = vec![(lab.outside().clone(), OUTSIDE.to_owned())];
        for (number, node) in (1..).zip(lab.nodes()) {
            let name = if number == 1 { CLIENT.to_owned() } else { format!("{SERVICE}-{number}") };
            let pod = node.pod(&name)?;
            servers.push((pod.namespace().clone(), name));
            self.pods.push(pod);
        }
        for (host, name) in servers {
            self.servers.push(Server::start(&host, &name, Transport::Tcp, TARGET)?);
        }
        Ok(())
    }

    /// Creates the Service, or changes it, with every pod but the client's as an endpoint.
    pub(super) fn serve(&self, policy: &str) -> Result<(), Error> {
        let mut web = service(SERVICE, &CLUSTER_IPS, PORT, TARGET);
        web["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
        web["spec"]["type"] = json!("NodePort");
        web["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
        web["spec"]["externalTrafficPolicy"] = json!(policy);
        let api = &self.cluster.api;
        api.apply(web)?;
        for like in CLUSTER_IPS {
            let endpoints: Vec<(&str, IpAddr)> =
                self.webs().map(|(n, pod)| (n.name(), of_family(pod.addresses(), like))).collect();
            api.apply(slice_over(SERVICE, &endpoints, TARGET))?;
        }
        Ok(())
    }

    /// The nodes with their pods, in the order in which they were made.
    pub(super) fn pods(&self) -> impl Iterator<Item = (&Node, &Pod)> {
        self.cluster.lab.nodes().iter().zip(&self.pods)
    }

    /// The pod that asks.
    pub(super) fn client(&self) -> &Pod {
        &self.pods[0]
    }

    /// The pods that the Service has, and their nodes.
    pub(super) fn webs(&self) -> impl Iterator<Item = (&Node, &Pod)> {
        self.pods().skip(1)
    }

    /// The client's node.
    pub(super) fn near(&self) -> &Node {
        &self.cluster.lab.nodes()[0]
    }

    /// The node that is farthest from it.
    pub(super) fn far(&self) -> &Node {
        self.cluster.lab.nodes().last().expect("the stage has nodes")
    }

    /// What a program of the system prints on a node.
    pub(super) fn run(&self, node: &Node, command: &str) -> Result<String, Error> {
        let mut words = command.split(' ');
        let program = Invocation::foreign(words.next().unwrap_or_default());
        printed(program.args(words), node)
    }

    /// What `heddle-node status` prints on a node.
    pub(super) fn status(&self, node: &Node) -> Result<String, Error> {
        let socket = agent_socket(node);
        printed(Invocation::of("heddle-node")?.args(["status", "--status-socket", &socket]), node)
    }
}

/// The one of a host's addresses that has the family of another: hosts of the stage have both.
pub(super) fn of_family(addresses: &[IpAddr], like: IpAddr) -> IpAddr {
    let same = |ip: &&IpAddr| ip.is_ipv4() == like.is_ipv4();
    *addresses.iter().find(same).expect("a host has an address of each family")
}

fn printed(program: Invocation, node: &Node) -> Result<String, Error> {
    let ran = program.run(node.namespace())?;
    if ran.status.success() {
        Ok(ran.stdout)
    } else {
        Err(Error::Wrong(format!("on {}: {}{}", node.name(), ran.stdout, ran.stderr)))
    }
}
