//! The health servers of the real `heddle-proxy`, asked by a real HTTP client on the node and outside.

#[path = "health/checks.rs"]
mod checks;
#[path = "health/load.rs"]
mod load;
#[path = "health/probes.rs"]
mod probes;

use bytes::Bytes;
use heddle_tests::lab::{Lab, Node};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{list, service};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::error::Error;
use std::net::{IpAddr, SocketAddr, TcpStream};
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

/// A Service of load balancers with the local policy, in both families.
fn balanced(name: &str, check: u16) -> Result<Value, Box<dyn Error>> {
    let ips: [IpAddr; 2] = ["10.96.0.10".parse()?, "fd00:96::10".parse()?];
    let mut service = service(name, &ips, 80, 8080);
    service["spec"]["type"] = json!("LoadBalancer");
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    service["spec"]["healthCheckNodePort"] = json!(check);
    Ok(service)
}
