//! heddle-node on the nodes of a lab whose fabric knows nothing of pods: what it brings about is the only way.

#[path = "node_agent/nodes.rs"]
mod nodes;
#[path = "node_agent/others.rs"]
mod others;
#[path = "node_agent/said.rs"]
mod said;
#[path = "node_agent/status.rs"]
mod status;
#[path = "node_agent/supply.rs"]
mod supply;
#[path = "node_agent/told.rs"]
mod told;
#[path = "node_agent/traffic.rs"]
mod traffic;
#[path = "node_agent/tunnel.rs"]
mod tunnel;

use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::cluster::agent_socket;
use heddle_tests::lab::{Lab, Node, Underlay};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, Process};
use heddle_tests::proxy::Manifests;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::TcpListener;

type Outcomes = Result<(), Box<dyn Error>>;

/// Nodes without pod routes, and the folder from which every agent reads them.
struct Stage {
    lab: Lab,
    manifests: Manifests,
}

impl Stage {
    fn new(nodes: &[&str]) -> Result<Self, Box<dyn Error>> {
        Self::on(Underlay::flat(nodes))
    }

    fn on(underlay: Underlay) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::on(underlay)?;
        let manifests = Manifests::of(&lab.nodes()[0])?;
        let stage = Self { lab, manifests };
        stage.lab.nodes().iter().try_for_each(|node| stage.put(&node.object()))?;
        Ok(stage)
    }

    fn put(&self, object: &Value) -> Outcomes {
        let name = object["metadata"]["name"].as_str().ok_or("a Node has a name")?;
        Ok(self.manifests.put(&format!("{name}.json"), &object.to_string())?)
    }

    fn node(&self, name: &str) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node(name)?)
    }

    fn agent(&self, node: &str, flags: &[&str]) -> Result<Process, Box<dyn Error>> {
        let (folder, socket) = (self.manifests.folder(), agent_socket(self.node(node)?));
        let fixed = ["--manifests", &folder, "--hostname-override", node, "--status-socket", &socket];
        Ok(self.node(node)?.start("heddle-node", fixed.iter().chain(flags).copied())?)
    }
}

/// Nodes of an API server, which is on the first of them, whose agent is the only one.
struct Served {
    server: ApiServer,
    lab: Lab,
}

impl Served {
    fn new(nodes: &[&str]) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::on(Underlay::flat(nodes))?;
        let listener = lab.node(nodes[0])?.namespace().enter(|| TcpListener::bind("127.0.0.1:0"))??;
        let stage = Self { server: ApiServer::start(listener, Options::default())?, lab };
        stage.lab.nodes().iter().try_for_each(|node| stage.put(node.object()))?;
        Ok(stage)
    }

    fn put(&self, object: Value) -> Outcomes {
        self.server.apply(object).map(drop).map_err(|refusal| format!("{refusal:?}").into())
    }

    fn first(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    /// Starts the agent with a kubeconfig that has this token.
    fn agent(&self, token: &str, flags: &[&str]) -> Result<Process, Box<dyn Error>> {
        let node = self.first();
        let mut config: Value = serde_json::from_str(&self.server.kubeconfig())?;
        config["users"][0]["user"] = json!({ "token": token });
        let path = node.directory().join("kubeconfig");
        fs::write(&path, config.to_string())?;
        let (path, socket) = (path.to_string_lossy(), agent_socket(node));
        let fixed = ["--kubeconfig", &path, "--hostname-override", node.name(), "--status-socket", &socket];
        Ok(node.start("heddle-node", fixed.iter().chain(flags).copied())?)
    }
}

/// Runs `ip` on a node.
fn ip(node: &Node, arguments: &str) -> Result<String, String> {
    let output = Invocation::foreign("ip").args(arguments.split(' ')).run(node.namespace());
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("ip {arguments}: {}", output.stderr))
    }
}

/// Our routes on a node, as iproute2 shows them: destination and next hop.
fn routes(node: &Node) -> Result<Vec<String>, String> {
    let listed = ip(node, "-4 route show proto 110")? + &ip(node, "-6 route show proto 110")?;
    let route = |line: &str| line.split(" dev ").next().unwrap_or_default().to_owned();
    let mut routes: Vec<String> = listed.lines().map(route).collect();
    routes.sort();
    Ok(routes)
}

/// The routes to all pods of these nodes.
fn towards(nodes: &[&Node]) -> Vec<String> {
    let pairs = nodes.iter().flat_map(|node| node.pod_ranges().into_iter().zip(node.addresses()));
    let mut routes: Vec<String> = pairs.map(|(range, via)| format!("{range} via {via}")).collect();
    routes.sort();
    routes
}

fn comes_to(node: &Node, wanted: &[String]) -> Outcomes {
    eventually(&format!("routes {wanted:?} on {}", node.name()), PATIENCE, || {
        let routes = routes(node)?;
        if routes == wanted { Ok(()) } else { Err(format!("{routes:?}")) }
    })?;
    Ok(())
}

/// What nft prints of our tables; none when one is missing.
fn tables(node: &Node) -> Result<String, String> {
    let mut text = String::new();
    for family in ["ip", "ip6"] {
        let listed = node.nft(["list", "table", family, "heddle-node"]).map_err(|error| error.to_string())?;
        if !listed.status.success() {
            return Err(listed.stderr);
        }
        text.push_str(&listed.stdout);
    }
    Ok(text)
}

fn setting(node: &Node, name: &str) -> Result<String, Box<dyn Error>> {
    Ok(node.namespace().enter(|| fs::read_to_string(format!("/proc/sys/net/{name}")))??.trim().to_owned())
}
