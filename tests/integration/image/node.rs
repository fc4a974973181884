//! A node on which nothing of ours runs but what image and manifests bring, as kubelet and containerd do it.

use crate::{Outcome, image};
use heddle_tests::cluster::Cluster;
use heddle_tests::containerd::{Containerd, Kubelet, Pod};
use heddle_tests::lab::Underlay;
use heddle_tests::manifests::render;
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::traffic::{self, Server, Transport};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};

const TARGET: u16 = 8080;

/// The manifests for any cluster, with the address of this one's control plane.
fn objects(cluster: &Cluster) -> Outcome<Vec<Value>> {
    let mut objects = render("any")?;
    for object in &mut objects {
        if let Some(address) = object.pointer_mut("/data/control-plane") {
            *address = json!(cluster.api.url());
        }
        cluster.api.apply(object.clone()).map_err(|refusal| format!("{refusal:?}"))?;
    }
    Ok(objects)
}

/// A pod that the runtime makes, and its addresses.
fn run(containerd: &Containerd, name: &str) -> Outcome<(Namespace, Vec<IpAddr>)> {
    let mut cri = containerd.cri()?;
    let pod = Pod::new(name);
    let id = cri.run(&pod)?;
    cri.start_container(&id, &pod)?;
    let status = cri.status(&id)?;
    Ok((Namespace::existing(name, &containerd.path(&status.namespace))?, status.addresses))
}

/// What the kernel says of the process that runs a program.
fn status(containerd: &Containerd, program: &str) -> Outcome<BTreeMap<String, String>> {
    let read = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("status")).unwrap_or_default();
    let all = fs::read_dir(containerd.path("/proc"))?.filter_map(Result::ok).map(read);
    let name = format!("Name:\t{program}");
    let status = all.into_iter().find(|status| status.lines().next() == Some(&name));
    let status = status.ok_or_else(|| format!("{program} does not run"))?;
    let fields = status.lines().filter_map(|line| line.split_once(":\t"));
    Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Waits until a client reaches the server at an address under its own.
fn reaches(from: &Namespace, own: IpAddr, to: SocketAddr) -> Outcome {
    eventually(&format!("{to} from {own}"), PATIENCE, || {
        match traffic::tcp(from, to).map_err(|e| e.to_string())? {
            traffic::Outcome::Answer { source, .. } if source == own => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(())
}

/// A Service of both families with one pod behind it, and its addresses.
fn serve(cluster: &Cluster, pod: &[IpAddr]) -> Outcome<[IpAddr; 2]> {
    let addresses = ["10.96.0.10".parse()?, "fd00:96::10".parse()?];
    let mut web = service("web", &addresses, 80, TARGET);
    web["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
    let slices = pod.iter().map(|address| slice("web", "node-2", &[*address], TARGET));
    for object in [web].into_iter().chain(slices) {
        cluster.api.apply(object).map_err(|refusal| format!("{refusal:?}"))?;
    }
    Ok(addresses)
}

/// The DaemonSets run as the manifests say, with the rights of their ClusterRoles at the API server and one capability at the kernel;
/// the plugin that makes pods is the one that heddle-node has brought from the image.
#[test]
fn a_node_of_a_cluster_runs_from_the_image_alone() -> Outcome {
    let mut cluster = Cluster::new(Underlay::flat(&["node-1", "node-2"]), &[])?;
    cluster.boot("node-2")?;
    let web = cluster.node("node-2")?.pod("web")?;
    let _server = Server::start(web.namespace(), "web", Transport::Tcp, TARGET)?;
    let services = serve(&cluster, web.addresses())?;

    let containerd = Containerd::without_network(cluster.node("node-1")?.namespace())?;
    containerd.load(&image()?.archive())?;
    let objects = objects(&cluster)?;
    let kubelet = Kubelet { node: "node-1", runtime: &containerd, objects: &objects, api: &cluster.api };
    ["heddle-node", "heddle-proxy"].iter().try_for_each(|set| kubelet.run(set))?;
    let logs = || ["heddle-node", "heddle-proxy"].map(|set| kubelet.log(set)).concat();
    containerd.has_a_network().map_err(|error| format!("{error}\n{}", logs()))?;

    let (client, own) = run(&containerd, "client")?;
    assert_eq!(own.len(), 2, "{own:?}");
    let reached =
        own.iter().zip(web.addresses().iter().zip(services)).try_for_each(|(own, (pod, service))| {
            reaches(&client, *own, SocketAddr::new(*pod, TARGET))?;
            reaches(&client, *own, SocketAddr::new(service, 80))
        });
    reached.map_err(|error| format!("{error}\n{}", logs()))?;
    for program in ["heddle-node", "heddle-proxy"] {
        let status = status(&containerd, program)?;
        // CAP_NET_ADMIN is the twelfth; 2 is a filter of system calls.
        assert_eq!((&*status["CapEff"], &*status["CapBnd"]), ("0000000000001000", "0000000000001000"));
        assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"]), ("1", "2"), "{program}");
    }
    Ok(())
}
