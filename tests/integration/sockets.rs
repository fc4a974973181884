//! What serving Services at sockets promises over time: through death and restart of the proxy, a change of its mode, damage and
//! moves.
//!
//! That sockets lead where packets do is the affair of `scenarios.rs`. Where a test must know who serves, it takes the nft tables of
//! a dead proxy away: whoever still gets through was served at its socket.

#[path = "sockets/cleanup.rs"]
mod cleanup;
#[path = "sockets/crowd.rs"]
mod crowd;
#[path = "sockets/damage.rs"]
mod damage;
#[path = "sockets/fallback.rs"]
mod fallback;
#[path = "sockets/growth.rs"]
mod growth;
#[path = "sockets/held.rs"]
mod held;
#[path = "sockets/moves.rs"]
mod moves;
#[path = "sockets/restart.rs"]
mod restart;
#[path = "sockets/switch.rs"]
mod switch;
#[path = "sockets/told.rs"]
mod told;

use heddle_tests::cgroup::Cgroup;
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Outcome, Report, Server, Steady, Transport, attempt_here};
use held::{Held, Listeners};
use rustix::thread::CapabilitySet;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

type Outcomes = Result<(), Box<dyn Error>>;

const NODE: &str = "node-1";
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 11));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 12));
/// Its endpoints say their names, and close.
const WEB: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
/// The same with affinity to clients.
const STICKY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 11)), 80);
/// Its endpoints keep connections.
const KEPT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 12)), 80);
/// Its endpoints are heard by [`crowd`].
const CROWD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 14)), 80);
/// Its endpoints answer datagrams with their names.
const DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 13)), 53);
/// How long silence is listened to before it is asked again.
const SILENCE: Duration = Duration::from_millis(500);

/// One connection in forty may be lost (see [`Stage::leave_sockets_alone`]).
const TRIES: usize = 5;

/// How a proxy is started.
#[derive(Clone, Debug)]
struct Start {
    mode: &'static str,
    cgroup: PathBuf,
    bpf: PathBuf,
    namespaces: PathBuf,
    without: CapabilitySet,
    flags: &'static [&'static str],
    inside: Namespace,
}

impl Start {
    /// As the node's other tests do.
    fn on(node: &Node) -> Result<Self, Box<dyn Error>> {
        let inside = node.namespace().clone();
        let cgroup = inside.cgroup().ok_or("the node has a cgroup")?.path().to_owned();
        let bpf = node.bpf().ok_or("the node has a BPF file system")?;
        let namespaces = node.pods_namespaces();
        Ok(Self {
            mode: "ebpf",
            cgroup,
            bpf,
            namespaces,
            without: CapabilitySet::empty(),
            flags: &[],
            inside,
        })
    }

    /// In this cgroup, and to serve it.
    fn moved(self, cgroup: &Arc<Cgroup>) -> Self {
        let inside = self.inside.in_cgroup(Some(Arc::clone(cgroup)));
        Self { cgroup: cgroup.path().to_owned(), inside, ..self }
    }

    fn invocation(&self, task: &[&str]) -> Result<Invocation, Box<dyn Error>> {
        let places =
            [("--cgroup-root", &self.cgroup), ("--bpf-root", &self.bpf), ("--netns-dir", &self.namespaces)];
        let places = places.into_iter().flat_map(|(flag, path)| [Path::new(flag), path]);
        let fixed = ["--proxy-mode", self.mode, "--hostname-override", NODE, "--status-socket", ""];
        let invocation = Invocation::of("heddle-proxy")?.args(task).args(fixed).args(places);
        Ok(invocation.args(self.flags).without(self.without))
    }

    fn start(&self, manifests: &Manifests) -> Result<Proxy, Box<dyn Error>> {
        let invocation = self.invocation(&["--manifests", &manifests.folder()])?;
        Ok(Proxy::from(invocation.start(&self.inside)?))
    }
}

/// A node with a client, two endpoints of several Services, and a proxy.
struct Stage {
    proxy: Proxy,
    start: Start,
    manifests: Manifests,
    listeners: Listeners,
    _servers: Vec<Server>,
    webs: Vec<Pod>,
    client: Pod,
    lab: Lab,
}

impl Stage {
    /// With a proxy that serves sockets.
    fn new() -> Result<Self, Box<dyn Error>> {
        let stage = Self::started(|start| start)?;
        stage.proxy.serves_sockets()?;
        Ok(stage)
    }

    /// With a proxy that is started in another way.
    fn started(change: impl FnOnce(Start) -> Start) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::with_sockets(&[NODE])?;
        let node = lab.node(NODE)?;
        let client = node.pod_at("client", &["10.244.1.10".parse()?])?;
        let webs = vec![node.pod_at("web-1", &[FIRST])?, node.pod_at("web-2", &[SECOND])?];
        let mut servers = Vec::new();
        for web in &webs {
            servers.push(Server::start(web.namespace(), web.name(), Transport::Tcp, WEB.port())?);
            servers.push(Server::start(web.namespace(), web.name(), Transport::Udp, DNS.port())?);
        }
        let listeners = Listeners::open(&webs)?;
        let manifests = Manifests::of(node)?;
        manifests.put("services.json", &services(&[FIRST, SECOND]).to_string())?;
        let start = change(Start::on(node)?);
        let proxy = start.start(&manifests)?;
        proxy.ready(node)?;
        Ok(Self { proxy, start, manifests, listeners, _servers: servers, webs, client, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node(NODE)?)
    }

    /// Kills the proxy and starts the next one.
    fn restart(&mut self, start: &Start) -> Outcomes {
        self.proxy.process().kill()?;
        self.proxy = start.start(&self.manifests)?;
        self.proxy.logs("wrote the Services of this node")?;
        Ok(())
    }

    /// Kills the proxy and takes the packets' way to Services away. With it goes what the kernel knows of connections that were
    /// translated, and a new one may be taken for one of those.
    fn leave_sockets_alone(&mut self) -> Outcomes {
        self.proxy.process().kill()?;
        for family in ["ip", "ip6"] {
            let deleted = self.node()?.nft(["delete", "table", family, "heddle-proxy"])?;
            assert!(deleted.status.success(), "{deleted:?}");
        }
        Ok(())
    }

    /// How a connection from here ends.
    fn asks(&self, from: &Namespace, to: SocketAddr) -> Result<Outcome, Box<dyn Error>> {
        Ok(from.enter(|| attempt_here(Transport::Tcp, to, SILENCE))?)
    }

    /// Whether sockets serve a client here, now that nobody else does.
    fn is_served(&self, from: &Namespace) -> Result<bool, Box<dyn Error>> {
        for _ in 0..TRIES {
            match self.asks(from, WEB)? {
                Outcome::Answer { .. } => return Ok(true),
                Outcome::Unreachable | Outcome::Timeout => {}
                other => return Err(other.to_string().into()),
            }
        }
        Ok(false)
    }

    /// Connections and sockets that go on.
    fn hold(&self, count: usize) -> Result<Held, Box<dyn Error>> {
        self.listeners.hold(self.client.namespace(), count)
    }

    /// Clients that connect and send all the time.
    fn steady(&self) -> Result<Busy, Box<dyn Error>> {
        let from = self.client.namespace();
        Ok(Busy([Steady::start(from, Transport::Tcp, WEB)?, Steady::start(from, Transport::Udp, DNS)?]))
    }

    /// Our folder in the BPF file system.
    fn pins(&self) -> PathBuf {
        self.start.bpf.join("heddle-proxy")
    }

    /// The names in it.
    fn pinned(&self) -> Vec<String> {
        let entries = fs::read_dir(self.pins()).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Waits until nothing of ours is left for sockets.
    fn lets_sockets_go(&self) -> Outcomes {
        eventually("no folder of ours", PATIENCE, || match self.pins().exists() {
            false => Ok(()),
            true => Err(format!("{:?}: {}", self.pinned(), self.proxy.log())),
        })?;
        Ok(())
    }
}

/// Two steady clients.
struct Busy([Steady; 2]);

impl Busy {
    /// Waits until each has ended so many further attempts.
    fn sees(&self, more: usize) -> Outcomes {
        self.0.iter().try_for_each(|steady| steady.sees(more))?;
        Ok(())
    }

    /// Nothing failed and nothing was lost.
    fn ends_well(self) -> Outcomes {
        self.sees(20)?;
        for steady in self.0 {
            let report: Report = steady.stop()?;
            assert!(report.is_flawless(), "{report:?}");
        }
        Ok(())
    }
}

fn services(endpoints: &[IpAddr]) -> Value {
    let of = |name: &str, at: SocketAddr, target: u16| {
        [service(name, &[at.ip()], at.port(), target), slice(name, NODE, endpoints, target)]
    };
    let web = of("web", WEB, WEB.port());
    let kept = of("kept", KEPT, held::PORT);
    let crowd = of("crowd", CROWD, crowd::PORT);
    let mut sticky = of("sticky", STICKY, WEB.port());
    sticky[0]["spec"]["sessionAffinity"] = json!("ClientIP");
    let mut dns = of("dns", DNS, DNS.port());
    dns[0]["spec"]["ports"][0]["protocol"] = json!("UDP");
    dns[1]["ports"][0]["protocol"] = json!("UDP");
    list(&[web, kept, crowd, sticky, dns].concat())
}

/// Waits until a proxy has said this a second time.
fn said_again(proxy: &Proxy, text: &str) -> Outcomes {
    eventually(&format!("{text:?} for the second time"), PATIENCE, || {
        let log = proxy.log();
        if log.matches(text).count() == 2 { Ok(()) } else { Err(log) }
    })?;
    Ok(())
}
