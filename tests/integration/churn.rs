//! Endpoint churn under load: two hundred changes a second through the API server, while clients connect all the time.
//!
//! Each Service that clients use has one endpoint that is ready all along. Whatever happens around it, no connection may
//! be refused, get lost or arrive elsewhere. Some endpoints that come and go are addresses where nobody answers; those
//! are never said to be ready.

use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::Proxy;
use heddle_tests::traffic::{Outcome, Report, Server, Steady, Transport, attempt_here};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

type Outcomes = Result<(), Box<dyn Error>>;

const NODE: &str = "node-1";
const API: &str = "192.168.0.1:6443";
const CHANGES_PER_SECOND: u32 = 200;
/// A minute of them.
const CHANGES: u32 = 60 * CHANGES_PER_SECOND;
/// Between two attempts of one client: with eight clients, about a thousand connections a second.
const PACE: Duration = Duration::from_millis(5);
/// How long silence is listened to before it is asked again.
const SILENCE: Duration = Duration::from_millis(100);

/// The one endpoint that is ready all along, others that answer, and addresses where nobody does.
const STAYING: [u8; 4] = [10, 244, 1, 11];
const GUESTS: [[u8; 4]; 2] = [[10, 244, 1, 12], [10, 244, 1, 13]];
const NOBODY: [[u8; 4]; 2] = [[10, 244, 1, 98], [10, 244, 9, 99]];

/// The Services that clients use. Each has ports of its own on the pods, so that a connection that arrives elsewhere is
/// answered by another name.
const WEBS: [Web; 4] = [
    Web { name: "untouched", number: 0, churns: false },
    Web { name: "endpoints", number: 1, churns: true },
    Web { name: "policies", number: 2, churns: true },
    Web { name: "balanced", number: 3, churns: true },
];
/// Where Services that come and go have their addresses.
const PASSING: u8 = 100;

struct Web {
    name: &'static str,
    number: u8,
    churns: bool,
}

impl Web {
    fn cluster_ip(&self) -> IpAddr {
        [10, 96, 0, 10 + self.number].into()
    }

    fn target(&self) -> u16 {
        8080 + u16::from(self.number)
    }

    fn node_port(&self) -> u16 {
        30_080 + u16::from(self.number)
    }

    fn balancer_ip(&self) -> IpAddr {
        [198, 51, 100, 10 + self.number].into()
    }

    /// Reached in every way, with policies, affinity and source ranges that depend on the turn.
    fn service(&self, turn: u64) -> Value {
        let mut object = service(self.name, &[self.cluster_ip()], 80, self.target());
        let policy = |bit: u64| if turn >> bit & 1 == 0 { "Cluster" } else { "Local" };
        object["spec"]["type"] = json!("LoadBalancer");
        object["spec"]["ports"][0]["nodePort"] = json!(self.node_port());
        object["spec"]["internalTrafficPolicy"] = json!(policy(0));
        object["spec"]["externalTrafficPolicy"] = json!(policy(1));
        object["spec"]["sessionAffinity"] = json!(if turn >> 2 & 1 == 0 { "None" } else { "ClientIP" });
        let ranges = [&[][..], &["192.168.0.0/16"], &["192.168.0.0/24", "10.0.0.0/8"], &["192.168.0.250/32"]];
        object["spec"]["loadBalancerSourceRanges"] = json!(ranges[usize::try_from(turn % 4).unwrap_or(0)]);
        object["status"]["loadBalancer"]["ingress"] = json!([{ "ip": self.balancer_ip() }]);
        object
    }

    /// The endpoint that stays, and what else the turn says: ready guests, and nobodies that are not.
    fn slice(&self, turn: u64) -> Value {
        let mut object = slice(self.name, NODE, &[STAYING.into()], self.target());
        let Some(endpoints) = object["endpoints"].as_array_mut() else { return object };
        for (bit, guest) in (0..).zip(GUESTS) {
            if turn >> bit & 1 == 1 {
                endpoints.push(endpoint(guest, (true, true, false)));
            }
        }
        let unready = [(false, false, false), (false, true, true), (false, false, true)];
        for (bit, nobody) in (2..).zip(NOBODY) {
            if turn >> bit & 1 == 1 {
                endpoints.push(endpoint(nobody, unready[usize::try_from(turn % 3).unwrap_or(0)]));
            }
        }
        let length = u64::try_from(endpoints.len()).unwrap_or(1);
        endpoints.rotate_left(usize::try_from(turn % length).unwrap_or(0));
        object
    }
}

fn endpoint(address: [u8; 4], (ready, serving, terminating): (bool, bool, bool)) -> Value {
    json!({
        "addresses": [IpAddr::from(address)], "nodeName": NODE,
        "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
    })
}

/// A node whose pods serve everything, an API server, and a proxy that follows it.
struct Stage {
    proxy: Proxy,
    api: ApiServer,
    _servers: Vec<Server>,
    _pods: Vec<Pod>,
    client: Pod,
    lab: Lab,
}

impl Stage {
    fn new() -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&[NODE])?;
        let node = lab.node(NODE)?;
        let client = node.pod_at("client", &["10.244.1.10".parse()?])?;
        let (mut pods, mut servers) = (Vec::new(), Vec::new());
        for (name, address) in
            ["staying", "guest-1", "guest-2"].into_iter().zip([STAYING, GUESTS[0], GUESTS[1]])
        {
            let pod = node.pod_at(name, &[address.into()])?;
            for web in &WEBS {
                servers.push(Server::start(pod.namespace(), web.name, Transport::Tcp, web.target())?);
            }
            pods.push(pod);
        }
        let listener = lab.fabric().enter(|| TcpListener::bind(API))??;
        let api = ApiServer::start(listener, Options::default())?;
        for web in &WEBS {
            api.apply(web.service(0))?;
            api.apply(web.slice(0))?;
            lab.steer(web.balancer_ip(), NODE)?;
        }
        let kubeconfig = node.directory().join("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig())?;
        let source = ["--kubeconfig", &*kubeconfig.to_string_lossy(), "--cluster-cidr", "10.244.0.0/16"];
        let proxy = Proxy::start_with(node, &source)?;
        proxy.ready(node)?;
        Ok(Self { proxy, api, _servers: servers, _pods: pods, client, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node(NODE)?)
    }

    /// One change: of endpoints mostly, of a Service's policies, or of a Service that nobody uses, which comes or goes.
    fn change(&self, turn: u64) -> Outcomes {
        let churning: Vec<&Web> = WEBS.iter().filter(|web| web.churns).collect();
        let web = churning[usize::try_from(turn)? % churning.len()];
        let draw = mixed(turn);
        match turn % 8 {
            0 => drop(self.api.apply(web.service(draw))?),
            1 | 2 => self.pass(draw)?,
            _ if web.name == "policies" => drop(self.api.apply(web.service(draw))?),
            _ => drop(self.api.apply(web.slice(draw))?),
        }
        Ok(())
    }

    fn pass(&self, draw: u64) -> Outcomes {
        let last = PASSING + u8::try_from(draw % 20)?;
        let name = format!("passing-{last}");
        if self.api.get("services", "default", &name).is_some() {
            self.api.delete("services", "default", &name)?;
            self.api.delete("endpointslices", "default", &format!("{name}-4"))?;
        } else {
            let count = usize::try_from(draw >> 8 & 3)?;
            let endpoints: Vec<IpAddr> = GUESTS.into_iter().take(count).map(IpAddr::from).collect();
            self.api.apply(service(&name, &[[10, 96, 0, last].into()], 80, 8080))?;
            self.api.apply(slice(&name, NODE, &endpoints, 8080))?;
        }
        Ok(())
    }

    /// Waits until what is said last is done, and so all that was said before.
    fn follows(&self) -> Outcomes {
        let address = SocketAddr::from(([10, 96, 0, 9], 80));
        self.api.apply(slice("last", NODE, &[STAYING.into()], WEBS[0].target()))?;
        self.api.apply(service("last", &[address.ip()], 80, WEBS[0].target()))?;
        eventually("the last change", PATIENCE, || {
            let outcome = self.client.namespace().enter(|| attempt_here(Transport::Tcp, address, SILENCE));
            match outcome.map_err(|e| e.to_string())? {
                Outcome::Answer { .. } => Ok(()),
                other => Err(other.to_string()),
            }
        })?;
        Ok(())
    }

    fn clients(&self) -> Result<Vec<(&'static Web, Steady)>, Box<dyn Error>> {
        let (pod, outside) = (self.client.namespace(), self.lab.outside());
        let node: IpAddr = self.node()?.addresses()[0];
        let mut clients = Vec::new();
        for web in &WEBS {
            let mut start = |from: &Namespace, to: SocketAddr| -> Outcomes {
                clients.push((web, Steady::paced(PACE, from, Transport::Tcp, to)?));
                Ok(())
            };
            start(pod, (web.cluster_ip(), 80).into())?;
            match web.name {
                "endpoints" | "policies" => start(outside, (node, web.node_port()).into())?,
                "balanced" => start(outside, (web.balancer_ip(), 80).into())?,
                _ => start(self.node()?.namespace(), (web.cluster_ip(), 80).into())?,
            }
        }
        Ok(clients)
    }
}

/// Spreads the bits of a number, always in the same way (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[expect(clippy::disallowed_methods, reason = "changes come at their rate, whatever follows from them")]
fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

#[test]
fn no_connection_to_an_endpoint_that_is_ready_all_along_fails_in_a_minute_of_churn() -> Outcomes {
    let stage = Stage::new()?;
    let clients = stage.clients()?;
    let start = Instant::now();
    let pause = Duration::from_secs(1) / CHANGES_PER_SECOND;
    for turn in 0..CHANGES {
        stage.change(u64::from(turn))?;
        sleep_until(start + turn * pause);
    }
    let made = start.elapsed();
    let reports = clients.into_iter().map(|(web, client)| Ok((web, client.stop()?)));
    let reports: Vec<(&Web, Report)> = reports.collect::<Result<_, heddle_tests::namespace::Error>>()?;
    let told = Instant::now();
    stage.follows()?;
    println!("{CHANGES} changes in {made:.1?}; the proxy was up to date {:.1?} later", told.elapsed());
    for (web, report) in &reports {
        assert!(report.is_flawless(), "{}: {report:?}", web.name);
        assert!(report.attempts > 1000, "{}: {report:?}", web.name);
        assert_eq!(report.answered.keys().collect::<Vec<_>>(), [web.name], "{report:?}");
    }
    assert!(!stage.proxy.log().contains("ERROR"), "{}", stage.proxy.log());
    Ok(())
}
