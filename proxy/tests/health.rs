//! The agent's health, through the agent: on a fake kernel, in virtual time.

use heddle_netlink::nft::{CommitError, Table, TableFamily, Transaction};
use heddle_netlink::{Errno, Error};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::frontends::IpFamily;
use heddle_proxy::health::checks::Changes;
use heddle_proxy::health::{Health, Outbox, Pulse};
use heddle_proxy::model::{
    Change, Kind, Node, ObjectName, Policy, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort,
    Triggered,
};
use heddle_proxy::nft::affinity::Affinities;
use heddle_proxy::nft::{Attended, FakeKernel, Kernel, Nft, Settings};
use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const NODE: &str = "node-1";
const PERIOD: Duration = Duration::from_secs(30);

thread_local! {
    /// Virtual time since the start.
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + PASSED.get()
}

fn pass(time: Duration) {
    PASSED.set(PASSED.get() + time);
}

/// A kernel that takes its time with every answer, and keeps what a probe saw just before each.
#[derive(Debug)]
struct Slow {
    kernel: FakeKernel,
    takes: Duration,
    pulse: Pulse,
    seen: Vec<bool>,
}

impl Slow {
    fn think(&mut self) {
        pass(self.takes);
        self.seen.push(self.pulse.report().is_healthy());
    }
}

impl Kernel for Slow {
    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, Error> {
        self.think();
        self.kernel.load(family)
    }

    fn forget(&mut self, family: TableFamily, allowed: &Affinities) -> Result<usize, Error> {
        self.think();
        self.kernel.forget(family, allowed)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        self.think();
        self.kernel.commit(transaction)
    }
}

struct Stage {
    agent: Agent<Nft<Attended<Slow>>>,
    pulse: Pulse,
    checks: UnboundedReceiver<Changes>,
}

impl Stage {
    fn new(takes: Duration, refuse: Vec<Errno>) -> Self {
        let pulse = Pulse::new(Health::new(PERIOD), now);
        let kernel = FakeKernel { refuse, ..FakeKernel::default() };
        let kernel = Slow { kernel, takes, pulse: pulse.clone(), seen: Vec::new() };
        let dataplane = Nft::new(Attended::new(kernel, pulse.clone()), &Settings::default());
        let (to, checks) = unbounded_channel();
        let agent = Agent::new(NODE, dataplane).with_pulse(pulse.clone()).with_checks(Outbox::new(NODE, to));
        Self { agent, pulse, checks }
    }

    fn tell(&mut self, changes: impl IntoIterator<Item = Change>) -> Option<Duration> {
        changes.into_iter().for_each(|change| self.agent.take(Event::Change(change)));
        self.agent.sync()
    }

    /// Port and count of each check that was handed over since the last call.
    fn checks(&mut self) -> Vec<(IpFamily, Option<(u16, usize)>)> {
        let mut all = Vec::new();
        while let Ok(changes) = self.checks.try_recv() {
            all.extend(
                changes.checks.into_iter().map(|((f, _), check)| (f, check.map(|c| (c.port, c.local)))),
            );
        }
        all
    }
}

fn complete() -> [Change; 2] {
    [Change::Complete(Kind::Service), Change::Complete(Kind::Slice)]
}

fn web(health_check_node_port: Option<u16>) -> Change {
    let port =
        ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: Some(30_080) };
    let service = Service {
        cluster_ips: vec![[10, 96, 0, 1].into()],
        ports: vec![port],
        external_policy: Policy::Local,
        health_check_node_port,
        ..Service::default()
    };
    Change::ServiceApplied(ObjectName::new("shop", "web"), service.into())
}

fn endpoints(count: u8) -> Change {
    let endpoint = |last| SliceEndpoint {
        address: [10, 0, 0, last].into(),
        ready: true,
        serving: true,
        terminating: false,
        hints: None,
        node: Some(NODE.into()),
    };
    let port = SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 };
    let endpoints = (0..count).map(endpoint).collect();
    let trigger = Triggered::default();
    let slice = Slice { service: "web".into(), ports: vec![port], endpoints, trigger };
    Change::SliceApplied(ObjectName::new("shop", "web-1"), slice.into())
}

/// kp:P8: sixteen minutes in one sync, four for each answer of the kernel.
#[test]
fn a_sync_that_is_slow_and_goes_on_keeps_the_node_healthy() {
    let mut stage = Stage::new(Duration::from_mins(4), Vec::new());
    assert_eq!(stage.tell(complete()), None);
    assert_eq!(PASSED.get(), Duration::from_mins(16), "two tables are read and written");
    assert!(stage.agent.dataplane().kernel().inner().seen.iter().all(|healthy| *healthy));
    assert!(stage.pulse.report().is_healthy() && stage.pulse.report().is_ready());
}

#[test]
fn a_kernel_that_does_not_answer_makes_the_node_unhealthy_until_it_does() {
    let mut stage = Stage::new(Duration::from_mins(6), Vec::new());
    assert_eq!(stage.tell(complete()), None);
    assert!(stage.agent.dataplane().kernel().inner().seen.iter().all(|healthy| !*healthy));
    assert!(stage.pulse.report().is_healthy(), "all is written now");
}

/// kp:G2
#[test]
fn writes_that_fail_for_two_sync_periods_make_the_node_unhealthy_until_one_succeeds() {
    let mut stage = Stage::new(Duration::ZERO, vec![Errno::NOMEM; 4]);
    assert!(stage.tell(complete()).is_some());
    assert!(stage.pulse.report().is_healthy() && !stage.pulse.report().is_ready());
    pass(PERIOD * 2);
    assert!(!stage.pulse.report().is_healthy());
    assert!(stage.agent.sync().is_some());
    assert!(!stage.pulse.report().is_healthy());
    assert_eq!(stage.agent.sync(), None);
    assert!(stage.pulse.report().is_healthy() && stage.pulse.report().is_ready());
    pass(Duration::from_hours(24));
    assert!(stage.pulse.report().is_healthy(), "an idle day is a good day");
}

/// kp:G4
#[test]
fn the_node_is_eligible_while_its_object_is_there_and_not_about_to_go() {
    let mut stage = Stage::new(Duration::ZERO, Vec::new());
    let eligible = |stage: &Stage| stage.pulse.report().is_eligible;
    assert!(!eligible(&stage), "nobody knows the node");
    stage.tell([Change::NodeApplied(Node::default())]);
    assert!(eligible(&stage), "also before the first sync");
    stage.tell([Change::NodeApplied(Node { is_leaving: true, ..Node::default() })]);
    assert!(!eligible(&stage));
    stage.tell([Change::NodeApplied(Node::default())]);
    assert!(eligible(&stage));
    stage.tell([Change::NodeGone(NODE.into())]);
    assert!(!eligible(&stage));
}

/// kp:H7: a load balancer that is told of an endpoint finds it.
#[test]
fn health_checks_are_handed_over_once_the_kernel_routes_to_what_they_count() {
    let mut stage = Stage::new(Duration::ZERO, Vec::new());
    stage.tell([web(Some(30_001))]);
    assert_eq!(stage.checks(), [], "nothing is written before all is known");
    stage.tell(complete());
    assert_eq!(stage.checks(), [(IpFamily::V4, Some((30_001, 0)))]);
    stage.agent.dataplane().kernel().inner().kernel.refuse = vec![Errno::NOMEM];
    assert!(stage.tell([endpoints(2)]).is_some());
    assert_eq!(stage.checks(), []);
    assert_eq!(stage.agent.sync(), None);
    assert_eq!(stage.checks(), [(IpFamily::V4, Some((30_001, 2)))]);
}

#[test]
fn a_health_check_that_changes_alone_needs_no_write() {
    let mut stage = Stage::new(Duration::ZERO, Vec::new());
    stage.tell(complete().into_iter().chain([web(Some(30_001)), endpoints(1)]));
    stage.checks();
    let writes = stage.agent.dataplane().kernel().inner().kernel.taken.len();
    stage.tell([web(Some(30_002))]);
    assert_eq!(stage.checks(), [(IpFamily::V4, Some((30_002, 1)))]);
    stage.tell([web(None)]);
    assert_eq!(stage.checks(), [(IpFamily::V4, None)]);
    assert_eq!(stage.agent.dataplane().kernel().inner().kernel.taken.len(), writes);
}
