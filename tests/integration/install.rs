//! What the manifests of `conf/` install, at work on two nodes: pods and Services are reached, what they may ask of the API server is
//! what they ask for, and it can be taken away again.
//!
//! The pods of the DaemonSets run as kubelet would start them, by an API server that gives their ServiceAccounts the rights of
//! their ClusterRoles and nothing else. A server without streaming lists is the more demanding one: it is asked for lists too.

use heddle_netlink::conntrack::{self, Destination, Filter};
use heddle_netlink::{Family, Socket};
use heddle_tests::cluster::Cluster;
use heddle_tests::kubelet::{NAMESPACE, Pod};
use heddle_tests::lab::{Node, Underlay};
use heddle_tests::manifests::{kube_proxy, render, render_with};
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::traffic::{Outcome, Server, Transport, attempt_here};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

type Outcomes = Result<(), Box<dyn Error>>;

const PROGRAMS: [&str; 2] = ["heddle-node", "heddle-proxy"];
const TARGET: u16 = 8080;
const AT_SOCKETS: &str = "Services are served at sockets, and by packets where no socket is seen";
/// How long one attempt waits.
const BRIEFLY: Duration = Duration::from_millis(100);

/// A cluster that a variant of the manifests is applied to.
struct Stage {
    cluster: Cluster,
    pods: Vec<Pod>,
}

impl Stage {
    fn install(variant: &str) -> Result<Self, Box<dyn Error>> {
        Self::install_on(Underlay::flat(&["node-1", "node-2"]), render(variant)?)
    }

    fn install_on(underlay: Underlay, objects: Vec<Value>) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::new(underlay, &[])?;
        cluster.api.disable_streaming_lists();
        let mut stage = Self { cluster, pods: Vec::new() };
        stage.apply(kube_proxy(&stage.cluster.api.url()))?;
        for mut object in objects {
            // The address of the control plane is what there is to fill in.
            if let Some(address) = object.pointer_mut("/data/control-plane") {
                *address = json!(stage.cluster.api.url());
            }
            stage.apply(object)?;
        }
        for name in stage.cluster.names() {
            for program in PROGRAMS {
                stage.pods.push(Pod::start(stage.cluster.node(&name)?, &stage.cluster.api, program)?);
            }
        }
        stage.pods.iter().try_for_each(Pod::ready)?;
        Ok(stage)
    }

    fn apply(&self, object: Value) -> Outcomes {
        self.cluster.api.apply(object).map(drop).map_err(|refusal| format!("{refusal:?}").into())
    }

    fn log(&self) -> String {
        self.pods.iter().map(Pod::log).collect()
    }

    /// A Service of a pod on the one node is reached by a pod of the other.
    fn serves(&self) -> Outcomes {
        let (one, two) =
            (self.cluster.node("node-1")?.pod("client")?, self.cluster.node("node-2")?.pod("web")?);
        let _server = Server::start(two.namespace(), "web", Transport::Tcp, TARGET)?;
        let endpoints: Vec<IpAddr> = two.addresses().iter().copied().filter(IpAddr::is_ipv4).collect();
        let to: SocketAddr = "10.96.0.10:80".parse()?;
        self.apply(service("web", &[to.ip()], to.port(), TARGET))?;
        self.apply(slice("web", "node-2", &endpoints, TARGET))?;
        let wanted = Outcome::Answer { endpoint: "web".into(), source: one.addresses()[0] };
        eventually("an answer of the Service", PATIENCE, || {
            let outcome = one.namespace().enter(|| attempt_here(Transport::Tcp, to, BRIEFLY));
            let outcome = outcome.map_err(|error| error.to_string())?;
            if outcome == wanted { Ok(()) } else { Err(format!("{outcome}\n{}", self.log())) }
        })?;
        Ok(())
    }

    /// The plugin is in place on the first node, with the node's ranges and a sign of life.
    fn supplies(&self) -> Outcomes {
        let pod = &self.pods[0];
        let list = pod.path("/etc/cni/net.d/10-heddle.conflist");
        let list = eventually("the plugin's configuration", PATIENCE, || {
            fs::read_to_string(&list).map_err(|error| format!("{error}\n{}", pod.log()))
        })?;
        for range in self.cluster.node("node-1")?.pod_ranges() {
            assert!(list.contains(&range.to_string()), "{range} in {list}");
        }
        for file in ["/opt/cni/bin/heddle-cni", "/opt/cni/bin/loopback", "/run/heddle/node-alive"] {
            eventually(file, PATIENCE, || fs::metadata(pod.path(file)).map(drop).map_err(|e| e.to_string()))?;
        }
        Ok(())
    }

    /// A Service that cannot be used as it is, comes right and goes wrong again before anybody could say so.
    fn flaps(&self, name: &str) -> Result<(), String> {
        for ip in ["not an address", "198.51.100.1", "not an address"] {
            let mut object = service(name, &[], 80, TARGET);
            object["spec"]["type"] = json!("LoadBalancer");
            object["status"]["loadBalancer"]["ingress"] = json!([{"ip": ip}]);
            self.apply(object).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The same of a Node, by an address that is none.
    fn node_flaps(&self, name: &str, times: u32) -> Result<(), String> {
        // What is over before its turn is not said.
        let good = self.cluster.node(name).map_err(|error| error.to_string())?.object();
        let mut bad = good.clone();
        bad["status"]["addresses"][0]["address"] = json!(format!("not an address {times}"));
        let steps = [bad.clone(), good, bad];
        steps.into_iter().try_for_each(|object| self.apply(object)).map_err(|error| error.to_string())
    }

    /// Waits until a program has asked for all that it may, and for nothing else.
    fn uses_its_rights(&self, program: &str, mut live: impl FnMut() -> Result<(), String>) -> Outcomes {
        let api = &self.cluster.api;
        let rights = api.rights_of(NAMESPACE, program);
        assert!(!rights.is_empty(), "{program} has no rights");
        eventually(&format!("all rights of {program}"), PATIENCE, || {
            live()?;
            let unused: BTreeSet<_> = &rights - &api.asked_by(NAMESPACE, program);
            if unused.is_empty() { Ok(()) } else { Err(format!("{unused:?}\n{}", self.log())) }
        })?;
        assert_eq!(api.asked_by(NAMESPACE, program), rights, "nothing else is asked for");
        Ok(())
    }
}

/// Whatever a variant changes, pods and Services are reached, the plugin is where runtimes look for it, and the rights are used, no
/// more and no less.
fn works(variant: &str) -> Outcomes {
    let stage = Stage::install(variant)?;
    stage.serves()?;
    stage.supplies()?;
    let mut times = 0;
    stage.uses_its_rights("heddle-proxy", || {
        times += 1;
        stage.flaps(&format!("flapping-{times}"))
    })?;
    stage.uses_its_rights("heddle-node", || {
        times += 1;
        stage.node_flaps("node-1", times)
    })
}

#[test]
fn conf_any_works_with_exactly_its_rights() -> Outcomes {
    works("any")
}

#[test]
fn conf_k3s_works_with_exactly_its_rights() -> Outcomes {
    works("k3s")
}

#[test]
fn conf_kind_works_with_exactly_its_rights() -> Outcomes {
    works("kind")
}

#[test]
fn conf_kubeadm_works_with_exactly_its_rights() -> Outcomes {
    works("kubeadm")
}

#[test]
fn conf_minikube_works_with_exactly_its_rights() -> Outcomes {
    works("minikube")
}

/// A variant with sockets served, each node with a cgroup and a BPF file system of its own, and without these rights.
fn with_sockets(variant: &str, without: &[&str]) -> Result<Stage, Box<dyn Error>> {
    const RIGHTS: &str = "/spec/template/spec/containers/0/securityContext/capabilities/add";
    let mut objects = render_with(variant, &["ebpf"])?;
    let rights = objects.iter_mut().filter_map(|object| object.pointer_mut(RIGHTS)?.as_array_mut());
    rights.for_each(|rights| rights.retain(|right| !without.iter().any(|taken| right == taken)));
    Stage::install_on(Underlay::flat(&["node-1", "node-2"]).with_sockets(), objects)
}

impl Stage {
    /// Waits until the proxies of both nodes have said this.
    fn says(&self, what: &str) -> Outcomes {
        eventually(what, PATIENCE, || {
            let said = |of_node: &[Pod]| of_node.iter().any(|pod| pod.log().contains(what));
            if self.pods.chunks(PROGRAMS.len()).all(said) { Ok(()) } else { Err(self.log()) }
        })?;
        Ok(())
    }

    /// A connected UDP socket of a pod is closed when its endpoint goes.
    fn closes_stale_sockets(&self) -> Outcomes {
        let node = self.cluster.node("node-1")?;
        let (client, dns) = (node.pod("resolver")?, node.pod("dns")?);
        let endpoints: Vec<IpAddr> = dns.addresses().iter().copied().filter(IpAddr::is_ipv4).collect();
        let to: SocketAddr = "10.96.0.53:53".parse()?;
        let (mut object, mut slice) =
            (service("dns", &[to.ip()], to.port(), TARGET), slice("dns", "node-1", &endpoints, TARGET));
        object["spec"]["ports"][0]["protocol"] = json!("UDP");
        slice["ports"][0]["protocol"] = json!("UDP");
        self.apply(object)?;
        self.apply(slice.clone())?;
        let server = Server::start(dns.namespace(), "dns", Transport::Udp, TARGET)?;
        let wanted = Outcome::Answer { endpoint: "dns".into(), source: client.addresses()[0] };
        eventually("an answer", PATIENCE, || {
            let outcome = client.namespace().enter(|| attempt_here(Transport::Udp, to, BRIEFLY));
            let outcome = outcome.map_err(|error| error.to_string())?;
            if outcome == wanted { Ok(()) } else { Err(format!("{outcome}\n{}", self.log())) }
        })?;
        let connect = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(BRIEFLY))?;
            Ok(socket)
        };
        let socket = client.namespace().enter(connect)??;
        drop(server);
        slice["endpoints"][0]["addresses"] = json!(["10.244.1.250"]);
        self.apply(slice)?;
        eventually("a closed socket", PATIENCE, || match socket.recv(&mut [0; 8]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            other => Err(format!("{other:?}\n{}", self.log())),
        })?;
        Ok(())
    }

    /// A pod with the label has its connections translated on the node, as others have not.
    fn leaves_a_pod_out(&self) -> Outcomes {
        let node = self.cluster.node("node-1")?;
        let (mesh, web) = (node.pod("mesh")?, node.pod("mesh-web")?);
        let to: SocketAddr = "10.96.0.54:80".parse()?;
        let of_family = |pod: &heddle_tests::lab::Pod| pod.addresses().iter().copied().find(IpAddr::is_ipv4);
        let endpoints: Vec<IpAddr> = of_family(&web).into_iter().collect();
        self.apply(service("mesh-web", &[to.ip()], to.port(), TARGET))?;
        self.apply(slice("mesh-web", "node-1", &endpoints, TARGET))?;
        self.apply(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "mesh", "namespace": "default", "labels": { "heddle.dev/sockets": "off" } },
            "spec": { "nodeName": "node-1", "containers": [{ "name": "main", "image": "main" }] },
            "status": { "phase": "Running", "podIPs": [{ "ip": of_family(&mesh) }] },
        }))?;
        let _server = Server::start(web.namespace(), "mesh-web", Transport::Tcp, TARGET)?;
        let tracked = || -> Result<usize, Box<dyn Error>> {
            mesh.namespace().enter(|| attempt_here(Transport::Tcp, to, BRIEFLY))?;
            let filter =
                Filter { destination: Destination::Address(to.ip()), protocol: 6, port: Some(to.port()) };
            let list = || conntrack::list(&mut Socket::open(Family::Netfilter)?, &filter, |_| true);
            Ok(node.namespace().enter(list)??.len())
        };
        eventually("a connection that packets made", PATIENCE, || match tracked() {
            Ok(1..) => Ok(()),
            other => Err(format!("{other:?}\n{}", self.log())),
        })?;
        Ok(())
    }
}

#[test]
fn the_component_ebpf_serves_sockets_in_conf_kind_and_is_taken_away_again() -> Outcomes {
    let stage = with_sockets("kind", &[])?;
    stage.says(AT_SOCKETS)?;
    stage.serves()?;
    stage.closes_stale_sockets()?;
    stage.leaves_a_pod_out()?;
    let mut times = 0;
    stage.uses_its_rights("heddle-proxy", || {
        times += 1;
        stage.flaps(&format!("flapping-{times}"))
    })?;
    for name in stage.cluster.names() {
        assert!(ours(stage.cluster.node(&name)?)?.contains("connect4"), "programs are on {name}");
    }
    is_taken_away(stage)
}

/// With kube-proxy's file, which has another mode.
#[test]
fn the_component_ebpf_serves_sockets_in_conf_kubeadm() -> Outcomes {
    let stage = with_sockets("kubeadm", &[])?;
    stage.says(AT_SOCKETS)?;
    stage.serves()
}

#[test]
fn the_component_ebpf_needs_bpf_and_perfmon_and_without_one_packets_are_served() -> Outcomes {
    let stage = with_sockets("kind", &["SYS_ADMIN"])?;
    stage.says(AT_SOCKETS)?;
    for right in ["BPF", "PERFMON"] {
        let stage = with_sockets("kind", &["SYS_ADMIN", right])?;
        stage.says("Services are served by packets alone (nftables): ")?;
        stage.serves()?;
    }
    Ok(())
}

/// What nft and iproute2 show of ours on a node, and the names of programs.
fn ours(node: &Node) -> Result<String, Box<dyn Error>> {
    let tables = node.nft(["list", "tables"])?.stdout;
    let tables: String = tables.lines().filter(|line| line.contains("heddle-")).collect();
    let routes = |family| {
        let ip = Invocation::foreign("ip").args([family, "route", "show", "proto", "110"]);
        ip.run(node.namespace()).map(|output| output.stdout)
    };
    let programs = node.bpf().and_then(|bpf| fs::read_dir(bpf.join("heddle-proxy")).ok());
    let programs = programs.into_iter().flatten().flatten().map(|entry| entry.file_name());
    let programs: String = programs.map(|name| name.to_string_lossy().into_owned() + "\n").collect();
    Ok(tables + &routes("-4")? + &routes("-6")? + &programs)
}

#[test]
fn what_is_deleted_stays_until_conf_uninstall_takes_it_away() -> Outcomes {
    let stage = Stage::install("kind")?;
    stage.serves()?;
    is_taken_away(stage)
}

fn is_taken_away(mut stage: Stage) -> Outcomes {
    stage.pods.clear();
    for object in render("uninstall")? {
        stage.apply(object)?;
    }
    for name in stage.cluster.names() {
        let node = stage.cluster.node(&name)?;
        assert_ne!(ours(node)?, "");
        let mut pod = Pod::start(node, &stage.cluster.api, "heddle-uninstall")?;
        pod.process().prints("removed what heddle-node made")?;
        assert_eq!(ours(node)?, "", "{name}");
        pod.process().signal(Signal::TERM)?;
        assert!(pod.process().wait(PATIENCE)?.success(), "{}", pod.log());
    }
    Ok(())
}
