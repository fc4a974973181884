//! What is counted where Services are served at sockets: each connection once, whatever became of its counter.

use super::page::{counts, get};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Outcome, Server, Transport, attempt};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr};

type Outcomes = Result<(), Box<dyn Error>>;

const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const WEB: &str = "10.96.0.1:80";
const EMPTY: &str = "10.96.0.2:80";
const STICKY: &str = "10.96.0.3:80";

/// A node whose sockets are served, with a pod behind two Services and nobody behind a third.
struct Stage {
    proxy: Proxy,
    manifests: Manifests,
    client: Pod,
    web: Pod,
    _server: Server,
    lab: Lab,
}

impl Stage {
    fn new(of_endpoints: bool) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::with_sockets(&["node-1"])?;
        let node = lab.node("node-1")?;
        let (client, web) = (node.pod("client")?, node.pod("web")?);
        let server = Server::start(web.namespace(), "web", Transport::Tcp, TARGET)?;
        let manifests = Manifests::of(node)?;
        let own = json!({"manifests": manifests.folder(), "connectionMetrics": of_endpoints});
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "ebpf", "heddle": own,
        });
        let file = node.directory().join("config");
        fs::write(&file, config.to_string())?;
        let proxy = Proxy::start_with(node, &["--config", &file.to_string_lossy()])?;
        let stage = Self { proxy, manifests, client, web, _server: server, lab };
        stage.put("web", WEB, true)?;
        stage.put("empty", EMPTY, false)?;
        stage.put("sticky", STICKY, true)?;
        stage.proxy.serves_sockets()?;
        for (service, port) in [("web", 80), ("web", NODE_PORT), ("empty", 80), ("sticky", 80)] {
            counts(stage.node()?, &series("connections", service, port), 0.0)?;
        }
        Ok(stage)
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    /// A Service of this name, with or without the pod behind it.
    fn put(&self, name: &str, at: &str, has_endpoint: bool) -> Outcomes {
        let at: SocketAddr = at.parse()?;
        let mut object = service(name, &[at.ip()], at.port(), TARGET);
        match name {
            "web" => {
                object["spec"]["type"] = json!("NodePort");
                object["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
            }
            "sticky" => object["spec"]["sessionAffinity"] = json!("ClientIP"),
            _ => {}
        }
        let mut objects: Vec<Value> = vec![object];
        let endpoints: Vec<IpAddr> = self.web.addresses().iter().copied().filter(IpAddr::is_ipv4).collect();
        objects.extend(has_endpoint.then(|| slice(name, "node-1", &endpoints, TARGET)));
        Ok(self.manifests.put(&format!("{name}.json"), &list(&objects).to_string())?)
    }

    /// So many connections of the client, which all end so.
    fn connect(&self, to: &str, times: usize, is_answered: bool) -> Outcomes {
        for _ in 0..times {
            let outcome = attempt(self.client.namespace(), Transport::Tcp, to.parse()?)?;
            let as_expected =
                if is_answered { outcome.endpoint() == Some("web") } else { outcome == Outcome::Refused };
            assert!(as_expected, "{to}: {outcome}\n{}", self.proxy.log());
        }
        Ok(())
    }

    fn value(&self, series: &str) -> Result<f64, Box<dyn Error>> {
        let reply = get(self.node()?, "/metrics").map_err(|error| error.to_string())?;
        Ok(reply.value(series).ok_or(reply.body)?)
    }
}

fn series(what: &str, service: &str, port: u16) -> String {
    let labels =
        format!(r#"namespace="default",service="{service}",ip_family="IPv4",port="{port}",protocol="tcp""#);
    format!("heddle_proxy_sockets_{what}_total{{{labels}}}")
}

/// ebpf:6.10
#[test]
fn connections_refusals_and_affinity_hits_are_counted_once_each() -> Outcomes {
    let stage = Stage::new(false)?;
    let node = stage.node()?;
    stage.connect(WEB, 7, true)?;
    stage.connect(&format!("{}:{NODE_PORT}", node.addresses()[0]), 3, true)?;
    stage.connect(EMPTY, 4, false)?;
    stage.connect(STICKY, 5, true)?;
    for (what, service, port, value) in [
        ("connections", "web", 80, 7.0),
        ("connections", "web", NODE_PORT, 3.0),
        ("affinity_hits", "web", 80, 0.0),
        ("refused", "web", 80, 0.0),
        ("refused", "empty", 80, 4.0),
        ("connections", "empty", 80, 0.0),
        ("connections", "sticky", 80, 5.0),
        ("affinity_hits", "sticky", 80, 4.0),
    ] {
        assert_eq!(stage.value(&series(what, service, port))?, value, "{what} of {service}:{port}");
    }
    assert_eq!(stage.value("heddle_proxy_sockets_serving")?, 1.0);
    assert_eq!(stage.value("heddle_proxy_sockets_takeovers_total")?, 1.0);
    assert_eq!(stage.value("heddle_proxy_sockets_failures_total")?, 0.0);
    assert!(stage.value("heddle_proxy_sockets_probes_total")? >= 1.0);
    assert!(stage.value("heddle_proxy_sockets_map_bytes")? > 100_000.0);
    let body = get(node, "/metrics").map_err(|error| error.to_string())?.body;
    assert!(!body.contains("heddle_proxy_sockets_endpoint_connections"), "{body}");
    Ok(())
}

/// ebpf:6.10: of a Service that goes, nothing is left to the one that gets its counters.
#[test]
fn counters_that_are_used_again_begin_at_zero() -> Outcomes {
    let stage = Stage::new(false)?;
    let refused = series("refused", "empty", 80);
    let mut rows = Vec::new();
    // A row is given away again a second after its frontend went.
    eventually("a row that is used again", PATIENCE, || {
        let round = || -> Result<f64, Box<dyn Error>> {
            stage.put("empty", EMPTY, false)?;
            counts(stage.node()?, &refused, 0.0)?;
            stage.connect(EMPTY, 2, false)?;
            counts(stage.node()?, &refused, 2.0)?;
            stage.manifests.remove("empty.json")?;
            eventually("no series", PATIENCE, || match stage.value(&refused) {
                Ok(value) => Err(value.to_string()),
                Err(_) => Ok(()),
            })?;
            stage.value("heddle_proxy_sockets_map_rows")
        };
        let now = round().unwrap_or_else(|error| panic!("{error}"));
        let is_used_again = rows.last() == Some(&now);
        rows.push(now);
        if is_used_again { Ok(()) } else { Err(format!("{rows:?}")) }
    })?;
    Ok(())
}

/// ebpf:6.10: new maps count from zero, and who asks does not see it; of endpoints as of Services.
#[test]
fn what_was_counted_outlives_the_maps_and_endpoints_are_counted_where_that_is_asked_for() -> Outcomes {
    let stage = Stage::new(true)?;
    let node = stage.node()?;
    stage.connect(WEB, 2, true)?;
    stage.connect(STICKY, 3, true)?;
    let endpoint = stage.web.addresses().iter().find(|address| address.is_ipv4()).ok_or("no address")?;
    let labels = format!(r#"address="{endpoint}",port="{TARGET}""#);
    let of_endpoint = format!("heddle_proxy_sockets_endpoint_connections_total{{{labels}}}");
    counts(node, &of_endpoint, 5.0)?;
    fs::remove_file(node.bpf().ok_or("no BPF file system")?.join("heddle-proxy/connect4"))?;
    counts(node, "heddle_proxy_sockets_takeovers_total", 2.0)?;
    for (series, value) in [
        (series("connections", "web", 80), 2.0),
        (series("connections", "sticky", 80), 3.0),
        (of_endpoint.clone(), 5.0),
    ] {
        assert_eq!(stage.value(&series)?, value, "{series}");
    }
    stage.connect(WEB, 1, true)?;
    counts(node, &series("connections", "web", 80), 3.0)?;
    counts(node, &of_endpoint, 6.0)
}

/// ebpf:6.6: whether sockets are served is a metric, from the start.
#[test]
fn a_node_that_cannot_serve_sockets_says_so_and_counts_it() -> Outcomes {
    let lab = Lab::with_sockets(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    let (folder, not_bpf) = (manifests.folder(), node.directory().to_string_lossy().into_owned());
    let flags =
        ["--manifests", &folder, "--proxy-mode=ebpf", "--hostname-override=node-1", "--status-socket="];
    let proxy = Proxy::from(node.start("heddle-proxy", flags.into_iter().chain(["--bpf-root", &not_bpf]))?);
    proxy.logs("Services are served by packets alone (nftables): ")?;
    let reply = get(node, "/metrics").map_err(|error| error.to_string())?;
    let value = |of: &str| reply.value(&format!("heddle_proxy_sockets_{of}"));
    assert_eq!((value("serving"), value("takeovers_total")), (Some(0.0), Some(0.0)), "{}", reply.body);
    assert!(value("failures_total") >= Some(1.0), "{}", reply.body);
    Ok(())
}
