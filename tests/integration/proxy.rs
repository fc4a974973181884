//! The real `heddle-proxy` on a node of the lab: restarts, damage, bad input, and many Services.

#[path = "proxy/affinity.rs"]
mod affinity;
#[path = "proxy/changes.rs"]
mod changes;
#[path = "proxy/many.rs"]
mod many;
#[path = "proxy/mistakes.rs"]
mod mistakes;
#[path = "proxy/table.rs"]
mod table;

use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Server, Transport, spread};
use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

type Outcomes = Result<(), Box<dyn Error>>;

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const TARGET: u16 = 8080;

/// A node with a client, two endpoints, a Service over both, and a proxy that knows them.
struct Stage {
    proxy: Proxy,
    manifests: Manifests,
    _servers: Vec<Server>,
    webs: Vec<Pod>,
    client: Pod,
    lab: Lab,
}

impl Stage {
    fn new() -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let node = lab.node("node-1")?;
        let client = node.pod_at("client", &["10.244.1.10".parse()?])?;
        let webs = vec![
            node.pod_at("web-1", &["10.244.1.11".parse()?])?,
            node.pod_at("web-2", &["10.244.1.12".parse()?])?,
        ];
        let server = |pod: &Pod| Server::start(pod.namespace(), pod.name(), Transport::Tcp, TARGET);
        let servers = webs.iter().map(server).collect::<Result<_, _>>()?;
        let manifests = Manifests::of(node)?;
        manifests.put("service.json", &service("web", &[VIP.ip()], VIP.port(), TARGET).to_string())?;
        put_endpoints(&manifests, &webs)?;
        let proxy = Proxy::start(node, &manifests)?;
        proxy.ready(node)?;
        Ok(Self { proxy, manifests, _servers: servers, webs, client, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    /// Waits until exactly these pods answer.
    fn await_answers(&self, names: &[&str]) -> Outcomes {
        let wanted: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        eventually(&format!("answers of {names:?}"), PATIENCE, || {
            let got = spread(self.client.namespace(), Transport::Tcp, VIP, 40).map_err(|e| e.to_string())?;
            let answered: BTreeSet<String> =
                got.keys().map(|o| o.endpoint().unwrap_or("nobody").to_owned()).collect();
            if answered == wanted { Ok(()) } else { Err(format!("{got:?}")) }
        })?;
        Ok(())
    }

    fn restart(&mut self) -> Outcomes {
        self.proxy = Proxy::start(self.lab.node("node-1")?, &self.manifests)?;
        self.proxy.process().prints("wrote the Services of this node")?;
        Ok(())
    }
}

fn put_endpoints(manifests: &Manifests, pods: &[Pod]) -> Outcomes {
    let addresses: Vec<IpAddr> = pods.iter().flat_map(Pod::addresses).copied().collect();
    Ok(manifests.put("endpoints.json", &slice("web", "node-1", &addresses, TARGET).to_string())?)
}

/// Everything that the node's kernel holds, as nft lists it.
fn ruleset_of(node: &Node) -> Result<String, Box<dyn Error>> {
    let listed = node.nft(["list", "ruleset"])?;
    assert!(listed.status.success(), "{listed:?}");
    Ok(listed.stdout)
}
