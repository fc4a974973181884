//! The health servers of the real `heddle-proxy`, asked by a real HTTP client on the node and outside.

use bytes::Bytes;
use heddle_netlink::address::Address;
use heddle_netlink::link::{self, Which};
use heddle_netlink::{Batch, Family, Socket};
use heddle_tests::lab::{Lab, Node};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::{Manifests, Proxy};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use tokio::time;

type Outcomes = Result<(), Box<dyn Error>>;
type Failure = Box<dyn Error + Send + Sync>;

const PROBES: u16 = 10256;
const CHECK: u16 = 32_000;
/// Node ports, and with them health checks, are on every address of the node.
const EVERYWHERE: [&str; 2] = ["--nodeport-addresses", "0.0.0.0/0,::/0"];

#[derive(Debug)]
struct Reply {
    code: u16,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn weight(&self) -> Option<&str> {
        self.headers.get("x-load-balancing-endpoint-weight")?.to_str().ok()
    }
}

/// One request of a client in a namespace.
fn ask(from: &Namespace, method: &str, to: SocketAddr, path: &str) -> Result<Reply, Failure> {
    let request = Request::builder().method(method).uri(path).header(HOST, "node");
    let request = request.body(Full::new(Bytes::from_static(b"who asks?")))?;
    from.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { time::timeout(Duration::from_secs(5), converse(to, request)).await? })
    })?
}

async fn converse(to: SocketAddr, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
    let stream = TokioIo::new(tokio::net::TcpStream::connect(to).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let bytes = body.collect().await?.to_bytes();
    drop(sender);
    connection.await??;
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok(Reply { code: head.status.as_u16(), headers: head.headers, body })
}

/// A node of its own lab with a proxy, asked from outside.
struct Stage {
    proxy: Proxy,
    manifests: Manifests,
    lab: Lab,
}

impl Stage {
    fn new(flags: &[&str], objects: &[Value]) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let node = lab.node("node-1")?;
        let manifests = Manifests::of(node)?;
        manifests.put("objects.json", &list(objects).to_string())?;
        let proxy = start(node, &manifests, flags)?;
        Ok(Self { proxy, manifests, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    fn put(&self, objects: &[Value]) -> Outcomes {
        Ok(self.manifests.put("objects.json", &list(objects).to_string())?)
    }

    fn address(&self, family: usize, port: u16) -> Result<SocketAddr, Box<dyn Error>> {
        Ok(SocketAddr::new(self.node()?.addresses()[family], port))
    }

    /// Waits until a path of the health server answers with this code, and returns the answer.
    fn probe(&self, path: &str, code: u16) -> Result<Reply, Box<dyn Error>> {
        self.reply("GET", self.address(0, PROBES)?, path, code)
    }

    /// Waits until the health check, over both families, answers with this code and weight.
    fn check(&self, code: u16, weight: &str) -> Outcomes {
        for family in [0, 1] {
            let to = self.address(family, CHECK)?;
            eventually(&format!("{code} and {weight} of {to}"), PATIENCE, || {
                let reply = ask(self.lab.outside(), "GET", to, "/").map_err(|e| e.to_string())?;
                let is_right = reply.code == code && reply.weight() == Some(weight);
                if is_right { Ok(()) } else { Err(format!("{reply:?}")) }
            })?;
        }
        Ok(())
    }

    fn reply(&self, method: &str, to: SocketAddr, path: &str, code: u16) -> Result<Reply, Box<dyn Error>> {
        let what = format!("{code} of {method} {to}{path}");
        Ok(eventually(&what, PATIENCE, || {
            let reply = ask(self.lab.outside(), method, to, path).map_err(|e| e.to_string())?;
            if reply.code == code { Ok(reply) } else { Err(format!("{reply:?}")) }
        })?)
    }

    /// Waits until nobody listens there.
    fn closed(&self, from: &Namespace, to: SocketAddr) -> Outcomes {
        eventually(&format!("{to} to be closed"), PATIENCE, || {
            match from.enter(|| TcpStream::connect(to)) {
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        Ok(())
    }
}

fn start(node: &Node, manifests: &Manifests, flags: &[&str]) -> Result<Proxy, Box<dyn Error>> {
    let folder = manifests.folder();
    let source = ["--manifests", &folder];
    Ok(Proxy::start_with(node, &source.iter().chain(flags).copied().collect::<Vec<_>>())?)
}

fn node_object() -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" } })
}

/// A Service of load balancers with the local policy, in both families.
fn balanced(name: &str, check: u16) -> Result<Value, Box<dyn Error>> {
    let ips: [IpAddr; 2] = ["10.96.0.10".parse()?, "fd00:96::10".parse()?];
    let mut service = service(name, &ips, 80, 8080);
    service["spec"]["type"] = json!("LoadBalancer");
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    service["spec"]["healthCheckNodePort"] = json!(check);
    Ok(service)
}

/// Two ready endpoints on the node in each family.
fn endpoints(name: &str) -> Result<[Value; 2], Box<dyn Error>> {
    let v4: [IpAddr; 2] = ["10.244.1.11".parse()?, "10.244.1.12".parse()?];
    let v6: [IpAddr; 2] = ["fd00:244:0:1::11".parse()?, "fd00:244:0:1::12".parse()?];
    Ok([slice(name, "node-1", &v4, 8080), slice(name, "node-1", &v6, 8080)])
}

fn terminating(mut slices: [Value; 2]) -> [Value; 2] {
    for slice in &mut slices {
        for endpoint in slice["endpoints"].as_array_mut().into_iter().flatten() {
            endpoint["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
        }
    }
    slices
}

/// kp:G1, kp:G3, kp:G4: the states of a node that comes, is drained, and goes.
#[test]
fn probes_follow_the_node_object_and_liveness_does_not() -> Outcomes {
    let stage = Stage::new(&[], &[])?;
    let ready = stage.probe("/readyz", 200)?;
    assert_eq!(ready.body["ready"], true);
    let unknown = stage.probe("/healthz", 503)?;
    assert_eq!(unknown.body["nodeEligible"], false);
    stage.put(&[node_object()])?;
    let eligible = stage.probe("/healthz", 200)?;
    assert_eq!(eligible.body["lastUpdated"], eligible.body["currentTime"]);
    assert_eq!(eligible.body["status"]["IPv4"]["healthy"], true);
    assert_eq!(eligible.headers["content-type"], "application/json");
    assert_eq!(eligible.headers["x-content-type-options"], "nosniff");

    let mut tainted = node_object();
    tainted["spec"] =
        json!({ "taints": [{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }] });
    let mut deleted = node_object();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-05-01T12:00:00Z");
    for objects in [vec![tainted], vec![deleted], vec![]] {
        stage.put(&objects)?;
        assert_eq!(stage.probe("/healthz", 503)?.body["nodeEligible"], false);
        let alive = stage.probe("/livez", 200)?;
        assert_eq!(alive.body.get("nodeEligible"), None);
        stage.put(&[node_object()])?;
        stage.probe("/healthz", 200)?;
    }
    let to = stage.address(0, PROBES)?;
    for method in ["HEAD", "POST", "PUT", "DELETE", "BREW"] {
        stage.reply(method, to, "/healthz", 200)?;
    }
    stage.probe("/elsewhere", 404)?;
    Ok(())
}

#[test]
fn the_health_server_listens_where_it_is_told_to_or_not_at_all() -> Outcomes {
    let six = Stage::new(&["--healthz-bind-address", "[::]:10300"], &[])?;
    for family in [0, 1] {
        six.reply("GET", six.address(family, 10_300)?, "/livez", 200)?;
    }
    let off = Stage::new(
        &["--healthz-bind-address", "", EVERYWHERE[0], EVERYWHERE[1]],
        &[balanced("web", CHECK)?],
    )?;
    off.check(503, "0")?;
    off.closed(off.lab.outside(), off.address(0, PROBES)?)
}

/// kp:G1, kp:I8
#[test]
fn an_address_in_use_is_tried_again_or_ends_the_proxy_when_that_is_asked_for() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    let taken = node.namespace().enter(|| TcpListener::bind(("0.0.0.0", PROBES)))??;
    let mut strict = start(node, &manifests, &["--bind-address-hard-fail"])?;
    assert_eq!(strict.process().wait(PATIENCE)?.code(), Some(1));
    let said = strict.log();
    assert!(
        said.contains("failed to start proxier healthz on 0.0.0.0:10256: Address already in use"),
        "{said}"
    );
    let mut proxy = start(node, &manifests, &[])?;
    proxy.process().prints("the health server cannot listen on 0.0.0.0:10256, trying again")?;
    drop(taken);
    let stage = Stage { proxy, manifests, lab };
    stage.probe("/livez", 200)?;
    Ok(())
}

/// kp:G6, kp:G7: the life of a health check: no endpoints, some, draining ones, another policy, and back.
#[test]
fn a_health_check_tells_load_balancers_of_ready_endpoints_on_the_node() -> Outcomes {
    let stage = Stage::new(&EVERYWHERE, &[balanced("web", CHECK)?])?;
    stage.check(503, "0")?;
    let [v4, v6] = endpoints("web")?;
    stage.put(&[balanced("web", CHECK)?, v4.clone(), v6.clone()])?;
    stage.check(200, "2")?;
    let reply = stage.reply("POST", stage.address(0, CHECK)?, "/any/path", 200)?;
    let web = json!({ "namespace": "default", "name": "web" });
    assert_eq!(reply.body, json!({ "service": web, "localEndpoints": 2, "serviceProxyHealthy": true }));

    let [old4, old6] = terminating(endpoints("web")?);
    stage.put(&[balanced("web", CHECK)?, old4, old6])?;
    stage.check(503, "0")?;

    let mut anywhere = balanced("web", CHECK)?;
    anywhere["spec"]["externalTrafficPolicy"] = json!("Cluster");
    stage.put(&[anywhere, v4.clone(), v6.clone()])?;
    for family in [0, 1] {
        stage.closed(stage.lab.outside(), stage.address(family, CHECK)?)?;
    }
    stage.put(&[balanced("web", CHECK)?, v4, v6])?;
    stage.check(200, "2")?;
    stage.put(&[])?;
    stage.closed(stage.lab.outside(), stage.address(0, CHECK)?)
}

/// kp:G7: whether the cluster wants the node is not the Service's affair.
#[test]
fn a_node_that_is_to_go_keeps_its_health_checks() -> Outcomes {
    let [v4, v6] = endpoints("web")?;
    let stage = Stage::new(&EVERYWHERE, &[balanced("web", CHECK)?, v4, v6])?;
    stage.probe("/healthz", 503)?;
    stage.check(200, "2")
}

/// kp:G6
#[test]
fn a_port_in_use_is_reported_by_service_and_taken_when_it_is_free() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    let taken = node.namespace().enter(|| TcpListener::bind(("0.0.0.0", CHECK)))??;
    manifests
        .put("objects.json", &list(&[balanced("web", CHECK)?, balanced("other", CHECK + 1)?]).to_string())?;
    let mut proxy = start(node, &manifests, &EVERYWHERE)?;
    proxy.process().prints("FailedToStartServiceHealthcheck")?;
    proxy
        .process()
        .prints("Service default/web: spec.healthCheckNodePort: this node cannot listen on 0.0.0.0:32000")?;
    let stage = Stage { proxy, manifests, lab };
    stage.reply("GET", stage.address(0, CHECK + 1)?, "/", 503)?;
    drop(taken);
    stage.check(503, "0")?;
    stage.put(&[balanced("other", CHECK)?])?;
    let reply = stage.reply("GET", stage.address(0, CHECK)?, "/", 503)?;
    assert!(reply.body["service"]["name"] == "web" || reply.body["service"]["name"] == "other");
    eventually("the port to go to the other Service", PATIENCE, || {
        let reply = stage.reply("GET", stage.address(0, CHECK).map_err(|e| e.to_string())?, "/", 503);
        let reply = reply.map_err(|e| e.to_string())?;
        if reply.body["service"]["name"] == "other" { Ok(()) } else { Err(format!("{reply:?}")) }
    })?;
    Ok(())
}

/// Gives the node's loopback link an address, or takes it away.
fn change_address(node: &Node, address: IpAddr, is_there: bool) -> Outcomes {
    let change = || -> Result<(), heddle_netlink::Error> {
        let mut socket = Socket::open(Family::Route)?;
        let Some(lo) = link::fetch(&mut socket, Which::Name("lo"))? else { return Ok(()) };
        let address = Address { link: lo.index, address: address.into() };
        let mut batch = Batch::new();
        if is_there {
            address.add(&mut batch)
        } else {
            address.delete(&mut batch)
        };
        socket.request(&mut batch)
    };
    Ok(node.namespace().enter(change)??)
}

/// kp:P9
#[test]
fn health_checks_follow_the_addresses_of_the_node() -> Outcomes {
    let networks = ["--nodeport-addresses", "203.0.113.0/24,2001:db8::/64"];
    let stage = Stage::new(&networks, &[balanced("web", CHECK)?])?;
    stage.probe("/readyz", 200)?;
    let node = stage.node()?;
    stage.closed(stage.lab.outside(), stage.address(0, CHECK)?)?;
    for address in ["203.0.113.5".parse::<IpAddr>()?, "2001:db8::5".parse()?, "203.0.113.5".parse()?] {
        let to = SocketAddr::new(address, CHECK);
        change_address(node, address, true)?;
        eventually(&format!("an answer of {to}"), PATIENCE, || {
            ask(node.namespace(), "GET", to, "/").map_err(|e| e.to_string())
        })?;
        change_address(node, address, false)?;
        let closed = format!("closed a health check address={to}");
        eventually(&closed, PATIENCE, || {
            if stage.proxy.log().contains(&closed) { Ok(()) } else { Err(stage.proxy.log()) }
        })?;
    }
    Ok(())
}

#[test]
fn a_proxy_that_was_killed_answers_again_when_it_is_started_again() -> Outcomes {
    let [v4, v6] = endpoints("web")?;
    let mut stage = Stage::new(&EVERYWHERE, &[balanced("web", CHECK)?, v4, v6])?;
    stage.check(200, "2")?;
    stage.proxy.process().kill()?;
    for port in [PROBES, CHECK] {
        stage.closed(stage.lab.outside(), stage.address(0, port)?)?;
    }
    stage.proxy = start(stage.lab.node("node-1")?, &stage.manifests, &EVERYWHERE)?;
    stage.check(200, "2")?;
    stage.probe("/livez", 200)?;
    assert!(!stage.proxy.log().contains("cannot listen"), "{}", stage.proxy.log());
    Ok(())
}

#[test]
fn clients_that_say_nothing_keep_nobody_from_an_answer() -> Outcomes {
    let stage = Stage::new(&[], &[])?;
    stage.probe("/livez", 200)?;
    let to = stage.address(0, PROBES)?;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(stage.lab.outside().enter(|| TcpStream::connect(to))??);
    }
    for _ in 0..10 {
        stage.probe("/livez", 200)?;
    }
    let mut oldest = idle.swap_remove(0);
    oldest.set_read_timeout(Some(PATIENCE))?;
    let mut rest = Vec::new();
    let cut = oldest.write_all(b"GET").and_then(|()| oldest.read_to_end(&mut rest));
    assert!(matches!(cut, Ok(0) | Err(_)) && rest.is_empty(), "{cut:?} {rest:?}");
    Ok(())
}

/// Services, each with a health check of its own.
fn many(count: u16) -> Result<Vec<Value>, Box<dyn Error>> {
    let service = |number: u16| -> Result<Value, Box<dyn Error>> {
        let [high, low] = number.to_be_bytes();
        let mut service = balanced(&format!("s-{number:04}"), 30_000 + number)?;
        service["spec"]["clusterIP"] = json!(format!("10.96.{high}.{low}"));
        service["spec"]["clusterIPs"] = json!([format!("10.96.{high}.{low}")]);
        Ok(service)
    };
    (0..count).map(service).collect()
}

#[test]
fn two_thousand_health_checks_cost_a_file_each_and_no_thread() -> Outcomes {
    let mut stage = Stage::new(&EVERYWHERE, &many(2000)?)?;
    for port in [30_000, 31_000, 31_999] {
        let reply = stage.reply("GET", stage.address(0, port)?, "/", 503)?;
        assert_eq!(reply.body["service"]["name"], format!("s-{:04}", port - 30_000));
    }
    let id = stage.proxy.process().id();
    let threads = fs::read_dir(format!("/proc/{id}/task"))?.count();
    let files = fs::read_dir(format!("/proc/{id}/fd"))?.count();
    assert!(threads < 12, "{threads} threads");
    assert!((2000..2100).contains(&files), "{files} files");
    stage.put(&many(1)?)?;
    stage.closed(stage.lab.outside(), stage.address(0, 31_999)?)?;
    eventually("the files to be closed", PATIENCE, || {
        let files = fs::read_dir(format!("/proc/{id}/fd")).map_err(|e| e.to_string())?.count();
        if files < 100 { Ok(()) } else { Err(files.to_string()) }
    })?;
    Ok(())
}

#[test]
fn at_the_limit_of_files_the_rest_works_and_the_services_are_named() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    manifests.put("objects.json", &list(&many(50)?).to_string())?;
    let program = heddle_tests::process::program("heddle-proxy")?;
    let limited = format!(
        "ulimit -n 300; exec {} --manifests {} --hostname-override node-1 --status-socket= {}",
        program.display(),
        manifests.folder(),
        EVERYWHERE.join(" "),
    );
    let proxy = Invocation::foreign("sh").args(["-c", &limited]).start(node.namespace())?;
    proxy.prints(
        "Service default/s-0049: spec.healthCheckNodePort: this node cannot listen on 0.0.0.0:30049",
    )?;
    proxy.prints("44 others are open, and the process may open no more files")?;
    let to = |port| SocketAddr::new(node.addresses()[0], port);
    assert_eq!(ask(lab.outside(), "GET", to(30_043), "/").map_err(|e| e.to_string())?.code, 503);
    assert_eq!(ask(lab.outside(), "GET", to(PROBES), "/readyz").map_err(|e| e.to_string())?.code, 200);
    manifests.put("objects.json", &list(&many(50)?[40..]).to_string())?;
    eventually("room for those that had none", PATIENCE, || {
        ask(lab.outside(), "GET", to(30_049), "/").map_err(|e| e.to_string())
    })?;
    Ok(())
}
