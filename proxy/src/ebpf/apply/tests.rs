//! What the dataplane does when a part of it fails, and when what is around it changes.

mod tracking;

use super::*;
use crate::agent::{Agent, Event};
use crate::ebpf::between::{Hindrance, Untracking};
use crate::ebpf::fake::{Act, FakeDoor};
use crate::frontends::Place;
use crate::model::{
    Change, Kind, Node, ObjectName, Policy, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort,
    Triggered,
};
use crate::nft::settings::Locality;
use crate::nft::{FakeKernel, Nft, ruleset};
use heddle_ebpf::abi;
use heddle_netlink::Errno;
use heddle_netlink::nft::{End, Sense, Statement, TableFamily};
use std::net::Ipv4Addr;

const NODE: &str = "node-1";
const NODE_PORT: u16 = 30_080;
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

type Driven = Agent<Ebpf<Nft<FakeKernel>, FakeDoor>>;

fn agent_with(settings: &Settings) -> (Driven, Sockets) {
    let report = Sockets::default();
    let nft = Nft::new(FakeKernel::default(), settings);
    let door = FakeDoor { addresses: vec![Ipv4Addr::new(192, 168, 0, 11).into()], ..FakeDoor::default() };
    (Agent::new(NODE, Ebpf::new(nft, door, settings, report.clone())), report)
}

fn agent() -> (Driven, Sockets) {
    agent_with(&Settings::default())
}

fn tell(agent: &mut Driven, changes: impl IntoIterator<Item = Change>) {
    changes.into_iter().for_each(|change| agent.take(Event::Change(change)));
}

/// A Service of one port with one endpoint.
fn service(number: u8, node_port: Option<u16>) -> [Change; 2] {
    let name = format!("s{number}");
    let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port };
    let service = Service {
        cluster_ips: vec![[10, 96, 0, number].into()],
        ports: vec![port],
        external_policy: if node_port.is_some() { Policy::Local } else { Policy::Cluster },
        ..Service::default()
    };
    let endpoint = SliceEndpoint {
        address: [10, 244, 1, number].into(),
        ready: true,
        serving: true,
        terminating: false,
        hints: None,
        node: Some(NODE.into()),
    };
    let slice = Slice {
        service: name.as_str().into(),
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: vec![endpoint],
        trigger: Triggered::default(),
    };
    let name = ObjectName::new("default", &name);
    [Change::ServiceApplied(name.clone(), service.into()), Change::SliceApplied(name, slice.into())]
}

fn complete() -> [Change; 2] {
    [Kind::Service, Kind::Slice].map(Change::Complete)
}

fn services(count: u8) -> impl Iterator<Item = Change> {
    (1..=count).flat_map(|number| service(number, None))
}

fn acts(agent: &mut Driven, act: Act) -> usize {
    agent.dataplane().door().acts.get(&act).copied().unwrap_or_default()
}

/// How many Services packets are served, and how many frontends programs see, the proof's included; none where none run.
fn served(agent: &mut Driven) -> (usize, Option<usize>) {
    let ebpf = agent.dataplane();
    let table = &ebpf.packets().kernel().tables[&TableFamily::Ip];
    let packets = table.sets[ruleset::SERVICES].elements.len();
    let running = ebpf.door().running.is_some();
    (packets, ebpf.live.as_ref().filter(|_| running).map(|live| live.tables.held.frontends.len()))
}

/// Its wait before the next try is over, or long.
fn wait(agent: &mut Driven, over: bool) {
    let retry = if over { Instant::now() } else { Instant::now() + LONG };
    let ebpf = agent.dataplane();
    ebpf.retry = ebpf.retry.map(|_| retry);
}

fn why(report: &Sockets) -> String {
    match report.ask().state {
        State::Packets(why) => why,
        other => format!("{other:?}"),
    }
}

#[test]
fn nothing_is_loaded_before_all_is_known_and_then_maps_are_filled_before_programs_run() {
    let (mut agent, report) = agent();
    tell(&mut agent, services(2));
    assert_eq!(agent.sync(), None);
    assert!(agent.dataplane().door().acts.is_empty());
    tell(&mut agent, complete());
    assert_eq!(agent.sync(), None);
    assert_eq!(served(&mut agent), (2, Some(3)));
    let seen_first = agent.dataplane().door().running.as_ref().map(|held| held.frontends.len());
    assert_eq!((seen_first, report.ask().state), (Some(3), State::Serving));
}

#[test]
fn whatever_fails_lets_sockets_go_is_said_and_tried_again_after_a_while() {
    for act in [Act::Probes, Act::Load, Act::ServeOn, Act::Attach, Act::Prove] {
        let (mut agent, report) = agent();
        agent.dataplane().door().fails.insert(act, 2);
        tell(&mut agent, services(2).chain(complete()));
        for tries in 1..=2 {
            wait(&mut agent, true);
            assert_eq!(agent.sync(), None, "{act:?}: packets are served");
            assert_eq!(served(&mut agent), (2, None), "{act:?}");
            assert_eq!(why(&report), format!("{act:?}: told to fail"));
            assert_eq!((acts(&mut agent, act), acts(&mut agent, Act::Detach)), (tries, tries), "{act:?}");
            wait(&mut agent, false);
            assert_eq!(agent.sync(), None);
            assert_eq!(acts(&mut agent, act), tries, "{act:?}: nothing is tried before its time");
        }
        // What comes meanwhile is not forgotten.
        tell(&mut agent, service(3, None));
        assert_eq!(agent.sync(), None);
        assert_eq!(served(&mut agent), (3, None), "{act:?}");
        wait(&mut agent, true);
        assert_eq!(agent.sync(), None);
        assert_eq!((served(&mut agent), report.ask().state), ((3, Some(4)), State::Serving), "{act:?}");
        assert_eq!(agent.dataplane().retry, None, "{act:?}");
    }
}

#[test]
fn waits_grow_from_one_failure_to_the_next_and_are_short_after_a_success() {
    let (mut agent, _) = agent();
    agent.dataplane().door().fails.insert(Act::Load, 3);
    tell(&mut agent, services(1).chain(complete()));
    for _ in 0..3 {
        wait(&mut agent, true);
        agent.sync();
    }
    let mut after_four = agent.dataplane().backoff;
    wait(&mut agent, true);
    agent.sync();
    let mut after_success = agent.dataplane().backoff;
    assert!(after_four.after(true) > after_success.after(true));
    assert_eq!(served(&mut agent), (1, Some(2)));
}

#[test]
fn programs_that_cannot_be_removed_are_a_failure_of_the_sync_and_of_nothing_else() {
    let (mut agent, _) = agent();
    agent.dataplane().door().fails.extend([(Act::Prove, 1), (Act::Detach, 1)]);
    tell(&mut agent, services(1).chain(complete()));
    assert!(agent.sync().is_some(), "it is tried again");
    wait(&mut agent, true);
    assert_eq!(agent.sync(), None);
    assert_eq!(served(&mut agent), (1, Some(2)));
}

/// A change is where clients are first, and what packets cannot take does not keep it from them.
#[test]
fn a_change_is_at_sockets_before_packets_have_it() {
    let (mut agent, report) = agent();
    tell(&mut agent, services(1).chain(complete()));
    assert_eq!(agent.sync(), None);
    agent.dataplane().packets().kernel().refuse.push(Errno::NOMEM);
    tell(&mut agent, service(2, None));
    assert!(agent.sync().is_some(), "it is tried again");
    assert_eq!((served(&mut agent), report.ask().state), ((1, Some(3)), State::Serving));
    assert_eq!(agent.sync(), None);
    assert_eq!(served(&mut agent), (2, Some(3)));
}

/// Full maps: there is no room for more frontends, and packets have all of them.
#[test]
fn maps_that_cannot_grow_end_in_packets_and_sockets_are_served_again_once_they_can() {
    let (mut agent, report) = agent();
    agent.dataplane().door().limit = Some(4);
    tell(&mut agent, services(3).chain(complete()));
    assert_eq!(agent.sync(), None);
    assert_eq!(served(&mut agent), (3, Some(4)));
    tell(&mut agent, services(9));
    assert_eq!(agent.sync(), None);
    assert_eq!(served(&mut agent), (9, None));
    assert_eq!(why(&report), "write the maps: out of memory");
    wait(&mut agent, true);
    assert_eq!(agent.sync(), None);
    assert_eq!(served(&mut agent), (9, None), "nor can those of the next load");
    agent.dataplane().door().limit = None;
    wait(&mut agent, true);
    assert_eq!(agent.sync(), None);
    assert_eq!((served(&mut agent), report.ask().state), ((9, Some(10)), State::Serving));
}

#[test]
fn a_look_takes_sockets_anew_only_where_they_are_not_served() {
    let (mut agent, report) = agent();
    tell(&mut agent, services(2).chain(complete()));
    agent.sync();
    agent.take(Event::LookAgain);
    assert_eq!(acts(&mut agent, Act::Prove), 1, "nothing is asked before the sync");
    assert_eq!(agent.sync(), None);
    assert_eq!((acts(&mut agent, Act::Prove), acts(&mut agent, Act::Load)), (2, 1));

    agent.dataplane().door().running = None;
    agent.take(Event::LookAgain);
    assert_eq!(agent.sync(), None);
    assert_eq!((served(&mut agent), acts(&mut agent, Act::Load)), ((2, Some(3)), 2));
    assert_eq!((report.ask().state, acts(&mut agent, Act::Detach)), (State::Serving, 0));
}

/// Each pod that starts may give the node one: nothing is tried out for it.
#[test]
fn addresses_that_the_node_gets_later_serve_node_ports_too() {
    let (mut agent, _) = agent();
    tell(&mut agent, services(1).chain(complete()));
    agent.sync();
    let proven = acts(&mut agent, Act::Prove);
    agent.dataplane().door().addresses.push(Ipv4Addr::new(192, 168, 0, 12).into());
    agent.take(Event::AddressesChanged);
    assert!(agent.dataplane().due().is_some_and(|due| due <= Instant::now()));
    agent.sync();
    let live = agent.dataplane().live.as_ref();
    assert_eq!(live.map(|live| live.tables.held.addresses.len()), Some(2));
    assert_eq!((acts(&mut agent, Act::Load), acts(&mut agent, Act::Prove)), (1, proven));
    assert!(agent.dataplane().due().is_none_or(|due| due > Instant::now()), "they are listed once");
}

/// A Service whose external policy is local is for pods' sockets only while their packets could be told from those from outside.
#[test]
fn the_ranges_of_the_nodes_pods_decide_anew_what_pods_are_served() {
    let settings = Settings { locality: Locality::NodeNetworks, ..Settings::default() };
    let (mut agent, _) = agent_with(&settings);
    let node = |ranges: &[&str]| {
        let pod_cidrs = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Change::NodeApplied(Node { name: NODE.into(), pod_cidrs, ..Node::default() })
    };
    tell(&mut agent, service(1, Some(NODE_PORT)).into_iter().chain(complete()));
    tell(&mut agent, [node(&[]), Change::Complete(Kind::Node)]);
    let frontend = Frontend { place: Place::Node(IpFamily::V4), protocol: Protocol::Tcp, port: NODE_PORT };
    for (ranges, is_for_pods, loads) in [
        (&[][..], false, 1),
        (&["10.244.1.0/24"], true, 2),
        (&["10.244.1.0/24", "10.245.1.0/24"], true, 2),
        (&[], false, 3),
    ] {
        tell(&mut agent, [node(ranges)]);
        assert_eq!(agent.sync(), None);
        let live = agent.dataplane().live.as_ref().unwrap();
        let row = live.maps.row(&frontend).unwrap();
        let flags = live.tables.held.rows[row as usize][2] >> 32;
        assert_eq!(flags & u64::from(abi::NOT_FOR_PODS) == 0, is_for_pods, "{ranges:?}");
        assert_eq!(acts(&mut agent, Act::Load), loads, "{ranges:?}");
    }
}

fn left_out(agent: &mut Driven) -> Option<Vec<u64>> {
    Some(agent.dataplane().live.as_ref()?.tables.held.left_out.iter().copied().collect())
}

#[test]
fn pods_are_left_out_before_the_first_program_runs_and_served_again_when_they_want() {
    let (mut agent, _) = agent();
    let pod = |number: u8| {
        let name = ObjectName::new("default", &format!("pod-{number}"));
        Change::PodApplied(name, vec![[10, 244, 1, number].into()])
    };
    agent.dataplane().door().namespaces =
        (1..=2).map(|number| ([10, 244, 1, number].into(), number.into())).collect();
    tell(&mut agent, services(1).chain([pod(1)]).chain(complete()));
    assert_eq!(agent.sync(), None);
    let seen_first = agent.dataplane().door().running.as_ref().map(|held| held.left_out.clone());
    assert_eq!(seen_first, Some([1].into()));
    tell(&mut agent, [pod(2)]);
    assert_eq!(agent.sync(), None);
    assert_eq!(left_out(&mut agent), Some(vec![1, 2]));
    tell(&mut agent, [Change::PodGone(ObjectName::new("default", "pod-1"))]);
    assert_eq!(agent.sync(), None);
    assert_eq!((left_out(&mut agent), acts(&mut agent, Act::Load)), (Some(vec![2]), 1));
}

/// Where they cannot be looked for, too: that is no reason to let all sockets go.
#[test]
fn a_pod_that_is_not_found_is_looked_for_again_and_the_others_are_served() {
    for fails in [0, 1] {
        let (mut agent, report) = agent();
        let pod = Change::PodApplied(ObjectName::new("default", "pod"), vec![[10, 244, 1, 1].into()]);
        agent.dataplane().door().fails.insert(Act::LeaveOut, fails);
        tell(&mut agent, services(1).chain([pod]).chain(complete()));
        assert_eq!(agent.sync(), None);
        assert_eq!((left_out(&mut agent), report.ask().state), (Some(vec![]), State::Serving));
        agent.dataplane().door().namespaces.insert([10, 244, 1, 1].into(), 7);
        let due = agent.dataplane().due().unwrap();
        assert!(due <= Instant::now() + Duration::from_secs(1));
        agent.dataplane().left_out = LeftOut::default();
        agent.dataplane().left_out.want(&[[10, 244, 1, 1].into()].into(), Instant::now());
        assert_eq!(agent.sync(), None);
        assert_eq!(left_out(&mut agent), Some(vec![7]));
    }
}

/// The kernel lets whoever makes room wait: nothing that changes does.
#[test]
fn room_for_the_next_changes_is_made_after_a_change_and_not_in_it() {
    let (mut agent, _) = agent();
    tell(&mut agent, services(2).chain(complete()));
    agent.sync();
    let waits = |agent: &mut Driven| agent.dataplane().live.as_ref().map(|live| live.tables.waits);
    let at_first = waits(&mut agent);
    tell(&mut agent, service(3, None));
    agent.sync();
    assert_eq!(waits(&mut agent), at_first, "there was room");
    assert!(agent.dataplane().short.is_some_and(|due| agent.dataplane().due() == Some(due)));
    agent.sync();
    assert_eq!(waits(&mut agent), at_first.map(|count| count + 2), "frontends, and the rest");
    assert_eq!(agent.dataplane().short, None);
    let room = waits(&mut agent);
    tell(&mut agent, service(4, None));
    agent.sync();
    assert_eq!(waits(&mut agent), room);
}
