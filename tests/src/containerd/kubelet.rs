//! What kubelet asks the runtime for when a DaemonSet has a pod on the node: the mounts, the environment and the rights that the manifest
//! says. Without a runtime and an image, [`kubelet`](crate::kubelet) does as much with the programs as they are built.
//!
//! It is not kubelet: there are no probes and no second start, and a volume or variable of a sort that it does not know is an error.
//! Invariant: of the machine's own folders containers see `/proc` and `/sys` alone; every other one is the runtime's own.

use super::{Container, Containerd, Cri, Failure, HOME, Mount, Pod, Rights};
use crate::apiserver::ApiServer;
use crate::patience::{PATIENCE, eventually};
use serde_json::Value;
use std::fs;

/// Where a pod finds who it is.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Kubelet of one node.
#[derive(Clone, Copy)]
pub struct Kubelet<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its container runtime.
    pub runtime: &'a Containerd,
    /// What is in the cluster: the DaemonSets, and the ConfigMaps that they name.
    pub objects: &'a [Value],
    /// Who gives the tokens of ServiceAccounts.
    pub api: &'a ApiServer,
}

impl Kubelet<'_> {
    /// Runs the pod of a DaemonSet: its first containers one after the other to their end, then the others. They run until the runtime
    /// ends.
    ///
    /// # Errors
    /// When something in the manifest is not known, or as the runtime says.
    pub fn run(&self, set: &str) -> Result<(), Failure> {
        let set = self.find("DaemonSet", set)?;
        let name = text(set, "/metadata/name");
        let spec = set.pointer("/spec/template/spec").ok_or("a DaemonSet without pods")?;
        let pod = if spec["hostNetwork"] == true { Pod::on_the_node(name) } else { Pod::new(name) };
        let mut cri = self.runtime.cri()?;
        let id = cri.run(&pod)?;
        for container in list(spec, "/initContainers") {
            let started = cri.start(&id, &pod, &self.container(set, container)?)?;
            self.succeeds(&mut cri, &started, name)?;
        }
        for container in list(spec, "/containers") {
            cri.start(&id, &pod, &self.container(set, container)?)?;
        }
        Ok(())
    }

    /// What the containers of a pod have printed.
    pub fn log(&self, pod: &str) -> String {
        let folder = fs::read_dir(self.runtime.path(&format!("{HOME}/logs/{pod}")));
        let files = folder.into_iter().flatten().filter_map(Result::ok);
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
    }

    fn succeeds(&self, cri: &mut Cri, container: &str, pod: &str) -> Result<(), Failure> {
        let code = eventually("the end of a first container", PATIENCE, || {
            cri.exit_code(container).map_err(|e| e.to_string())?.ok_or_else(|| "it runs".to_owned())
        })?;
        if code == 0 { Ok(()) } else { Err(format!("{pod}: exit code {code}: {}", self.log(pod)).into()) }
    }

    fn container(&self, set: &Value, container: &Value) -> Result<Container, Failure> {
        let environment = self.environment(container)?;
        let filled = |word: &Value| {
            let word = word.as_str().unwrap_or_default().to_owned();
            environment.iter().fold(word, |word, (name, value)| word.replace(&format!("$({name})"), value))
        };
        Ok(Container {
            name: text(container, "/name").to_owned(),
            image: text(container, "/image").to_owned(),
            command: list(container, "/command").iter().map(filled).collect(),
            arguments: list(container, "/args").iter().map(filled).collect(),
            mounts: self.mounts(set, container)?,
            rights: rights(set, container),
            environment,
        })
    }

    fn environment(&self, container: &Value) -> Result<Vec<(String, String)>, Failure> {
        let mut environment = vec![
            ("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()),
        ];
        for variable in list(container, "/env") {
            let value = match (variable.get("value"), variable.get("valueFrom")) {
                (Some(value), _) => value.as_str().unwrap_or_default(),
                (None, Some(from)) => self.value(from)?,
                (None, None) => "",
            };
            environment.push((text(variable, "/name").to_owned(), value.to_owned()));
        }
        Ok(environment)
    }

    fn value(&self, from: &Value) -> Result<&str, Failure> {
        match (text(from, "/fieldRef/fieldPath"), text(from, "/configMapKeyRef/name")) {
            ("spec.nodeName", _) => Ok(self.node),
            ("", map) if !map.is_empty() => Ok(text(
                &self.find("ConfigMap", map)?["data"],
                &format!("/{}", text(from, "/configMapKeyRef/key")),
            )),
            _ => Err(format!("a variable that is not known: {from}").into()),
        }
    }

    fn mounts(&self, set: &Value, container: &Value) -> Result<Vec<Mount>, Failure> {
        let mut mounts = vec![self.account(set)?];
        for mount in list(container, "/volumeMounts") {
            let volumes = list(set, "/spec/template/spec/volumes");
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            mounts.push(Mount {
                host: self.volume(set, volume.ok_or_else(|| format!("no volume for {mount}"))?)?,
                inside: text(mount, "/mountPath").to_owned(),
                read_only: mount["readOnly"] == true,
                follows_host: mount["mountPropagation"] == "HostToContainer",
            });
        }
        Ok(mounts)
    }

    /// Where a volume is on the node; what kubelet makes of it is made.
    fn volume(&self, set: &Value, volume: &Value) -> Result<String, Failure> {
        let own = format!("{HOME}/volumes/{}/{}", text(set, "/metadata/name"), text(volume, "/name"));
        if let Some(folder) = volume.pointer("/hostPath/path").and_then(Value::as_str) {
            let folder = on_the_node(folder);
            if volume.pointer("/hostPath/type").is_some_and(|kind| kind == "DirectoryOrCreate") {
                fs::create_dir_all(self.runtime.path(&folder))?;
            }
            Ok(folder)
        } else if volume.get("emptyDir").is_some() {
            fs::create_dir_all(self.runtime.path(&own))?;
            Ok(own)
        } else if let Some(map) = volume.pointer("/configMap/name").and_then(Value::as_str) {
            let data = self.find("ConfigMap", map)?["data"].as_object().ok_or("a ConfigMap without data")?;
            let files = data.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
            self.write(&own, files)?;
            Ok(own)
        } else {
            Err(format!("a volume that is not known: {volume}").into())
        }
    }

    /// Who the pod is, and whom it may trust.
    fn account(&self, set: &Value) -> Result<Mount, Failure> {
        let namespace = text(set, "/metadata/namespace");
        let name = text(set, "/spec/template/spec/serviceAccountName");
        let (token, authority) = (self.api.token_of(namespace, name), self.api.authority());
        let host = format!("{HOME}/volumes/{}/account", text(set, "/metadata/name"));
        self.write(&host, [("token", &*token), ("ca.crt", &authority), ("namespace", namespace)])?;
        Ok(Mount { host, inside: ACCOUNT.to_owned(), read_only: true, follows_host: false })
    }

    fn write<'a>(
        &self,
        folder: &str,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), Failure> {
        let folder = self.runtime.path(folder);
        fs::create_dir_all(&folder)?;
        files.into_iter().try_for_each(|(name, content)| fs::write(folder.join(name), content))?;
        Ok(())
    }

    fn find(&self, kind: &str, name: &str) -> Result<&Value, Failure> {
        let is_it = |object: &&Value| object["kind"] == kind && text(object, "/metadata/name") == name;
        self.objects.iter().find(is_it).ok_or_else(|| format!("no {kind} {name}").into())
    }
}

/// Where a folder of the node is for its runtime, whose mounts hide some of the machine's.
fn on_the_node(folder: &str) -> String {
    match folder {
        "/opt/cni/bin" => format!("{HOME}/bin"),
        "/etc/cni/net.d" => format!("{HOME}/net.d"),
        it if ["/proc", "/sys", "/run", "/var/lib"].iter().any(|root| it.starts_with(root)) => it.to_owned(),
        it => format!("{HOME}/host{it}"),
    }
}

/// `securityContext` of the container, and of its pod.
fn rights(set: &Value, container: &Value) -> Rights {
    let names =
        |pointer| list(container, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let security = &container["securityContext"];
    let filters = [
        security.pointer("/seccompProfile/type"),
        set.pointer("/spec/template/spec/securityContext/seccompProfile/type"),
    ];
    Rights {
        add: names("/securityContext/capabilities/add"),
        drop: names("/securityContext/capabilities/drop"),
        read_only_root: security["readOnlyRootFilesystem"] == true,
        no_new_privileges: security["allowPrivilegeEscalation"] == false,
        unconfined: filters.into_iter().flatten().next().is_none_or(|kind| kind == "Unconfined"),
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
