//! Pods of a node that reach each other without connection tracking, where Services are served at sockets.

use heddle_netlink::conntrack::{self, Destination, Filter};
use heddle_netlink::{Family, Socket};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Server, Transport, attempt};
use serde_json::json;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

type Outcomes = Result<(), Box<dyn Error>>;

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;

/// A node with a client and a server, and a proxy with this flag besides.
struct Stage {
    _proxy: Proxy,
    manifests: Manifests,
    _server: Server,
    web: Pod,
    client: Pod,
    lab: Lab,
}

impl Stage {
    fn new(flags: &[&str]) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::with_sockets(&["node-1"])?;
        let node = lab.node("node-1")?;
        let (client, web) = (node.pod("client")?, node.pod("web")?);
        let server = Server::start(web.namespace(), "web", Transport::Tcp, TARGET)?;
        let manifests = Manifests::of(node)?;
        let mut object = service("web", &[VIP.ip()], VIP.port(), TARGET);
        object["spec"]["type"] = json!("NodePort");
        object["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
        let endpoints = slice("web", "node-1", &web.addresses()[..1], TARGET);
        manifests.put("objects.json", &list(&[node.object(), object, endpoints]).to_string())?;
        let source = ["--manifests", &manifests.folder()];
        let proxy = Proxy::start_with(node, &[&source, flags].concat())?;
        proxy.ready(node)?;
        proxy.serves_sockets()?;
        Ok(Self { _proxy: proxy, manifests, _server: server, web, client, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    /// How many connections to the server the node tracks.
    fn tracked(&self) -> Result<usize, Box<dyn Error>> {
        let filter = Filter { destination: Destination::AnyV4, protocol: 6, port: Some(TARGET) };
        let list = || conntrack::list(&mut Socket::open(Family::Netfilter)?, &filter, |_| true);
        Ok(self.node()?.namespace().enter(list)??.len())
    }

    /// Waits until the rule is there, or is not.
    fn has_rule(&self, wanted: bool) -> Outcomes {
        Ok(eventually("the rule that does not track", PATIENCE, || {
            let listed = self.lab.node("node-1").map_err(|e| e.to_string())?.nft(["list", "ruleset"]);
            let listed = listed.map_err(|error| error.to_string())?.stdout;
            if listed.contains("notrack") == wanted { Ok(()) } else { Err(listed) }
        })?)
    }

    fn reach(&self, to: SocketAddr) -> Outcomes {
        let outcome = attempt(self.client.namespace(), Transport::Tcp, to)?;
        if outcome.endpoint() == Some("web") { Ok(()) } else { Err(format!("{to}: {outcome}").into()) }
    }
}

#[test]
fn pods_of_a_node_reach_each_other_untracked_and_others_are_translated_as_before() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods"])?;
    stage.has_rule(true)?;
    stage.reach(VIP)?;
    stage.reach(SocketAddr::new(stage.web.addresses()[0], TARGET))?;
    assert_eq!(stage.tracked()?, 0);
    let node_port = SocketAddr::new(stage.node()?.addresses()[0], NODE_PORT);
    let outside = attempt(stage.lab.outside(), Transport::Tcp, node_port)?;
    assert_eq!(outside.endpoint(), Some("web"), "{outside}");
    // And the node itself, whose own connections are tracked in both directions.
    let own = attempt(stage.node()?.namespace(), Transport::Tcp, VIP)?;
    assert_eq!(own.endpoint(), Some("web"), "{own}");
    Ok(())
}

/// The node is no pod: a firewall of its may want to know who talks to it.
#[test]
fn what_a_pod_sends_to_the_node_itself_is_tracked() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods"])?;
    stage.has_rule(true)?;
    let _own = Server::start(stage.node()?.namespace(), "node", Transport::Tcp, TARGET)?;
    let gateway = SocketAddr::new([10, 244, 1, 1].into(), TARGET);
    let outcome = attempt(stage.client.namespace(), Transport::Tcp, gateway)?;
    assert_eq!(outcome.endpoint(), Some("node"), "{outcome}");
    assert_eq!(stage.tracked()?, 1);
    Ok(())
}

#[test]
fn without_the_flag_everything_is_tracked() -> Outcomes {
    let stage = Stage::new(&[])?;
    stage.reach(VIP)?;
    assert_eq!(stage.tracked()?, 1);
    stage.has_rule(false)
}

/// What comes back from an endpoint that packets found is translated, which takes tracking.
#[test]
fn a_service_that_packets_serve_ends_it_and_works() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods", "--cluster-cidr", "10.244.0.0/16"])?;
    stage.has_rule(true)?;
    let vip: IpAddr = [203, 0, 113, 7].into();
    let mut object = service("guarded", &[[10, 96, 0, 11].into()], 80, TARGET);
    object["spec"]["type"] = json!("LoadBalancer");
    object["spec"]["externalTrafficPolicy"] = json!("Local");
    object["spec"]["loadBalancerSourceRanges"] = json!(["10.244.0.0/16"]);
    object["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": vip }] } });
    let endpoints = slice("guarded", "node-1", &stage.web.addresses()[..1], TARGET);
    stage.manifests.put("guarded.json", &list(&[object, endpoints]).to_string())?;
    stage.has_rule(false)?;
    stage.reach(SocketAddr::new(vip, 80))?;
    stage.manifests.remove("guarded.json")?;
    stage.has_rule(true)
}

/// Nor does it come back while the process runs: what packets began may last longer than the label.
#[test]
fn a_pod_that_is_left_out_ends_it_for_good() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods"])?;
    stage.has_rule(true)?;
    let addresses: Vec<_> = stage.client.addresses().iter().map(|ip| json!({ "ip": ip })).collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "client", "labels": { "heddle.dev/sockets": "off" } },
        "spec": { "nodeName": "node-1" }, "status": { "phase": "Running", "podIPs": addresses },
    });
    stage.manifests.put("client.json", &pod.to_string())?;
    stage.has_rule(false)?;
    stage.reach(VIP)?;
    stage.manifests.remove("client.json")?;
    let vip = SocketAddr::new([10, 96, 0, 12].into(), 80);
    let endpoints = slice("more", "node-1", &stage.web.addresses()[..1], TARGET);
    stage
        .manifests
        .put("more.json", &list(&[service("more", &[vip.ip()], 80, TARGET), endpoints]).to_string())?;
    eventually("a Service that came later", PATIENCE, || {
        stage.reach(vip).map_err(|error| error.to_string())
    })?;
    stage.has_rule(false)
}
