//! `heddle-node doctor` on the nodes of a lab: what it prints of a healthy pair, and of one broken thing each.

#[path = "doctor/broken.rs"]
mod broken;
#[path = "doctor/healthy.rs"]
mod healthy;
#[path = "doctor/sizes.rs"]
mod sizes;

use heddle_tests::cluster::agent_socket;
use heddle_tests::lab::{Lab, Node, Underlay};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, Output, Process, program};
use heddle_tests::proxy::Manifests;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;

type Outcomes = Result<(), Box<dyn Error>>;

/// Nodes whose files and programs are where a runtime looks for them, below each node's own directory.
struct Stage {
    lab: Lab,
    manifests: Manifests,
}

impl Stage {
    fn new(underlay: Underlay) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::on(underlay)?;
        let manifests = Manifests::of(&lab.nodes()[0])?;
        for node in lab.nodes() {
            manifests.put(&format!("{}.json", node.name()), &node.object().to_string())?;
            furnish(node)?;
        }
        Ok(Self { lab, manifests })
    }

    /// Two on one link.
    fn pair() -> Result<Self, Box<dyn Error>> {
        Self::new(Underlay::flat(&["node-1", "node-2"]))
    }

    fn one(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    fn agent(&self, node: &Node) -> Result<Process, Box<dyn Error>> {
        let (folder, socket) = (self.manifests.folder(), agent_socket(node));
        let flags = ["--manifests", &folder, "--hostname-override", node.name(), "--status-socket", &socket];
        let agent = node.start("heddle-node", flags)?;
        eventually("an agent that is done and says so", PATIENCE, || {
            let status = Invocation::of("heddle-node").map_err(|error| error.to_string())?;
            let status = status.args(["status", "--status-socket", &socket]).run(node.namespace());
            let status = status.map_err(|error| error.to_string())?;
            if status.status.success() {
                Ok(())
            } else {
                Err(status.stdout + &status.stderr + &agent.stderr())
            }
        })?;
        Ok(agent)
    }

    /// What the doctor says of the first node, whose name and Nodes it is told.
    fn doctor(&self, flags: &[&str]) -> Result<Output, Box<dyn Error>> {
        let (folder, name) = (self.manifests.folder(), self.one().name());
        let told = ["--hostname-override", name, "--manifests", &folder];
        Ok(self.untold(&[&told, flags].concat())?.run(self.one().namespace())?)
    }

    /// The same where nobody tells it.
    fn untold(&self, flags: &[&str]) -> Result<Invocation, Box<dyn Error>> {
        let (root, socket) = (self.one().directory(), agent_socket(self.one()));
        let fixed = [
            "doctor".as_ref(),
            "--root".as_ref(),
            root.as_os_str(),
            "--status-socket".as_ref(),
            socket.as_ref(),
        ];
        Ok(Invocation::of("heddle-node")?.args::<&std::ffi::OsStr>(fixed).args(flags))
    }

    /// The same as values.
    fn checks(&self) -> Result<Checks, Box<dyn Error>> {
        self.checks_with(&[])
    }

    fn checks_with(&self, flags: &[&str]) -> Result<Checks, Box<dyn Error>> {
        let output = self.doctor(&[&["--output", "json"], flags].concat())?;
        let document: Value = serde_json::from_str(&output.stdout)
            .map_err(|error| format!("{error}: {}{}", output.stdout, output.stderr))?;
        Ok(Checks { document, is_success: output.status.success() })
    }
}

/// An answer.
struct Checks {
    document: Value,
    is_success: bool,
}

impl Checks {
    /// Fails unless a check of this name ended so and says this.
    fn says(&self, name: &str, outcome: &str, found: &str) {
        let says = |check: &Value, key: &str, text: &str| {
            check[key].as_str().is_some_and(|said| said.contains(text))
        };
        let is_it = |check: &Value| {
            check["name"] == name && check["outcome"] == outcome && says(check, "found", found)
        };
        let mut checks = self.document["checks"].as_array().into_iter().flatten();
        assert!(checks.any(is_it), "{name} {outcome} {found:?}: {:#}", self.document);
        assert_eq!(self.is_success, self.document["failed"] == 0);
    }
}

/// The plugin, under both of its names, and a configuration.
fn furnish(node: &Node) -> Outcomes {
    let (configurations, programs) =
        (node.directory().join("etc/cni/net.d"), node.directory().join("opt/cni/bin"));
    fs::create_dir_all(&configurations)?;
    fs::create_dir_all(&programs)?;
    for name in ["heddle-cni", "loopback"] {
        symlink(program("heddle-cni")?, programs.join(name))?;
    }
    let ranges: Vec<_> =
        node.pod_ranges().iter().map(|range| json!([{ "subnet": range.to_string() }])).collect();
    let ours = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [
        { "type": "heddle-cni", "isDefaultGateway": true, "ipam": { "type": "heddle", "dataDir": "/leases", "ranges": ranges } }
    ] });
    Ok(fs::write(configurations.join("10-heddle.conflist"), ours.to_string())?)
}

/// Runs `ip` in a namespace.
fn ip(inside: &heddle_tests::namespace::Namespace, arguments: &str) -> Result<String, Box<dyn Error>> {
    let output = Invocation::foreign("ip").args(arguments.split(' ')).run(inside)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("ip {arguments}: {}", output.stderr).into())
    }
}
