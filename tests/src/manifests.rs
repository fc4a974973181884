//! The manifests of `conf/`, rendered by kubectl as `kubectl apply -k` renders them.
//!
//! Not a cluster: nobody starts what they say. kubectl of Debian 12 (1.20) has a kustomize that takes folders as `bases` and patches by
//! their sort; for it the same is said in its words, in a copy.

use crate::namespace::{self, Namespace};
use crate::process::{self, Invocation};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The folders that are for applying, one for each sort of cluster.
pub const VARIANTS: [&str; 5] = ["any", "k3s", "kind", "kubeadm", "minikube"];

/// What kubeadm 1.36 writes for kube-proxy, but for the values.
pub const KUBEADM: &str = "
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}
detectLocalMode: ''
enableProfiling: false
healthzBindAddress: ''
hostnameOverride: ''
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}
kind: KubeProxyConfiguration
logging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}, text: {infoBufferSize: '0'}}, verbosity: 0}
metricsBindAddress: ''
mode: ''
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ''
showHiddenMetricsForVersion: ''
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: '', rootHnsEndpointName: '', sourceVip: ''}
";

/// The kustomize of kubectl up to this minor version is 2.0.3.
const OLD_KUBECTL: u32 = 20;

/// Why there are no objects.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// kubectl could not be started.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// There is no namespace to start it in.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// It refused.
    #[error("kubectl kustomize {folder}: {said}")]
    Refused {
        /// What it was to render.
        folder: String,
        /// What it said.
        said: String,
    },
    /// A file cannot be read or copied.
    #[error("copy the manifests")]
    Copy(#[source] io::Error),
    /// A document is no YAML, or kubectl gave no version.
    #[error("read {what}: {why}")]
    Read {
        /// What.
        what: String,
        /// Why not.
        why: String,
    },
}

/// Where the repository has them.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf")
}

/// The ConfigMap that kubeadm makes for kube-proxy, in a cluster whose control plane is at this URL.
pub fn kube_proxy(url: &str) -> Value {
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default",
        "clusters": [{"name": "default", "cluster": {"certificate-authority": format!("{account}/ca.crt"), "server": url}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "namespace": "default", "user": "default"}}],
        "users": [{"name": "default", "user": {"tokenFile": format!("{account}/token")}}],
    });
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
        "data": {"config.conf": KUBEADM, "kubeconfig.conf": kubeconfig.to_string()},
    })
}

/// The objects of a variant, in kubectl's order.
///
/// # Errors
/// As kubectl says.
pub fn render(variant: &str) -> Result<Vec<Value>, Error> {
    render_with(variant, &[])
}

/// The same with these components.
///
/// # Errors
/// As kubectl says.
pub fn render_with(variant: &str, components: &[&str]) -> Result<Vec<Value>, Error> {
    // Rendering needs no network, so it gets none.
    let desk = Namespace::new("kubectl")?;
    let copy = tempfile::tempdir().map_err(Error::Copy)?;
    let root = copy.path();
    copy_all(&folder(), root)?;
    let is_old = is_old(&desk)?;
    components.iter().try_for_each(|component| compose(root, (variant, component), is_old))?;
    if is_old {
        translate(root)?;
    }
    let kubectl = Invocation::foreign("kubectl").args(["kustomize".as_ref(), root.join(variant).as_os_str()]);
    let output = kubectl.run(&desk)?;
    if !output.status.success() {
        return Err(Error::Refused { folder: variant.to_owned(), said: output.stderr });
    }
    output.stdout.split("\n---\n").map(|document| read(variant, document)).collect()
}

fn read(what: &str, document: &str) -> Result<Value, Error> {
    let failed = |why: serde_saphyr::Error| Error::Read { what: what.to_owned(), why: why.to_string() };
    serde_saphyr::from_str(document).map_err(failed)
}

fn is_old(desk: &Namespace) -> Result<bool, Error> {
    let kubectl = Invocation::foreign("kubectl").args(["version", "--client", "-o", "json"]).run(desk)?;
    let failed = |why: String| Error::Read { what: "kubectl's version".to_owned(), why };
    let said: Value = serde_json::from_str(&kubectl.stdout).map_err(|e| failed(e.to_string()))?;
    let minor = said["clientVersion"]["minor"].as_str().unwrap_or_default().trim_end_matches('+');
    Ok(minor.parse::<u32>().map_err(|e| failed(e.to_string()))? <= OLD_KUBECTL)
}

fn copy_all(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from).map_err(Error::Copy)? {
        let entry = entry.map_err(Error::Copy)?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            fs::create_dir(&copy).map_err(Error::Copy)?;
            copy_all(&path, &copy)?;
        } else {
            fs::copy(&path, &copy).map_err(Error::Copy)?;
        }
    }
    Ok(())
}

/// Changes what a folder's kustomization says.
fn edit(folder: &Path, change: impl FnOnce(&mut Value) -> Result<(), Error>) -> Result<(), Error> {
    let path = folder.join("kustomization.yaml");
    let mut kustomization = read("kustomization.yaml", &fs::read_to_string(&path).map_err(Error::Copy)?)?;
    change(&mut kustomization)?;
    fs::write(&path, kustomization.to_string()).map_err(Error::Copy)
}

/// Names a component in a variant. The old kustomize knows none: for it, the patches are the variant's own.
fn compose(root: &Path, (variant, component): (&str, &str), is_old: bool) -> Result<(), Error> {
    let part = root.join(component).join("kustomization.yaml");
    let part = read(component, &fs::read_to_string(part).map_err(Error::Copy)?)?;
    edit(&root.join(variant), |kustomization| {
        if !is_old {
            kustomization["components"] = json!([format!("../{component}")]);
            return Ok(());
        }
        let mut patches = kustomization["patches"].take().as_array().cloned().unwrap_or_default();
        for mut patch in part["patches"].as_array().cloned().unwrap_or_default() {
            let file = patch["path"].as_str().unwrap_or_default().to_owned();
            let own = format!("{component}-{file}");
            fs::copy(root.join(component).join(&file), root.join(variant).join(&own)).map_err(Error::Copy)?;
            patch["path"] = json!(own);
            patches.push(patch);
        }
        kustomization["patches"] = json!(patches);
        Ok(())
    })
}

/// Says in all folders in the old kustomize's words what it calls otherwise.
fn translate(root: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(root).map_err(Error::Copy)? {
        let folder = entry.map_err(Error::Copy)?.path();
        if folder.join("kustomization.yaml").is_file() {
            edit(&folder, |kustomization| {
                in_old_words(kustomization);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Of the patches, those of a ConfigMap here are merged, and those of a DaemonSet are lists of operations.
fn in_old_words(kustomization: &mut Value) {
    let resources = kustomization["resources"].as_array().cloned().unwrap_or_default();
    let is_folder = |entry: &Value| entry.as_str().is_some_and(|name| name.starts_with("../"));
    let (bases, files): (Vec<_>, Vec<_>) = resources.into_iter().partition(is_folder);
    kustomization["resources"] = json!(files);
    kustomization["bases"] = json!(bases);
    let patches = kustomization["patches"].take().as_array().cloned().unwrap_or_default();
    let (merged, listed): (Vec<_>, Vec<_>) =
        patches.into_iter().partition(|patch| patch["target"]["kind"] == "ConfigMap");
    let paths: Vec<_> = merged.iter().map(|patch| patch["path"].clone()).collect();
    kustomization["patchesStrategicMerge"] = json!(paths);
    kustomization["patchesJson6902"] = json!(listed);
    kustomization.as_object_mut().expect("it was indexed").remove("patches");
}
