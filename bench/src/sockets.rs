//! Services at the socket: two pods of one node, with and without a Service between them.
//!
//! Connections through a Service are compared with direct ones between the same pods, and with those of a node without any rule.
//! As in the data plane, subjects take turns, and a figure is compared with those of its own round alone. Rates are connections, round
//! trips or bytes for a second of CPU.

use crate::cluster::{PORT, Size, TARGET};
use crate::figure::{Figure, Part};
use crate::follow::{Followed, NODE};
use crate::progress::Progress;
use crate::report::{Claim, Report};
use crate::stats::{Bound, permille};
use crate::{Failure, follow, load};
use heddle_tests::lab::{Lab, Pod};
use heddle_tests::objects;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::Proxy;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

/// Who follows, in the report.
const SUBJECT: &str = "heddle ebpf";
/// Calls of `connect` for each connection that is made: they are a hundred times as cheap.
const CALLS: u32 = 50;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Services with their endpoints, of each node that has some.
    pub sizes: Vec<Size>,
    /// Rounds over all subjects.
    pub rounds: u32,
    /// Connections of one subject in one round.
    pub connections: u32,
    /// Bytes of one subject in one round.
    pub bulk: u64,
    /// Clusters that a proxy follows, and in which so many endpoints change.
    pub followed: Vec<Size>,
    /// How many.
    pub changes: u32,
}

/// Who serves Services on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// Nobody: there is no rule and no program.
    Bare,
    /// Sockets.
    Sockets(Size),
    /// Sockets, and connections between pods are not tracked.
    Untracked(Size),
    /// Packets.
    Packets(Size),
}

/// A node with two pods.
struct Stage {
    served: Served,
    client: Pod,
    listener: TcpListener,
    hearer: UdpSocket,
    server: SocketAddr,
    service: Option<SocketAddr>,
    /// Last: its pods go before it.
    _rest: (Pod, Lab),
}

/// One way from the client to the server, with what was measured, by round.
struct Course {
    name: &'static str,
    size: Option<Size>,
    stage: usize,
    is_direct: bool,
    to: SocketAddr,
    connections: Vec<f64>,
    bulk: Vec<f64>,
    datagrams: Vec<f64>,
    calls: Vec<f64>,
}

/// Measures all ways and adds what was found.
///
/// # Errors
/// When a node cannot be built, or connections fail.
pub fn measure(settings: &Settings, progress: &mut Progress, report: &mut Report) -> Result<(), Failure> {
    for &size in &settings.followed {
        progress.step(&format!("follow an API server with {size}"), following(size));
        let lab = Lab::with_sockets(&[NODE])?;
        tell_followed(size, &follow::api_server(&lab, size, (settings.changes, 0))?, report);
    }
    let mut stages = Vec::new();
    for served in subjects(settings) {
        progress.step(&format!("load {served:?}"), loading(served));
        stages.push(Stage::build(served)?);
    }
    let mut courses: Vec<Course> =
        (0..).zip(&stages).flat_map(|(number, stage)| stage.courses(number)).collect();
    for round in 0..settings.rounds {
        progress.step(&format!("round {} of {}", round + 1, settings.rounds), round_weight(settings));
        let mut order: Vec<&mut Course> = courses.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        order.into_iter().try_for_each(|course| course.run(&stages[course.stage], settings))?;
    }
    tell(&stages, &courses, report);
    Ok(())
}

/// The seconds that [`measure`] may take, for the time left.
pub fn weight(settings: &Settings) -> f64 {
    let loads: f64 = subjects(settings).map(loading).sum();
    let followed: f64 = settings.followed.iter().copied().map(following).sum();
    followed + loads + f64::from(settings.rounds) * round_weight(settings)
}

fn following(size: Size) -> f64 {
    6.0 + f64::from(size.services) / 4000.0
}

fn round_weight(settings: &Settings) -> f64 {
    f64::from(settings.connections) / 1000.0
}

fn loading(served: Served) -> f64 {
    served.size().map_or(0.3, |size| 0.5 + f64::from(size.services) / 10_000.0)
}

fn subjects(settings: &Settings) -> impl Iterator<Item = Served> {
    let all = |size: &Size| [Served::Sockets(*size), Served::Untracked(*size), Served::Packets(*size)];
    [Served::Bare].into_iter().chain(settings.sizes.iter().flat_map(all))
}

impl Stage {
    fn build(served: Served) -> Result<Self, Failure> {
        let lab = match served {
            Served::Sockets(_) | Served::Untracked(_) => Lab::with_sockets(&[NODE])?,
            _ => Lab::new(&[NODE])?,
        };
        let node = lab.node(NODE)?;
        let (client, server) = (node.pod("client")?, node.pod("server")?);
        let pod = server.addresses().iter().copied().find(IpAddr::is_ipv4).ok_or("the pod has no IPv4")?;
        let (listener, hearer) =
            (load::listen(server.namespace(), TARGET)?, load::hear(server.namespace(), TARGET)?);
        let service = match served {
            Served::Bare => None,
            Served::Sockets(size) | Served::Packets(size) => Some(serve(&lab, (size, pod), &[])?),
            Served::Untracked(size) => Some(serve(&lab, (size, pod), &["--untracked-pods"])?),
        };
        let to = SocketAddr::new(pod, TARGET);
        Ok(Self { served, client, listener, hearer, server: to, service, _rest: (server, lab) })
    }

    fn courses(&self, number: usize) -> Vec<Course> {
        let course = |name: &'static str, to: SocketAddr| Course {
            name,
            size: self.served.size(),
            stage: number,
            is_direct: to == self.server,
            to,
            connections: Vec::new(),
            bulk: Vec::new(),
            datagrams: Vec::new(),
            calls: Vec::new(),
        };
        let through = |name| self.service.map(|service| course(name, service));
        let (direct, served) = match self.served {
            Served::Bare => (Some(course("direct", self.server)), None),
            Served::Sockets(_) => (Some(course("direct beside sockets", self.server)), through(SUBJECT)),
            Served::Untracked(_) => {
                (Some(course("direct, untracked", self.server)), through("heddle ebpf, untracked"))
            }
            Served::Packets(_) => (None, through("heddle nft")),
        };
        direct.into_iter().chain(served).collect()
    }
}

impl Served {
    fn size(self) -> Option<Size> {
        match self {
            Self::Bare => None,
            Self::Sockets(size) | Self::Untracked(size) | Self::Packets(size) => Some(size),
        }
    }
}

/// Starts a proxy with Services of which the last has this endpoint alone. Tables and programs stay when it ends.
fn serve(lab: &Lab, (size, endpoint): (Size, IpAddr), flags: &[&str]) -> Result<SocketAddr, Failure> {
    let node = lab.node(NODE)?;
    let last = size.services - 1;
    let mut list: Vec<_> = size.objects().collect();
    let mut slice = objects::slice(&size.name(last), NODE, &[endpoint], TARGET);
    slice["ports"] = json!([port("TCP", TARGET), port("UDP", TARGET)]);
    let mut service = size.service(last);
    service["spec"]["ports"] = json!([port("TCP", PORT), port("UDP", PORT)]);
    list[usize::try_from(last)?] = slice;
    *list.last_mut().expect("a Service at the end") = service;
    list.push(node.object());
    let manifests = follow::write(node, &list)?;
    let proxy = Proxy::start_with(node, &[&["--manifests", &manifests.folder()], flags].concat())?;
    proxy.ready(node)?;
    if node.namespace().cgroup().is_some() {
        proxy.serves_sockets()?;
    }
    let has_rule = || {
        let listed = node.nft(["list", "chains"]).map_err(|error| error.to_string())?.stdout;
        if listed.contains("untracked") { Ok(()) } else { Err(listed) }
    };
    if !flags.is_empty() {
        eventually("the rule that does not track", PATIENCE, has_rule)?;
    }
    Ok(SocketAddr::new(size.cluster_ip(last), PORT))
}

fn port(protocol: &str, port: u16) -> Value {
    json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": port, "targetPort": TARGET })
}

impl Course {
    fn run(&mut self, stage: &Stage, settings: &Settings) -> Result<(), Failure> {
        let client = stage.client.namespace();
        let failed = |cause: Failure| format!("{}: {cause}", self.name);
        let connections =
            load::connections(client, &stage.listener, self.to, settings.connections).map_err(failed)?;
        let bulk = load::bulk(client, &stage.listener, self.to, settings.bulk).map_err(failed)?;
        let datagrams =
            load::datagrams(client, &stage.hearer, self.to, settings.connections).map_err(failed)?;
        let calls = load::connects(client, self.to, settings.connections * CALLS).map_err(failed)?;
        self.connections.push(connections);
        self.bulk.push(bulk);
        self.datagrams.push(datagrams);
        self.calls.push(calls);
        Ok(())
    }

    fn figures(&self) -> Figures {
        let figure = |what| {
            let workload = format!("between pods: {what}");
            Figure { size: self.size, ..Figure::new(Part::DataPlane, &workload, self.name) }
        };
        Figures {
            connections: figure("new connection").less("µs of CPU", &self.connections),
            bulk: figure("bulk TCP").more("Gbit a s of CPU", &self.bulk),
            datagrams: figure("UDP there and back").less("µs of CPU", &self.datagrams),
            calls: figure("call of connect").less("µs of CPU", &self.calls),
        }
    }
}

/// What one course gave.
struct Figures {
    connections: Figure,
    bulk: Figure,
    datagrams: Figure,
    calls: Figure,
}

/// What sockets take, and how long a change takes to count, packets and sockets together.
fn tell_followed(size: Size, found: &Followed, report: &mut Report) {
    let is = |services, endpoints| (size.services, size.endpoints) == (services, endpoints);
    let at_most = |holds: bool, limit: f64| holds.then_some(Bound::AtMost(limit));
    let (large, usual) = (is(30_000, 4), is(10_000, 3));
    let figure = |workload: &str| Figure::new(Part::ControlPlane, workload, SUBJECT).at(size);
    let mut add = |what: &str, unit, value: Option<f64>, must: Option<Bound>| {
        let figure = figure(what).less(unit, &[value.unwrap_or(f64::NAN)]);
        let claimed = format!("{what}: {}", figure.who());
        report.claim(must.and_then(|must| Claim::new(&claimed, unit, &figure.values, must)));
        report.add(figure);
    };
    add("maps loaded and filled", "s", found.started.filled, at_most(large, 0.3));
    add("memory of the maps", "MB", found.started.maps, at_most(large, 20.0));
    add(
        "memory after the start, from an API server",
        "MB",
        Some(found.started.memory.now),
        at_most(large, 80.0),
    );
    let changes = figure("one endpoint: event to kernel committed").less("ms", &found.changes).distribution();
    let what = format!("{}, 99th percentile: {}", changes.workload, changes.who());
    let worst = permille(&changes.values, 990).unwrap_or(f64::NAN);
    report.claim(at_most(usual, 0.2).and_then(|must| Claim::new(&what, "ms", &[worst], must)));
    report.add(changes);
}

fn tell(stages: &[Stage], courses: &[Course], report: &mut Report) {
    let figures: Vec<Figures> = courses.iter().map(Course::figures).collect();
    let Some(bare) = figures.first() else { return };
    for (course, these) in courses.iter().zip(&figures).filter(|(course, _)| !course.is_direct) {
        let is_beside = |other: &Course| other.stage == course.stage && other.is_direct;
        let direct = courses.iter().position(is_beside).map_or(bare, |at| &figures[at]);
        match stages[course.stage].served {
            Served::Bare | Served::Packets(_) => {}
            Served::Sockets(_) => claim(these, direct, report),
            Served::Untracked(_) => {
                claim(these, direct, report);
                report.claim(Claim::rates(&these.connections, &bare.connections, Bound::AtLeast(0.96)));
            }
        }
    }
    let kinds: [fn(&Figures) -> &Figure; 4] =
        [|it| &it.connections, |it| &it.bulk, |it| &it.datagrams, |it| &it.calls];
    for kind in kinds {
        figures.iter().for_each(|these| report.add(kind(these).clone()));
    }
}

/// What must hold of sockets beside a direct way.
fn claim(this: &Figures, direct: &Figures, report: &mut Report) {
    report.claim(Claim::rates(&this.connections, &direct.connections, Bound::AtLeast(0.98)));
    report.claim(Claim::rates(&this.bulk, &direct.bulk, Bound::AtLeast(0.99)));
    report.claim(Claim::rates(&this.datagrams, &direct.datagrams, Bound::AtLeast(0.97)));
    let pairs = this.calls.values.iter().zip(&direct.calls.values);
    let more: Vec<f64> = pairs.map(|(this, direct)| this - direct).collect();
    let what = format!("{}: {} more than {}", this.calls.workload, this.calls.who(), direct.calls.who());
    report.claim(Claim::new(&what, &this.calls.unit, &more, Bound::AtMost(1.0)));
}
