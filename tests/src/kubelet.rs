//! A DaemonSet's pod on a node of the lab, as kubelet and a container runtime make it: of each container a read-only root with our
//! programs alone, its mounts, its ServiceAccount's token, arguments and variables, and the capabilities that it asks for.
//!
//! Not a kubelet: it reports nothing and restarts nothing. What a container mounts of the host is empty and its own, but for the
//! kernel's files. Invariant: all of it is one process's, and gone with that.

use crate::apiserver::ApiServer;
use crate::lab::Node;
use crate::namespace::Namespace;
use crate::patience::{PATIENCE, Vain, eventually};
use crate::process::{self, Invocation, Process, program};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The namespace of all pods here.
pub const NAMESPACE: &str = "kube-system";
/// Where the pod's root is made, in a mount namespace of its own.
const ROOT: &str = "/mnt";
/// What the image holds.
const PROGRAMS: [&str; 3] = ["heddle-node", "heddle-proxy", "heddle-cni"];
/// Where runtimes keep the network namespaces of pods.
const NAMESPACES: &str = "/run/netns";
/// Where a pod has its token.
const ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount";

/// Why a pod does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server has no such object.
    #[error("there is no {plural} {name} in {NAMESPACE}")]
    Absent {
        /// Of which sort.
        plural: &'static str,
        /// Its name.
        name: String,
    },
    /// The files of its root could not be made.
    #[error("make the root of a pod")]
    Root(#[from] io::Error),
    /// The program did not start.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A container that is to end well before the others did not.
    #[error("{name} failed and printed:\n{printed}")]
    Init {
        /// The container.
        name: String,
        /// Everything that it printed.
        printed: String,
    },
    /// A probe never succeeded.
    #[error("{vain}; the pod printed:\n{printed}")]
    Unready {
        /// What was awaited.
        vain: Vain,
        /// Everything that it printed.
        printed: String,
    },
}

/// A running pod: its last container. Those before it have ended well.
#[derive(Debug)]
pub struct Pod {
    process: Process,
    network: Namespace,
    container: Value,
}

impl Pod {
    /// Starts the pod of a DaemonSet that the API server has.
    ///
    /// # Errors
    /// When it names what is not there, or does not start.
    pub fn start(node: &Node, api: &ApiServer, set: &str) -> Result<Self, Error> {
        let set = find(api, "daemonsets", set)?;
        let spec = &set["spec"]["template"]["spec"];
        let draft = |container| Draft { node, api, spec, container };
        for container in items(&spec["initContainers"]) {
            let mut process = draft(container).start()?;
            if !process.wait(PATIENCE)?.success() {
                let printed = process.stdout() + &process.stderr();
                return Err(Error::Init { name: text(&container["name"]).to_owned(), printed });
            }
        }
        let container = &spec["containers"][0];
        let process = draft(container).start()?;
        Ok(Self { process, network: node.namespace().clone(), container: container.clone() })
    }

    /// Waits until all of its probes succeed.
    ///
    /// # Errors
    /// [`Error::Unready`].
    pub fn ready(&self) -> Result<(), Error> {
        for probe in ["livenessProbe", "readinessProbe"] {
            let get = &self.container[probe]["httpGet"];
            if !get.is_null() {
                eventually(&format!("{probe} {get}"), PATIENCE, || self.probe(get))
                    .map_err(|vain| Error::Unready { vain, printed: self.log() })?;
            }
        }
        Ok(())
    }

    fn probe(&self, get: &Value) -> Result<(), String> {
        let host = get["host"].as_str().unwrap_or("127.0.0.1").to_owned();
        let port = get["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("no port")?;
        let ask = || -> io::Result<String> {
            let mut stream = TcpStream::connect((host.as_str(), port))?;
            write!(stream, "GET {} HTTP/1.0\r\n\r\n", text(&get["path"]))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = self.network.enter(ask).map_err(|error| error.to_string())?;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(answer) }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    /// The program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where a path of the pod is, seen from the test; it is there as long as the pod runs.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.process.id()))
    }
}

/// What a container is made of.
struct Draft<'a> {
    node: &'a Node,
    api: &'a ApiServer,
    /// The pod's.
    spec: &'a Value,
    container: &'a Value,
}

impl Draft<'_> {
    fn start(&self) -> Result<Process, Error> {
        let folder = self.node.directory().join("containers").join(text(&self.container["name"]));
        self.fill(&folder)?;
        fs::create_dir_all(self.node.pods_namespaces())?;
        let command = text(&self.container["command"][0]).to_owned();
        let shell = Invocation::foreign("unshare").args(["--mount", "sh", "-ec", &self.script(&folder)?]);
        let shell = shell.args([command]).args(self.arguments()?);
        // As kubelet says, and as nobody can use before there is a proxy.
        let shell = shell.env("KUBERNETES_SERVICE_HOST", "10.96.0.1").env("KUBERNETES_SERVICE_PORT", "443");
        Ok(shell.start(self.node.namespace())?)
    }

    /// Makes all folders and files of the root but the program and the host's.
    fn fill(&self, root: &Path) -> Result<(), Error> {
        fs::create_dir_all(root.join("proc"))?;
        fs::create_dir_all(root.join("sys"))?;
        if self.spec["automountServiceAccountToken"] != json!(false) {
            let account = root.join(ACCOUNT);
            fs::create_dir_all(&account)?;
            fs::write(account.join("ca.crt"), self.api.authority())?;
            let token = self.api.token_of(NAMESPACE, text(&self.spec["serviceAccountName"]));
            fs::write(account.join("token"), token)?;
        }
        for program in PROGRAMS {
            fs::write(root.join(program), "")?;
        }
        for (volume, path) in self.mounts() {
            let folder = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(&folder)?;
            if let Some(name) = volume["configMap"]["name"].as_str() {
                let map = find(self.api, "configmaps", name)?;
                for (name, content) in map["data"].as_object().into_iter().flatten() {
                    fs::write(folder.join(name), text(content))?;
                }
            }
        }
        Ok(())
    }

    /// The volumes with where they are mounted.
    fn mounts(&self) -> impl Iterator<Item = (&Value, &str)> {
        let volume =
            |mount: &Value| items(&self.spec["volumes"]).iter().find(|it| it["name"] == mount["name"]);
        items(&self.container["volumeMounts"])
            .iter()
            .filter_map(move |mount| Some((volume(mount)?, text(&mount["mountPath"]))))
    }

    /// What makes the root, gives up what is not asked for, and becomes the program.
    fn script(&self, folder: &Path) -> Result<String, Error> {
        let mut lines = vec![
            format!("mount -t tmpfs none {ROOT}"),
            format!("cp -a {}/. {ROOT}", folder.display()),
            format!("mount -t sysfs -o ro none {ROOT}/sys"),
            format!("mount --rbind /proc {ROOT}/proc"),
            format!("mount --bind /proc/sys {ROOT}/proc/sys"),
            format!("mount -o remount,bind,ro {ROOT}/proc/sys"),
        ];
        for name in PROGRAMS {
            lines.push(format!("mount --bind {} {ROOT}/{name}", program(name)?.display()));
        }
        for (volume, path) in self.mounts() {
            let Some(host) = volume["hostPath"]["path"].as_str() else { continue };
            lines.push(match self.of_node(host) {
                // -c: a mount that is held by a file descriptor has no other name.
                Some(own) => format!("mount -c --bind {} {ROOT}{path}", own.display()),
                None => format!("mount -t tmpfs none {ROOT}{path}"),
            });
        }
        let capabilities: Vec<String> = items(&self.container["securityContext"]["capabilities"]["add"])
            .iter()
            .map(|name| format!(",+{}", text(name).to_lowercase()))
            .collect();
        // The right to change the root goes along, since setpriv is not in there. Files of namespaces are open files of the lab's here,
        // which another process may reach with that right alone.
        let reaches = self.mounts().any(|(volume, _)| volume["hostPath"]["path"] == NAMESPACES);
        let ptrace = if reaches { ",+sys_ptrace" } else { "" };
        let kept = format!("-all,+sys_chroot{ptrace}{}", capabilities.concat());
        lines.extend([
            format!("mount -o remount,ro {ROOT}"),
            // What kubelet gives to what is critical for the node, if the lab may.
            "echo -997 2> /dev/null > /proc/self/oom_score_adj || :".to_owned(),
            format!("exec setpriv --inh-caps -all --bounding-set {kept} chroot {ROOT} \"$0\" \"$@\""),
        ]);
        Ok(lines.join("\n"))
    }

    /// Where a folder of the kernel's, or of the runtime's, is on this node: it has a cgroup and programs of its own.
    fn of_node(&self, host: &str) -> Option<PathBuf> {
        match host {
            "/sys/fs/cgroup" => Some(self.node.namespace().cgroup()?.path().to_owned()),
            "/sys/fs/bpf" => self.node.bpf(),
            NAMESPACES => Some(self.node.pods_namespaces()),
            _ => host.starts_with("/proc/").then(|| host.into()),
        }
    }

    /// The arguments with the variables that they name.
    fn arguments(&self) -> Result<Vec<String>, Error> {
        let mut values = Vec::new();
        for variable in items(&self.container["env"]) {
            let from = &variable["valueFrom"];
            let value = match from["configMapKeyRef"]["name"].as_str() {
                None => self.node.name().to_owned(),
                Some(map) => {
                    let map = find(self.api, "configmaps", map)?;
                    text(&map["data"][text(&from["configMapKeyRef"]["key"])]).to_owned()
                }
            };
            values.push((format!("$({})", text(&variable["name"])), value));
        }
        let filled = |argument: &Value| {
            values.iter().fold(text(argument).to_owned(), |it, (name, value)| it.replace(name, value))
        };
        Ok(items(&self.container["args"]).iter().map(filled).collect())
    }
}

fn find(api: &ApiServer, plural: &'static str, name: &str) -> Result<Arc<Value>, Error> {
    api.get(plural, NAMESPACE, name).ok_or_else(|| Error::Absent { plural, name: name.to_owned() })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
