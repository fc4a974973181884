use super::*;
use crate::overlay::Vxlan;
use crate::plan::{METRIC, Mode};
use crate::seen::Seen;
use crate::view::Standing;
use heddle_netlink::link::LinkIndex;
use heddle_netlink::nft::TableFamily;
use heddle_netlink::route::Route;
use heddle_netlink::{Errno, Error as NetlinkError, Refusal};
use heddle_proxy::doubts::PACE;
use heddle_proxy::model::{Kind, Node};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A kernel that keeps what it is given, or refuses.
#[derive(Debug, Default)]
struct Fake {
    seen: Seen,
    refuses: bool,
    looks: usize,
}

impl Kernel for Fake {
    fn look(&mut self) -> Result<Seen, Failure> {
        self.looks += 1;
        Ok(self.seen.clone())
    }

    fn forward(&mut self, _: &BTreeSet<LinkIndex>) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    fn apply(&mut self, steps: &Steps) -> Vec<Failure> {
        if self.refuses {
            let why = Refusal { index: 0, errno: Errno::NOMEM, text: None };
            return vec![Failure::Routes(NetlinkError::Refused { refusals: vec![why] })];
        }
        self.seen = self.seen.after(steps).unwrap();
        Vec::new()
    }
}

fn node(number: u8) -> Event {
    Event::Change(Change::NodeApplied(Node {
        name: format!("node-{number}").into(),
        addresses: vec![[192, 168, 0, number].into()],
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
        ..Node::default()
    }))
}

fn agent() -> Agent<Fake> {
    let settings = Settings {
        node: "node-1".into(),
        mode: Mode::default(),
        vxlan: Vxlan::default(),
        masquerades: true,
        seen_by: Vec::new(),
        families: vec![TableFamily::Ip],
    };
    let uplink = Route::new("192.168.0.0/24".parse().unwrap(), None, LinkIndex(2));
    let seen = Seen { routes: vec![uplink], ..Seen::default() };
    Agent::new(settings, Fake { seen, ..Fake::default() })
}

fn gateways(agent: &mut Agent<Fake>) -> Vec<IpAddr> {
    agent.kernel.seen.ours().filter_map(|route| route.gateway).collect()
}

#[test]
fn nothing_is_written_before_every_node_is_known() {
    let (mut agent, now) = (agent(), Instant::now());
    agent.take(node(2));
    agent.turn(now);
    assert_eq!((agent.kernel.looks, gateways(&mut agent)), (0, vec![]));
    agent.take(Event::Change(Change::Complete(Kind::Node)));
    agent.turn(now);
    assert_eq!(gateways(&mut agent), [IpAddr::from([192, 168, 0, 2])]);
    assert!(agent.kernel.seen.ours().all(|route| route.priority == Some(METRIC)));
}

#[test]
fn what_an_earlier_agent_left_for_a_node_that_is_gone_goes_at_the_start() {
    let (mut first, mut second, now) = (agent(), agent(), Instant::now());
    let start = |agent: &mut Agent<Fake>, nodes: &[u8]| {
        nodes.iter().for_each(|number| agent.take(node(*number)));
        agent.take(Event::Change(Change::Complete(Kind::Node)));
        agent.turn(now);
    };
    start(&mut first, &[1, 2, 3]);
    second.kernel.seen = first.kernel.seen.clone();
    start(&mut second, &[1, 3]);
    assert_eq!(gateways(&mut second), [IpAddr::from([192, 168, 0, 3])]);
}

#[test]
fn what_is_refused_is_tried_again_later_and_later_and_then_not() {
    let (mut agent, mut now) = (agent(), Instant::now());
    agent.kernel.refuses = true;
    [node(1), node(2), Event::Change(Change::Complete(Kind::Node))].into_iter().for_each(|e| agent.take(e));
    assert_eq!(agent.views.now().value.standing, Standing::Waiting);
    let mut waits = Vec::new();
    for _ in 0..3 {
        agent.turn(now);
        let next = agent.retry.expect("it failed");
        waits.push(next - now);
        agent.turn(now);
        now = next;
    }
    assert_eq!(waits, [100, 200, 400].map(Duration::from_millis));
    assert_eq!(agent.kernel.looks, 3, "not before its time");
    assert_eq!(agent.views.now().value.standing, Standing::Failing);
    agent.kernel.refuses = false;
    agent.turn(now);
    assert_eq!((agent.retry, gateways(&mut agent).len()), (None, 1));
    assert_eq!(agent.views.now().value.standing, Standing::Whole);
}

#[test]
fn edits_by_others_are_undone_at_once_and_then_at_a_pace() {
    let (mut agent, now) = (agent(), Instant::now());
    [node(1), node(2), Event::Change(Change::Complete(Kind::Node))].into_iter().for_each(|e| agent.take(e));
    agent.turn(now);
    let mut damage_at = |now| {
        agent.kernel.seen.routes.truncate(1);
        agent.kernel.seen.tables.clear();
        agent.take(Event::Doubt);
        agent.turn(now);
        (agent.kernel.seen.routes.len(), agent.kernel.seen.tables.len())
    };
    assert_eq!(damage_at(now), (2, 1));
    assert_eq!(damage_at(now + PACE / 2), (1, 0));
    assert_eq!(damage_at(now + PACE), (2, 1));
}

#[test]
fn a_change_that_says_nothing_new_costs_no_look() {
    let (mut agent, now) = (agent(), Instant::now());
    [node(1), node(2), Event::Change(Change::Complete(Kind::Node))].into_iter().for_each(|e| agent.take(e));
    agent.turn(now);
    agent.take(node(2));
    agent.turn(now);
    assert_eq!(agent.kernel.looks, 1);
}

#[test]
fn one_route_of_many_that_is_refused_leaves_pods_their_network() {
    let route = || {
        let why = Refusal { index: 0, errno: Errno::NOMEM, text: None };
        Failure::Route { to: "10.244.2.0/24".parse().unwrap(), why }
    };
    assert!(is_usable(&[], 0) && is_usable(&[route()], 2));
    assert!(!is_usable(&[route()], 1), "no other node is reached");
    let all = Failure::Routes(NetlinkError::Refused { refusals: Vec::new() });
    assert!(!is_usable(&[route(), all], 9));
}

#[test]
fn only_edits_of_others_are_repairs() {
    let (mut agent, now) = (agent(), Instant::now());
    [node(1), node(2), Event::Change(Change::Complete(Kind::Node))].into_iter().for_each(|e| agent.take(e));
    agent.turn(now);
    agent.take(node(3));
    agent.turn(now);
    let repairs = |agent: &Agent<Fake>| agent.views.now().value.repairs;
    assert_eq!(repairs(&agent), 0, "it was told of all that it did");
    agent.kernel.seen.routes.truncate(1);
    agent.take(Event::Doubt);
    agent.turn(now);
    assert_eq!(repairs(&agent), 1);
    agent.take(Event::Doubt);
    agent.turn(now + PACE);
    assert_eq!(repairs(&agent), 1, "nothing was changed");
}
