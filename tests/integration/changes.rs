//! What changes around a running `heddle-proxy`: types and owners of frontends, ranges, the node's label and addresses.
//!
//! Each test waits for what must follow, and asks by real connections. That other connections go on meanwhile is the
//! affair of `proxy.rs`.

use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Outcome, Server, Transport, attempt, attempt_here};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

type Outcomes = Result<(), Box<dyn Error>>;

const TARGET: u16 = 8080;
/// How long silence is listened to before it is asked again.
const SILENCE: Duration = Duration::from_millis(500);

/// A node with a client and two endpoints, and a host outside.
struct Stage {
    _proxy: Proxy,
    manifests: Manifests,
    _servers: Vec<Server>,
    webs: Vec<Pod>,
    client: Pod,
    lab: Lab,
}

impl Stage {
    fn new(flags: &[&str], objects: &[(&str, Value)]) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let node = lab.node("node-1")?;
        let client = node.pod_at("client", &["10.244.1.10".parse()?])?;
        let webs =
            [("web-1", 11), ("web-2", 12)].map(|(name, n)| node.pod_at(name, &[[10, 244, 1, n].into()]));
        let webs = webs.into_iter().collect::<Result<Vec<_>, _>>()?;
        let server = |pod: &Pod| Server::start(pod.namespace(), pod.name(), Transport::Tcp, TARGET);
        let servers = webs.iter().map(server).collect::<Result<_, _>>()?;
        let manifests = Manifests::of(node)?;
        for (name, object) in objects {
            manifests.put(name, &object.to_string())?;
        }
        let proxy = Proxy::start_with(node, &[&["--manifests", &manifests.folder()], flags].concat())?;
        proxy.ready(node)?;
        Ok(Self { _proxy: proxy, manifests, _servers: servers, webs, client, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    fn put(&self, name: &str, object: &Value) -> Outcomes {
        Ok(self.manifests.put(name, &object.to_string())?)
    }

    /// As the function of this name.
    fn becomes(&self, from: &Namespace, to: &str, wanted: &str) -> Outcomes {
        becomes(from, to, wanted)
    }
}

/// Waits until a connection to there ends so: with a server's name, or as outcomes are called.
fn becomes(from: &Namespace, to: &str, wanted: &str) -> Outcomes {
    let address: SocketAddr = to.parse()?;
    eventually(&format!("{wanted} at {to}"), PATIENCE, || {
        let got = from.enter(|| attempt_here(Transport::Tcp, address, SILENCE));
        let got = called(&got.map_err(|error| error.to_string())?);
        if got == wanted { Ok(()) } else { Err(got) }
    })?;
    Ok(())
}

fn called(outcome: &Outcome) -> String {
    outcome.endpoint().map_or_else(|| outcome.to_string(), str::to_owned)
}

/// A Service with one endpoint, and what else its `spec` says.
fn web(name: &str, cluster_ip: &str, endpoint: &str, spec: &Value) -> Result<Value, Box<dyn Error>> {
    let mut object = service(name, &[cluster_ip.parse()?], 80, TARGET);
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    Ok(list(&[object, slice(name, "node-1", &[endpoint.parse()?], TARGET)]))
}

/// kp:A6: a Service that gets another type gains and loses frontends; one of type `ExternalName` has none, even with a
/// cluster IP.
#[test]
fn a_service_is_reached_as_its_type_says_after_each_change() -> Outcomes {
    let of_type = |kind: &str| web("web", "10.96.0.10", "10.244.1.11", &json!({ "type": kind }));
    let mut node_port = of_type("NodePort")?;
    node_port["items"][0]["spec"]["ports"][0]["nodePort"] = json!(30080);
    let stage = Stage::new(&[], &[("web.json", of_type("ExternalName")?)])?;
    let (pod, outside) = (stage.client.namespace(), stage.lab.outside());
    for _ in 0..2 {
        stage.put("web.json", &node_port)?;
        stage.becomes(outside, "192.168.0.11:30080", "web-1")?;
        stage.becomes(pod, "10.96.0.10:80", "web-1")?;
        stage.put("web.json", &of_type("ClusterIP")?)?;
        stage.becomes(outside, "192.168.0.11:30080", "refused")?;
        stage.becomes(pod, "10.96.0.10:80", "web-1")?;
        stage.put("web.json", &of_type("ExternalName")?)?;
        stage.becomes(pod, "10.96.0.10:80", "unreachable")?;
    }
    Ok(())
}

/// What one says, the other hears.
fn exchange(one: &mut TcpStream, other: &mut TcpStream) -> Outcomes {
    for (text, from_one) in [(b"one", true), (b"two", false)] {
        let (from, to) = if from_one { (&mut *one, &mut *other) } else { (&mut *other, &mut *one) };
        from.write_all(text)?;
        let mut heard = [0; 3];
        to.set_read_timeout(Some(PATIENCE))?;
        to.read_exact(&mut heard)?;
        assert_eq!(&heard, text);
    }
    Ok(())
}

/// kp:C20: a connection lives on when its endpoint is taken out, and when the Service is gone; new ones go elsewhere.
#[test]
fn an_established_connection_outlives_its_endpoint_and_its_service() -> Outcomes {
    let mut object = web("web", "10.96.0.10", "10.244.1.11", &json!({}))?;
    object["items"][1]["ports"][0]["port"] = json!(9000);
    let stage = Stage::new(&[], &[("web.json", object)])?;
    let pod = stage.client.namespace();
    let listener = stage.webs[0].namespace().enter(|| TcpListener::bind("0.0.0.0:9000"))??;
    let mut client = pod.enter(|| TcpStream::connect_timeout(&([10, 96, 0, 10], 80).into(), PATIENCE))??;
    let (mut served, _) = listener.accept()?;
    exchange(&mut client, &mut served)?;
    stage.put("web.json", &web("web", "10.96.0.10", "10.244.1.12", &json!({}))?)?;
    stage.becomes(pod, "10.96.0.10:80", "web-2")?;
    exchange(&mut client, &mut served)?;
    stage.manifests.remove("web.json")?;
    stage.becomes(pod, "10.96.0.10:80", "unreachable")?;
    exchange(&mut client, &mut served)
}

/// kp:P11: the interface of the pods is known by its name, so that it may come after the rules.
#[test]
fn pods_are_known_by_an_interface_that_comes_after_the_rules() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    manifests.put("web.json", &web("web", "10.96.0.10", "10.244.1.11", &json!({}))?.to_string())?;
    let flags = ["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0"];
    let proxy = Proxy::start_with(node, &[&["--manifests", &manifests.folder()], &flags[..]].concat())?;
    proxy.ready(node)?;
    let client = node.pod_at("client", &["10.244.1.10".parse()?])?;
    let endpoint = node.pod_at("web-1", &["10.244.1.11".parse()?])?;
    let _server = Server::start(endpoint.namespace(), "web-1", Transport::Tcp, TARGET)?;
    let to = "10.96.0.10:80".parse()?;
    let outcome = attempt(client.namespace(), Transport::Tcp, to)?;
    assert_eq!((outcome.endpoint(), outcome.source()), (Some("web-1"), Some("10.244.1.10".parse()?)));
    // What does not come in by it is masqueraded.
    lab.steer("10.96.0.10".parse()?, "node-1")?;
    let outcome = attempt(lab.outside(), Transport::Tcp, to)?;
    assert_eq!(outcome.source(), node.masquerade_towards("10.244.1.11".parse()?));
    Ok(())
}

/// kp:A6, kp:C12: what the API server makes of a Service that gets one type after the other, by traffic before and after each.
#[test]
fn every_change_of_type_at_the_api_server_is_followed() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let client = node.pod_at("client", &["10.244.1.10".parse()?])?;
    let endpoint = node.pod_at("web-1", &["10.244.1.11".parse()?])?;
    let _server = Server::start(endpoint.namespace(), "web-1", Transport::Tcp, TARGET)?;
    let listener = node.namespace().enter(|| TcpListener::bind("127.0.0.1:0"))??;
    let server = ApiServer::start(listener, Options::default())?;
    server.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.11"}]}}))?;
    server.apply(slice("web", "node-1", &["10.244.1.11".parse()?], TARGET))?;
    let kubeconfig = node.directory().join("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig())?;
    server.apply(of_type("ClusterIP"))?;
    let proxy = Proxy::start_with(node, &["--kubeconfig", &kubeconfig.to_string_lossy()])?;
    proxy.ready(node)?;
    lab.steer("198.51.100.1".parse()?, "node-1")?;
    let (pod, outside) = (client.namespace(), lab.outside());
    let kinds = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    // From each to each.
    let mut before = "";
    for kind in [0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3, 0].map(|at| kinds[at]) {
        server.apply(of_type(kind))?;
        let [cluster_ip, node_port, balanced] = match kind {
            "ClusterIP" => ["web-1", "refused", "unreachable"],
            "NodePort" => ["web-1", "web-1", "unreachable"],
            // The API server keeps a node port that was allocated.
            "LoadBalancer" if before == "NodePort" => ["web-1"; 3],
            "LoadBalancer" => ["web-1", "refused", "web-1"],
            _ => ["unreachable", "refused", "unreachable"],
        };
        becomes(pod, "10.96.0.10:80", cluster_ip)?;
        becomes(outside, "192.168.0.11:30080", node_port)?;
        becomes(outside, "198.51.100.1:80", balanced)?;
        before = kind;
    }
    Ok(())
}

/// The Service as its owner writes it for each type; the load balancer has no node port.
fn of_type(kind: &str) -> Value {
    let mut object = service("web", &[], 80, TARGET);
    object["spec"]["type"] = json!(kind);
    match kind {
        "ExternalName" => object["spec"]["externalName"] = json!("elsewhere.example"),
        _ => object["spec"]["clusterIP"] = json!("10.96.0.10"),
    }
    if kind == "NodePort" {
        object["spec"]["ports"][0]["nodePort"] = json!(30080);
    }
    if kind == "LoadBalancer" {
        object["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
        object["status"]["loadBalancer"]["ingress"] = json!([{ "ip": "198.51.100.1" }]);
    }
    object
}

/// kp:P14, kp:C7: the loser of a frontend has it as soon as the owner lets go, and gives it back.
#[test]
fn the_loser_of_a_conflict_takes_over_when_the_owner_goes() -> Outcomes {
    let shared = json!({ "externalIPs": ["198.51.100.1"] });
    let first = web("a", "10.96.0.10", "10.244.1.11", &shared)?;
    let second = web("b", "10.96.0.20", "10.244.1.12", &shared)?;
    let stage = Stage::new(&[], &[("a.json", first.clone()), ("b.json", second.clone())])?;
    let pod = stage.client.namespace();
    let to = "198.51.100.1:80";
    stage.becomes(pod, to, "web-1")?;
    // A change of the loser is a sync, too: the owner stays.
    stage.put("b.json", &web("b", "10.96.0.21", "10.244.1.12", &shared)?)?;
    stage.becomes(pod, "10.96.0.21:80", "web-2")?;
    assert_eq!(called(&attempt(pod, Transport::Tcp, to.parse()?)?), "web-1");
    stage.manifests.remove("a.json")?;
    stage.becomes(pod, to, "web-2")?;
    stage.put("a.json", &first)?;
    stage.becomes(pod, to, "web-1")?;
    stage.put("a.json", &web("a", "10.96.0.10", "10.244.1.11", &json!({}))?)?;
    stage.becomes(pod, to, "web-2")
}

/// kp:P5, kp:A4, kp:C13: an unused address of a range that comes answers nothing any more, without another change; with
/// two objects that share a range, it goes with the second.
#[test]
fn ranges_of_services_are_followed_as_they_come_and_go() -> Outcomes {
    let range = |name: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": { "name": name }, "spec": { "cidrs": ["10.97.0.0/16"] },
        })
    };
    let stage = Stage::new(&[], &[("web.json", web("web", "10.96.0.10", "10.244.1.11", &json!({}))?)])?;
    let pod = stage.client.namespace();
    stage.becomes(pod, "10.97.0.1:80", "unreachable")?;
    stage.put("one.json", &range("one"))?;
    stage.becomes(pod, "10.97.0.1:80", "timeout")?;
    stage.put("two.json", &range("two"))?;
    stage.manifests.remove("one.json")?;
    stage.put("web.json", &web("web", "10.96.0.11", "10.244.1.11", &json!({}))?)?;
    stage.becomes(pod, "10.96.0.11:80", "web-1")?;
    stage.becomes(pod, "10.97.0.1:80", "timeout")?;
    stage.manifests.remove("two.json")?;
    stage.becomes(pod, "10.97.0.1:80", "unreachable")
}

/// kp:P9, kp:C4: the kernel knows the node's addresses at each moment, so the very first connection to a new one arrives.
#[test]
fn an_address_that_the_node_gets_serves_node_ports_at_once() -> Outcomes {
    let mut object = web("web", "10.96.0.10", "10.244.1.11", &json!({ "type": "NodePort" }))?;
    object["items"][0]["spec"]["ports"][0]["nodePort"] = json!(30080);
    let stage = Stage::new(&["--nodeport-addresses", "192.0.2.0/24"], &[("web.json", object)])?;
    let (to, outside): (SocketAddr, _) = ("192.0.2.7:30080".parse()?, stage.lab.outside());
    stage.lab.steer(to.ip(), "node-1")?;
    stage.becomes(outside, "192.0.2.7:30080", "unreachable")?;
    stage.node()?.own(to.ip())?;
    assert_eq!(called(&attempt(outside, Transport::Tcp, to)?), "web-1");
    Ok(())
}

/// kp:B6, kp:B4: another zone on the node's label means other endpoints.
#[test]
fn the_nodes_zone_is_followed() -> Outcomes {
    let node = |zone: &str| {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "node-1", "labels": { "topology.kubernetes.io/zone": zone } },
        })
    };
    let endpoints: Vec<IpAddr> = vec!["10.244.1.11".parse()?, "10.244.1.12".parse()?];
    let mut hinted = slice("web", "node-1", &endpoints, TARGET);
    for (at, zone) in ["a", "b"].into_iter().enumerate() {
        hinted["endpoints"][at]["hints"] = json!({ "forZones": [{ "name": zone }] });
    }
    let objects = list(&[service("web", &["10.96.0.10".parse()?], 80, TARGET), hinted]);
    let stage = Stage::new(&[], &[("web.json", objects), ("node.json", node("a"))])?;
    for (zone, endpoint) in [("b", "web-2"), ("a", "web-1")] {
        stage.put("node.json", &node(zone))?;
        let to: SocketAddr = "10.96.0.10:80".parse()?;
        eventually(&format!("only {endpoint}"), PATIENCE, || {
            let pod = stage.client.namespace();
            for _ in 0..30 {
                let got = called(&attempt(pod, Transport::Tcp, to).map_err(|error| error.to_string())?);
                if got != endpoint {
                    return Err(got);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// kp:P12: whoever looks at packet marks between the hooks, here by dropping what has one, sees none of ours.
#[test]
fn no_packet_has_a_mark_on_its_way() -> Outcomes {
    let mut object = web("web", "10.96.0.10", "10.244.1.11", &json!({ "type": "NodePort" }))?;
    object["items"][0]["spec"]["ports"][0]["nodePort"] = json!(30080);
    let stage = Stage::new(&["--cluster-cidr", "10.244.0.0/16"], &[("web.json", object)])?;
    let node = stage.node()?;
    node.nft(["add table inet watch"])?;
    for (hook, priority) in
        [("prerouting", -99), ("input", -1), ("forward", -1), ("output", -99), ("postrouting", 99)]
    {
        node.nft([&*format!(
            "add chain inet watch {hook} {{ type filter hook {hook} priority {priority}; }}"
        )])?;
        node.nft([&*format!("add rule inet watch {hook} meta mark != 0 drop")])?;
    }
    let watched = node.nft(["list table inet watch"])?.stdout;
    assert_eq!(watched.matches("meta mark != 0x00000000 drop").count(), 5, "{watched}");
    let (pod, outside) = (stage.client.namespace(), stage.lab.outside());
    // Masqueraded, each of them, but for the pod's way to the cluster IP.
    for (from, to) in [
        (outside, "192.168.0.11:30080"),
        (pod, "192.168.0.11:30080"),
        (node.namespace(), "192.168.0.11:30080"),
        (node.namespace(), "10.96.0.10:80"),
        (pod, "10.96.0.10:80"),
    ] {
        assert_eq!(called(&attempt(from, Transport::Tcp, to.parse()?)?), "web-1", "{} to {to}", from.name());
    }
    Ok(())
}
