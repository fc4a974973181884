//! What the plugin is supplied with: program and configuration, where a container runtime finds them.

#[path = "supply/files.rs"]
mod files;
#[path = "supply/pods.rs"]
mod pods;

use crate::{Outcomes, Stage};
use heddle_tests::cluster::agent_socket;
use heddle_tests::cni::{Attachment, Level, List, Runtime};
use heddle_tests::lab::Node;
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Process, program};
use serde_json::{Value, json};
use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The folders of a host, as its agent and its container runtime see them.
struct Host {
    folder: PathBuf,
}

impl Host {
    /// With a template that keeps leases in the node's own folder.
    fn of(node: &Node) -> Result<Self, Box<dyn Error>> {
        let host = Self { folder: node.directory().join("host") };
        fs::create_dir_all(&host.folder)?;
        fs::write(host.at("template"), template(node).to_string())?;
        Ok(host)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_string_lossy().into_owned()
    }

    /// Flags for the host's folders.
    fn flags(&self) -> Vec<String> {
        let flags = [
            ("--cni-bin-dir", "bin"),
            ("--cni-conf-dir", "net.d"),
            ("--cni-conf-template", "template"),
            ("--cni-heartbeat", "run/node-alive"),
        ];
        flags.iter().flat_map(|(flag, name)| [(*flag).to_owned(), self.text(name)]).collect()
    }

    fn start(&self, stage: &Stage, node: &str, more: &[&str]) -> Result<Process, Box<dyn Error>> {
        let flags = self.flags();
        stage.agent(node, &flags.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }

    /// An agent whose API server is away.
    fn start_without_nodes(&self, node: &Node) -> Result<Process, Box<dyn Error>> {
        let kubeconfig = self.text("kubeconfig");
        let text = json!({
            "current-context": "away", "contexts": [{ "name": "away", "context": { "cluster": "away", "user": "" } }],
            "clusters": [{ "name": "away", "cluster": { "server": "http://127.0.0.1:1" } }], "users": [{ "name": "", "user": {} }],
        });
        fs::write(&kubeconfig, text.to_string())?;
        let socket = agent_socket(node);
        let fixed =
            ["--hostname-override", node.name(), "--kubeconfig", &kubeconfig, "--status-socket", &socket];
        let flags = self.flags();
        Ok(node.start("heddle-node", fixed.into_iter().chain(flags.iter().map(String::as_str)))?)
    }

    fn place(&self) -> PathBuf {
        self.at("net.d/10-heddle.conflist")
    }

    fn plugin(&self) -> PathBuf {
        self.at("bin/heddle-cni")
    }

    /// The configuration, as soon as it names a range.
    fn list(&self, range: &str) -> Result<List, Box<dyn Error>> {
        let read = || {
            let text = fs::read_to_string(self.place()).map_err(|error| error.to_string())?;
            if text.contains(&format!("{range:?}")) { Ok(text) } else { Err(text) }
        };
        let text = eventually(&format!("a configuration with {range}"), PATIENCE, read)?;
        Ok(List::read(&serde_json::from_str(&text)?, Level::New)?)
    }

    fn runtime(&self, node: &Node) -> Runtime {
        Runtime::new(node.namespace(), [self.at("bin")])
    }
}

fn template(node: &Node) -> Value {
    json!({
        "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "pods",
        "plugins": [{ "type": "heddle-cni", "capabilities": { "portMappings": true }, "isDefaultGateway": true, "hairpinMode": true,
            "ipam": { "type": "heddle", "dataDir": node.directory().join("leases") } }],
    })
}

/// A file says this at last.
fn comes_to_say(path: &Path, wanted: &[u8]) -> Outcomes {
    eventually(&format!("{} with {} bytes of ours", path.display(), wanted.len()), PATIENCE, || {
        let found = fs::read(path).map_err(|error| error.to_string())?;
        if found == wanted { Ok(()) } else { Err(format!("{} bytes", found.len())) }
    })?;
    Ok(())
}

/// Another version of the plugin: with something behind its end it is another file, and runs the same.
fn other_version(path: &Path) -> Outcomes {
    fs::write(path, [fs::read(program("heddle-cni")?)?, b"another version".to_vec()].concat())?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

fn attachment(container: &str, pod: &Namespace) -> Attachment {
    Attachment::new(container, &pod.path().to_string_lossy()).of_containerd(0)
}

/// The addresses in a result.
fn addresses(result: &Value) -> Vec<&str> {
    let ips = result["ips"].as_array().map_or(&[][..], Vec::as_slice);
    ips.iter().filter_map(|ip| ip["address"].as_str()).collect()
}
