//! A pod: a namespace that the real `heddle-cni` has joined to its node.
//!
//! The plugin is run as containerd runs it: inside the node's network, with the pod's namespace as a path, and with
//! the pod's Kubernetes names in `CNI_ARGS`.

use crate::lab::{Error, Node};
use crate::namespace::Namespace;
use crate::process::{Invocation, Output, program};
use crate::scratch::Scratch;
use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PLUGIN: &str = "heddle-cni";
const INTERFACE: &str = "eth0";

/// A pod that is on the network until this value is dropped.
#[derive(Debug)]
pub struct Pod {
    namespace: Namespace,
    node: Namespace,
    /// Container id, as a runtime gives it: 64 hexadecimal digits.
    id: String,
    config: String,
    /// Its namespace, in the node's folder of them.
    file: PathBuf,
    addresses: Vec<IpAddr>,
    /// The plugin's leases lie in it.
    _directory: Arc<Scratch>,
}

impl Pod {
    pub(super) fn create(node: &Node, name: &str, addresses: &[IpAddr]) -> Result<Self, Error> {
        let mut pod = Self {
            namespace: Namespace::new(name)?.in_cgroup(node.namespace().cgroup().cloned()),
            node: node.namespace().clone(),
            id: fresh_id(),
            config: configuration(node, addresses).to_string(),
            file: PathBuf::new(),
            addresses: Vec::new(),
            _directory: Arc::clone(node.scratch()),
        };
        pod.file = node.pods_namespaces().join(&pod.id);
        pod.show().map_err(|source| Error::Directory { host: name.to_owned(), source })?;
        let result = pod.plugin("ADD")?;
        pod.addresses = addresses_in(&result.stdout).ok_or_else(|| pod.failed("ADD", &result))?;
        Ok(pod)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Its network.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its addresses, as the plugin's result gives them.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Takes the pod off the network.
    ///
    /// # Errors
    /// [`Error::Cni`] with the plugin's answer when it fails.
    pub fn delete(self) -> Result<(), Error> {
        self.plugin("DEL").map(drop)
    }

    fn show(&self) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        symlink(self.namespace.path(), &self.file)
    }

    /// Runs the plugin and fails when it does.
    fn plugin(&self, command: &'static str) -> Result<Output, Error> {
        let path = program(PLUGIN)?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let names = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            self.name(),
            self.id
        );
        let output = Invocation::foreign(path)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &self.id)
            .env("CNI_NETNS", self.namespace.path())
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_ARGS", names)
            .env("CNI_PATH", folder)
            .input(self.config.clone())
            .run(&self.node)?;
        if output.status.success() { Ok(output) } else { Err(self.failed(command, &output)) }
    }

    fn failed(&self, command: &'static str, output: &Output) -> Error {
        let answer = format!("{} {}{}", output.status, output.stdout, output.stderr);
        Error::Cni { command, pod: self.name().to_owned(), answer }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The node goes with the lab; a DEL that fails here has no reader, and tests of DEL call `delete`.
        let _ = self.plugin("DEL");
        let _ = fs::remove_file(&self.file);
    }
}

/// What a runtime hands to the plugin for this node. Given addresses narrow the ranges to just them.
fn configuration(node: &Node, addresses: &[IpAddr]) -> Value {
    let subnets = node.pod_ranges();
    let ranges: Vec<Value> = if addresses.is_empty() {
        subnets.iter().map(|subnet| json!([{ "subnet": subnet.to_string() }])).collect()
    } else {
        let subnet = |ip: &IpAddr| subnets.iter().find(|s| s.contains(*ip)).map(ToString::to_string);
        let one = |ip: &IpAddr| json!([{ "subnet": subnet(ip), "rangeStart": ip, "rangeEnd": ip }]);
        addresses.iter().map(one).collect()
    };
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": PLUGIN,
        "bridge": "cni0",
        "isGateway": true,
        "isDefaultGateway": true,
        "hairpinMode": true,
        "ipam": { "type": "heddle", "ranges": ranges, "dataDir": node.leases() },
    })
}

fn addresses_in(result: &str) -> Option<Vec<IpAddr>> {
    let result: Value = serde_json::from_str(result).ok()?;
    let ips = result.get("ips")?.as_array()?;
    let address =
        |ip: &Value| ip.get("address")?.as_str()?.parse::<IpNetwork>().ok().map(|network| network.ip());
    ips.iter().map(address).collect()
}

/// Unique in this process; other processes have other nodes.
fn fresh_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:064x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
