//! A node and its pods as the plugin's tests see them: namespaces, a folder for leases, and the ways to call the plugin.

use heddle_cni::store::{Store, boot_id};
use heddle_tests::namespace::Namespace;
use heddle_tests::process::Invocation;
use heddle_tests::scratch::Scratch;
use serde_json::{Value, json};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

/// The built plugin.
pub(crate) const PLUGIN: &str = env!("CARGO_BIN_EXE_heddle-cni");

/// A pod's network, not attached yet.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
}

impl Pod {
    pub(crate) fn new() -> Self {
        Self { namespace: Namespace::new("pod").unwrap() }
    }

    pub(crate) fn path(&self) -> String {
        self.namespace.path().display().to_string()
    }

    /// What iproute2, which we did not write, says about the pod.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Value {
        ip(&self.namespace, arguments)
    }
}

/// A node's network and the folder that its plugin keeps leases in.
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    scratch: Scratch,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { namespace: Namespace::new("node").unwrap(), scratch: Scratch::new().unwrap() }
    }

    /// A gateway for two ranges, with these keys in the place of its own.
    pub(crate) fn config(&self, extra: &Value) -> Value {
        let mut config = json!({"cniVersion": "1.1.0", "name": "pods", "type": "heddle-cni",
            "isDefaultGateway": true, "hairpinMode": true,
            "ipam": {"type": "heddle", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:1::/64"}]]}});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        if config["ipam"].is_object() && config["ipam"]["dataDir"].is_null() {
            config["ipam"]["dataDir"] = json!(self.scratch.path());
        }
        config
    }

    /// The plugin with an empty environment.
    pub(crate) fn program(&self) -> Invocation {
        Invocation::foreign(PLUGIN)
    }

    pub(crate) fn call(&self, command: &str, container: &str, namespace: &str, extra: &Value) -> Invocation {
        self.call_by(self.program(), command, (container, namespace), extra)
    }

    /// As [`call`](Self::call), through another program that starts the plugin.
    pub(crate) fn call_by(
        &self,
        program: Invocation,
        command: &str,
        (container, namespace): (&str, &str),
        extra: &Value,
    ) -> Invocation {
        program
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", namespace)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={container}"))
            .input(self.config(extra).to_string())
    }

    /// An ADD that succeeds, and its result.
    pub(crate) fn add(&self, container: &str, pod: &Pod, extra: &Value) -> String {
        let output = self.call("ADD", container, &pod.path(), extra).run(&self.namespace).unwrap();
        assert!(output.status.success(), "ADD {container}: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// A DEL that succeeds, and says nothing.
    pub(crate) fn del(&self, container: &str, namespace: &str, extra: &Value) {
        self.succeeds("DEL", (container, namespace), extra);
    }

    /// A call that succeeds, and says nothing.
    pub(crate) fn succeeds(&self, command: &str, (container, namespace): (&str, &str), extra: &Value) {
        let output = self.call(command, container, namespace, extra).run(&self.namespace).unwrap();
        assert!(output.status.success(), "{command} {container}: {}{}", output.stdout, output.stderr);
        assert_eq!(output.stdout, "");
    }

    pub(crate) fn gc(&self, extra: &Value) {
        self.succeeds("GC", ("", ""), extra);
    }

    pub(crate) fn status(&self, extra: &Value) {
        self.succeeds("STATUS", ("", ""), extra);
    }

    /// A call that fails with this code and one document, which it gives.
    pub(crate) fn fails(
        &self,
        code: u32,
        command: &str,
        (container, namespace): (&str, &str),
        extra: &Value,
    ) -> Value {
        let output = self.call(command, container, namespace, extra).run(&self.namespace).unwrap();
        let failure: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!((&failure["code"], output.status.success()), (&json!(code), false), "{failure}");
        failure
    }

    /// What iproute2 says about the node.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Value {
        ip(&self.namespace, arguments)
    }

    /// The names of the host's ends of all pairs.
    pub(crate) fn host_links(&self) -> Vec<String> {
        let links = self.ip(&["link"]);
        let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("hdl")).collect()
    }

    /// A file with this text, for as long as the node lives.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The folder that is the node's, and in which leases are kept.
    pub(crate) fn folder(&self) -> PathBuf {
        self.scratch.path()
    }

    /// The file with this network's leases.
    pub(crate) fn table(&self) -> PathBuf {
        self.scratch.path().join("pods/lease-table")
    }

    /// The interfaces that hold addresses, as the next process sees them.
    pub(crate) fn leases(&self) -> Vec<String> {
        let store = Store::open_existing(&self.scratch.path(), "pods", &boot_id().unwrap()).unwrap();
        let held = store.map(|mut store| store.holders().unwrap()).unwrap_or_default();
        let mut names: Vec<_> =
            held.iter().map(|held| format!("{}/{}", held.owner.container, held.owner.ifname)).collect();
        names.sort();
        names
    }
}

/// The addresses in a result.
pub(crate) fn addresses(result: &str) -> Vec<IpAddr> {
    let result: Value = serde_json::from_str(result).unwrap();
    let ips = result["ips"].as_array().unwrap();
    let address = |ip: &Value| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
    ips.iter().map(address).collect()
}

fn ip(namespace: &Namespace, arguments: &[&str]) -> Value {
    let output = Invocation::foreign("ip").args(["-j"]).args(arguments).run(namespace).unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", output.stderr);
    if output.stdout.is_empty() { Value::Null } else { serde_json::from_str(&output.stdout).unwrap() }
}

/// What a kernel setting says in a namespace.
pub(crate) fn setting(namespace: &Namespace, key: &str) -> String {
    let path = format!("/proc/sys/{key}");
    namespace.enter(|| fs::read_to_string(path)).unwrap().unwrap().trim().to_owned()
}
