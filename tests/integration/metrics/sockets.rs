//! What is counted where Services are served at sockets: each connection once, whatever became of its counter.

use super::page::{counts, get};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::{Manifests, Proxy, socket};
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
    fn new() -> Result<Self, Box<dyn Error>> {
        let lab = Lab::with_sockets(&["node-1"])?;
        let node = lab.node("node-1")?;
        let (client, web) = (node.pod("client")?, node.pod("web")?);
        let server = Server::start(web.namespace(), "web", Transport::Tcp, TARGET)?;
        let manifests = Manifests::of(node)?;
        let proxy = Proxy::start(node, &manifests)?;
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

    /// The series of the pod's endpoint.
    fn of_endpoint(&self) -> Result<String, Box<dyn Error>> {
        let address = self.web.addresses().iter().find(|address| address.is_ipv4()).ok_or("no address")?;
        let labels = format!(r#"address="{address}",port="{TARGET}""#);
        Ok(format!("heddle_proxy_sockets_endpoint_connections_total{{{labels}}}"))
    }

    /// What `heddle-proxy status` says.
    fn status(&self, more: &[&str]) -> Result<String, Box<dyn Error>> {
        let socket = socket(self.node()?);
        let arguments = ["status", "--status-socket", &socket].into_iter().chain(more.iter().copied());
        let output = Invocation::of("heddle-proxy")?.args(arguments).run(self.node()?.namespace())?;
        assert!(output.status.success(), "{output:?}");
        Ok(output.stdout)
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
    let stage = Stage::new()?;
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
    assert_eq!(stage.value(&stage.of_endpoint()?)?, 15.0);
    Ok(())
}

/// ebpf:6.10: the busiest in a table, and all that a connection was asked of for programs.
#[test]
fn the_status_has_what_was_counted_of_each_service_and_endpoint() -> Outcomes {
    let stage = Stage::new()?;
    assert!(stage.status(&[])?.contains("counted    0 connections, 0 refused, 0 affinity hits\nproblems"));
    stage.connect(WEB, 7, true)?;
    stage.connect(EMPTY, 4, false)?;
    stage.connect(STICKY, 5, true)?;
    let status = stage.status(&[])?;
    let address = stage.web.addresses().iter().find(|address| address.is_ipv4()).ok_or("no address")?;
    let rows: Vec<Vec<&str>> = status
        .lines()
        .skip_while(|line| !line.starts_with("counted"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let endpoint = format!("{address}:{TARGET}");
    let expected: [&[&str]; 7] = [
        &["counted", "12", "connections,", "4", "refused,", "4", "affinity", "hits"],
        &["SERVICE", "FAMILY", "CONNECTIONS", "REFUSED", "AFFINITY", "HITS"],
        &["default/web:80/tcp", "IPv4", "7", "0", "0"],
        &["default/sticky:80/tcp", "IPv4", "5", "0", "4"],
        &["default/empty:80/tcp", "IPv4", "0", "4", "0"],
        &["ENDPOINT", "CONNECTIONS"],
        &[&endpoint, "12"],
    ];
    assert_eq!(rows[..7], expected, "{status}");
    let json: Value = serde_json::from_str(&stage.status(&["-o", "json"])?)?;
    let counted = &json["sockets"]["counted"];
    assert_eq!(counted["endpoints"], json!([{"address": address, "port": TARGET, "connections": 12}]));
    let sticky = json!({
        "namespace": "default", "service": "sticky", "family": "IPv4", "port": 80, "protocol": "tcp",
        "connections": 5, "refused": 0, "affinityHits": 4,
    });
    assert_eq!(counted["services"][1], sticky, "{counted}");
    Ok(())
}

/// ebpf:6.10: of a Service that goes, nothing is left to the one that gets its counters.
#[test]
fn counters_that_are_used_again_begin_at_zero() -> Outcomes {
    let stage = Stage::new()?;
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
fn what_was_counted_outlives_the_maps() -> Outcomes {
    let stage = Stage::new()?;
    let node = stage.node()?;
    stage.connect(WEB, 2, true)?;
    stage.connect(STICKY, 3, true)?;
    let of_endpoint = stage.of_endpoint()?;
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
