//! From changes to a (fake) kernel's tables: properties of the pure middle, and the agent's loop.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::Errno;
use heddle_netlink::nft::{Cells, Data, Elements, End, Op, Sense, Statement, Table, TableFamily};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::dataplane::{Dataplane, SetAside, Surroundings, Synced};
use heddle_proxy::delta::Delta;
use heddle_proxy::frontends::{Backends, Frontend, Frontends, Place, resolve};
use heddle_proxy::model::{
    Change, Hints, Kind, Model, Node, ObjectName, Policy, Protocol, Service, ServicePort, Slice,
    SliceEndpoint, SlicePort, Triggered,
};
use heddle_proxy::nft::settings::{Locality, NodePortAddresses};
use heddle_proxy::nft::{FakeKernel, Nft, Settings, diff, ruleset};
use heddle_proxy::problems::{News, Problem};
use heddle_proxy::status::{Report, Reports};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const NODE: &str = "node-1";

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

fn service(last: u8, ports: &[(&str, Protocol, u16)]) -> Service {
    let port = |&(name, protocol, port): &(&str, Protocol, u16)| ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port: None,
    };
    let ips: [IpAddr; 2] = [[10, 96, 0, last].into(), [0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from(last)].into()];
    Service { cluster_ips: ips.into(), ports: ports.iter().map(port).collect(), ..Service::default() }
}

fn slice(service: &str, endpoints: &[(u8, bool)]) -> Slice {
    let port = SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 };
    let endpoint = |&(last, ready): &(u8, bool)| SliceEndpoint {
        address: [10, 0, 0, last].into(),
        ready,
        serving: ready,
        terminating: false,
        hints: None,
        node: Some(if last % 2 == 0 { NODE } else { "node-2" }.into()),
    };
    let endpoints = endpoints.iter().map(endpoint).collect();
    Slice { service: service.into(), ports: vec![port], endpoints, trigger: Triggered::default() }
}

fn http(last: u8) -> Service {
    service(last, &[("http", Protocol::Tcp, 80)])
}

fn complete() -> [Change; 2] {
    [Change::Complete(Kind::Service), Change::Complete(Kind::Slice)]
}

/// A Service of any kind, where addresses, ports and names often meet.
fn any_service() -> impl Strategy<Value = Service> {
    let ports = prop::sample::subsequence(
        vec![("http", Protocol::Tcp, 80), ("dns", Protocol::Udp, 53), ("http", Protocol::Sctp, 80)],
        0..=3,
    );
    let policy = || prop::sample::select(vec![Policy::Cluster, Policy::Local]);
    let affinity = prop::option::of(prop::sample::select(vec![60, 10_800]));
    let ranges =
        prop::sample::subsequence(vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "fd00::/16"], 0..=4);
    (1..3_u8, ports, prop::option::of(30_000..30_002_u16), (policy(), policy()), affinity, ranges).prop_map(
        |(last, ports, node_port, (internal_policy, external_policy), affinity, ranges)| {
            let plain = service(last, &ports);
            let ports = plain.ports.into_iter().map(|port| ServicePort { node_port, ..port }).collect();
            Service {
                ports,
                external_ips: vec![[192, 0, 2, 1].into()],
                load_balancer_ips: vec![[192, 0, 2, last].into()],
                internal_policy,
                external_policy,
                affinity: affinity.and_then(std::num::NonZeroU32::new),
                source_ranges: ranges.iter().map(|r| r.parse().unwrap()).collect(),
                ..plain
            }
        },
    )
}

/// Changes of a small cluster.
fn change() -> impl Strategy<Value = Change> {
    let service_name = prop::sample::select(vec!["a", "b", "c"]);
    let slice_name = prop::sample::select(vec!["a-1", "a-2", "b-1"]);
    let endpoints = prop::collection::vec((1..6_u8, any::<bool>()), 0..5);
    let node = Node { addresses: vec![[10, 1, 0, 1].into()], ..Node::default() };
    prop_oneof![
        8 => (service_name.clone(), any_service()).prop_map(|(n, service)| Change::ServiceApplied(name(n), service.into())),
        2 => service_name.clone().prop_map(|n| Change::ServiceGone(name(n))),
        8 => (slice_name.clone(), service_name, endpoints)
            .prop_map(|(n, of, endpoints)| Change::SliceApplied(name(n), slice(of, &endpoints).into())),
        2 => slice_name.prop_map(|n| Change::SliceGone(name(n))),
        1 => Just(Change::NodeApplied(node)),
        1 => Just(Change::ServiceCidrApplied("cidr".into(), vec!["10.96.0.0/16".parse().unwrap()])),
        1 => Just(Change::ServiceCidrGone("cidr".into())),
    ]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 0..24)
}

fn model_of(changes: &[Change]) -> Model {
    let mut model = Model::default();
    changes.iter().cloned().for_each(|change| model.apply(change));
    model
}

fn agent() -> Agent<Nft<FakeKernel>> {
    Agent::new(NODE, Nft::new(FakeKernel::default(), &Settings::default()))
}

fn tell(agent: &mut Agent<Nft<FakeKernel>>, changes: impl IntoIterator<Item = Change>) {
    changes.into_iter().for_each(|change| agent.take(Event::Change(change)));
}

fn kernel_tables(agent: &mut Agent<Nft<FakeKernel>>) -> Vec<Table> {
    agent.dataplane().kernel().tables.values().cloned().collect()
}

fn wanted_tables(agent: &mut Agent<Nft<FakeKernel>>) -> Vec<Table> {
    agent.dataplane().tables().cloned().collect()
}

/// A table with each frontend's endpoints in the order of their bytes, since slots may be in any order.
fn with_sorted_slots(mut table: Table) -> Table {
    for set in ruleset::SLOTS {
        sort_slots(&mut table.sets.get_mut(set).unwrap().elements);
    }
    table
}

fn sort_slots(endpoints: &mut Elements) {
    let keys: Vec<_> = endpoints.keys().collect();
    let without_slot = |key: &Cells| key.as_bytes()[..key.as_bytes().len() - 4].to_vec();
    let groups: BTreeSet<Vec<u8>> = keys.iter().map(without_slot).collect();
    for group in groups {
        let of_group: Vec<_> = keys.iter().filter(|k| without_slot(k) == group).collect();
        let mut data: Vec<Data> = of_group.iter().map(|k| endpoints.get(k).unwrap()).collect();
        data.sort_by_key(|d| format!("{d:?}"));
        for (key, datum) in of_group.into_iter().zip(data) {
            endpoints.insert(*key, &datum);
        }
    }
}

proptest! {
    #[test]
    fn frontends_kept_up_change_by_change_are_those_resolved_at_once(changes in changes()) {
        let mut model = Model::default();
        let mut kept = Frontends::new(NODE);
        for change in changes {
            model.apply(change);
            let dirty = model.take_dirty();
            kept.update(&model, &dirty, |_| ());
        }
        prop_assert_eq!(kept.to_string(), resolve(&model, NODE).to_string());
    }

    #[test]
    fn the_order_in_which_objects_are_applied_does_not_matter(changes in changes(), seed in any::<u64>()) {
        // The last change of each object decides; those in any order give the same model.
        let mut last: BTreeMap<String, Change> = BTreeMap::new();
        for change in &changes {
            let object = match change {
                Change::ServiceApplied(n, _) | Change::ServiceGone(n) => format!("service {n}"),
                Change::SliceApplied(n, _) | Change::SliceGone(n) => format!("slice {n}"),
                Change::NodeApplied(_) | Change::NodeGone => "node".to_owned(),
                Change::ServiceCidrApplied(n, _) | Change::ServiceCidrGone(n) => format!("range {n}"),
                Change::Complete(_) => continue,
            };
            last.insert(object, change.clone());
        }
        let mut shuffled: Vec<Change> = last.into_values().collect();
        let len = shuffled.len().max(1);
        shuffled.rotate_left(usize::try_from(seed % 97).unwrap() % len);
        if seed % 2 == 0 {
            shuffled.reverse();
        }
        let at_once = resolve(&model_of(&shuffled), NODE).to_string();
        prop_assert_eq!(at_once, resolve(&model_of(&changes), NODE).to_string());
    }

    #[test]
    fn the_kernel_ends_as_wanted_however_changes_are_gathered(
        changes in prop::collection::vec((change(), any::<bool>()), 0..24), packets in any::<bool>(),
    ) {
        let mut agent = agent();
        if packets {
            agent.dataplane().kernel().transit = Duration::from_hours(1);
        }
        tell(&mut agent, complete());
        for (change, sync) in &changes {
            tell(&mut agent, [change.clone()]);
            if *sync {
                prop_assert_eq!(agent.sync(), None);
            }
        }
        agent.dataplane().kernel().transit = Duration::ZERO;
        prop_assert_eq!(agent.sync(), None);
        prop_assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
        prop_assert_eq!(agent.dataplane().kernel().loads, 2, "nothing was refused, so each family was read once");

        let mut fresh = self::agent();
        tell(&mut fresh, changes.into_iter().map(|(change, _)| change).chain(complete()));
        fresh.sync();
        let sorted = |agent: &mut Agent<_>| kernel_tables(agent).into_iter().map(with_sorted_slots).collect::<Vec<_>>();
        prop_assert_eq!(sorted(&mut agent), sorted(&mut fresh));
    }

    #[test]
    fn any_table_of_ours_becomes_any_other_and_then_needs_nothing(from in changes(), to in changes()) {
        let tables = |changes: Vec<Change>| {
            let mut agent = agent();
            tell(&mut agent, changes.into_iter().chain(complete()));
            agent.sync();
            wanted_tables(&mut agent)
        };
        for (have, want) in tables(from).iter().zip(tables(to)) {
            let update = diff::diff(Some(have), &want);
            let mut table = Some(have.clone());
            for transaction in &update.transactions {
                table = Table::after(table.as_ref(), transaction).unwrap();
            }
            for transaction in diff::removals(want.family, &update.remains) {
                table = Table::after(table.as_ref(), &transaction).unwrap();
            }
            prop_assert_eq!(table.as_ref(), Some(&want));
            let again = diff::diff(table.as_ref(), &want);
            prop_assert!(again.transactions.is_empty() && again.remains.is_empty());
        }
    }
}

/// kp:A13
#[test]
fn nothing_is_written_before_services_and_slices_are_complete() {
    let mut agent = agent();
    tell(&mut agent, [Change::ServiceApplied(name("web"), http(1).into()), Change::Complete(Kind::Service)]);
    assert_eq!(agent.sync(), None);
    assert!(agent.dataplane().kernel().taken.is_empty());
    tell(&mut agent, [Change::Complete(Kind::Slice)]);
    agent.sync();
    assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
}

fn agent_with_web(endpoints: &[(u8, bool)]) -> Agent<Nft<FakeKernel>> {
    let mut agent = agent();
    tell(
        &mut agent,
        [
            Change::ServiceApplied(name("web"), http(1).into()),
            Change::SliceApplied(name("web-1"), slice("web", endpoints).into()),
        ],
    );
    tell(&mut agent, complete());
    assert_eq!(agent.sync(), None);
    agent.dataplane().kernel().taken.clear();
    agent
}

/// kp:H4: what did not change is not sent again.
#[test]
fn one_changed_endpoint_is_one_batch_of_two_elements() {
    let mut agent = agent_with_web(&[(1, true), (3, true), (5, true)]);
    tell(
        &mut agent,
        [Change::SliceApplied(name("web-1"), slice("web", &[(1, true), (7, true), (5, true)]).into())],
    );
    agent.sync();
    let taken = &agent.dataplane().kernel().taken;
    assert_eq!(taken.len(), 1);
    let elements: Vec<&str> = taken[0]
        .ops
        .iter()
        .map(|op| match op {
            Op::DeleteElement(set, ..) | Op::AddElement(set, ..) => &**set,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(elements, [ruleset::ENDPOINTS; 2]);
    assert_eq!(taken[0].encode().0.len(), 4, "begin, delete, add, end");
}

/// What a packet may be led to by a verdict that it found a moment ago is still there, and what it is led to is there
/// before the verdict is (docs/decisions/commits-between-lookups.md).
#[test]
fn between_two_commits_every_slot_that_a_verdict_leads_to_has_an_endpoint() {
    let mut agent = agent_with_web(&[(1, true), (3, true), (5, true)]);
    let mut seen = kernel_tables(&mut agent)[0].clone();
    for endpoints in
        [&[(3, true)][..], &[(3, true), (7, true), (9, true), (5, true)], &[(5, true), (9, true)]]
    {
        tell(&mut agent, [Change::SliceApplied(name("web-1"), slice("web", endpoints).into())]);
        agent.dataplane().kernel().taken.clear();
        assert_eq!(agent.sync(), None);
        let taken = std::mem::take(&mut agent.dataplane().kernel().taken);
        for transaction in taken.iter().filter(|transaction| transaction.family == TableFamily::Ip) {
            let next = Table::after(Some(&seen), transaction).unwrap().unwrap();
            for verdicts in [&seen, &next] {
                assert!(arrives(&seen, verdicts, &next), "{transaction}");
            }
            seen = next;
        }
        assert_eq!(seen, kernel_tables(&mut agent)[0]);
    }
}

/// One endpoint in place of three is a new chain, then the verdict, then two slots less.
#[test]
fn a_failure_between_two_commits_of_a_change_leaves_every_slot_served_and_heals() {
    for passing in 0..3 {
        let mut agent = agent_with_web(&[(1, true), (3, true), (5, true)]);
        let before = kernel_tables(&mut agent)[0].clone();
        let kernel = agent.dataplane().kernel();
        (kernel.passing, kernel.refuse) = (passing, vec![Errno::NOMEM]);
        tell(&mut agent, [Change::SliceApplied(name("web-1"), slice("web", &[(1, true)]).into())]);
        assert!(agent.sync().is_some(), "the time of the next try");
        let left = kernel_tables(&mut agent)[0].clone();
        assert_eq!(left == before, passing == 0);
        assert!(arrives(&left, &left, &left));
        assert_eq!(agent.sync(), None);
        assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
    }
}

/// A packet that is held up between its lookups over any number of commits.
#[test]
fn what_a_packet_may_be_on_its_way_to_stands_until_it_has_arrived() {
    let mut agent = agent_with_web(&[(1, true), (3, true), (5, true)]);
    let early = kernel_tables(&mut agent)[0].clone();
    agent.dataplane().kernel().transit = Duration::from_hours(1);
    for endpoints in [&[(1, true), (3, true)][..], &[(1, true)], &[(1, true), (7, true)], &[(9, true)]] {
        tell(&mut agent, [Change::SliceApplied(name("web-1"), slice("web", endpoints).into())]);
        assert_eq!(agent.sync(), None);
        let late = &kernel_tables(&mut agent)[0];
        assert!(arrives(late, &early, late), "{late}");
    }
    assert!(agent.dataplane().due().is_some());
    agent.dataplane().kernel().transit = Duration::ZERO;
    assert_eq!(agent.sync(), None);
    assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
    assert_eq!(agent.dataplane().due(), None);
}

/// A rollout that takes an endpoint out and in again: what is still there is used as it is.
#[test]
fn what_comes_back_before_it_was_removed_costs_its_verdict_alone() {
    let mut agent = agent_with_web(&[(1, true), (3, true), (5, true)]);
    agent.dataplane().kernel().transit = Duration::from_hours(1);
    for (endpoints, operations) in [
        (&[(1, true), (3, true)][..], 5),
        (&[(1, true), (3, true), (5, true)], 2),
        (&[(1, true), (3, true)], 2),
    ] {
        agent.dataplane().kernel().taken.clear();
        tell(&mut agent, [Change::SliceApplied(name("web-1"), slice("web", endpoints).into())]);
        assert_eq!(agent.sync(), None);
        let taken = &agent.dataplane().kernel().taken;
        assert_eq!(taken.iter().map(|sent| sent.ops.len()).sum::<usize>(), operations, "{taken:?}");
    }
    agent.take(Event::Doubt);
    assert_eq!(agent.sync(), None);
    assert_eq!(agent.dataplane().kernel().loads, 4, "two tables at the start and now");
    agent.dataplane().kernel().transit = Duration::ZERO;
    assert_eq!(agent.sync(), None);
    assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
}

/// Whether a packet that meets the hook with these rules finds a rule by each verdict, and an endpoint in each slot.
fn arrives(rules: &Table, verdicts: &Table, slots: &Table) -> bool {
    verdicts.sets[ruleset::SERVICES].elements.iter().all(|(frontend, verdict)| {
        let Data::Goto(chain) = verdict else { return false };
        let count: u32 = chain.trim_start_matches("cluster-").parse().unwrap();
        let filled = &slots.sets[ruleset::ENDPOINTS].elements;
        rules.chains.contains_key(&chain) && (0..count).all(|slot| filled.contains_key(&frontend.slot(slot)))
    })
}

/// kp:C11: a filter that comes or goes drops no packet of those who are allowed all along.
#[test]
fn a_filter_has_its_sources_before_it_comes_and_until_it_is_gone() {
    let mut agent = agent_with_web(&[(1, true)]);
    let filtered = |ranges: &[&str]| Service {
        load_balancer_ips: vec![[192, 0, 2, 1].into()],
        source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..http(1)
    };
    tell(&mut agent, [Change::ServiceApplied(name("web"), filtered(&[]).into())]);
    assert_eq!(agent.sync(), None);
    for (ranges, order) in [
        (&["10.0.0.0/8"][..], [ruleset::SOURCES, ruleset::FILTERED]),
        (&[], [ruleset::FILTERED, ruleset::SOURCES]),
    ] {
        agent.dataplane().kernel().taken.clear();
        tell(&mut agent, [Change::ServiceApplied(name("web"), filtered(ranges).into())]);
        assert_eq!(agent.sync(), None);
        let taken = &agent.dataplane().kernel().taken;
        let with = |set: &str| {
            let touches =
                |op: &Op| matches!(op, Op::AddElement(s, ..) | Op::DeleteElement(s, ..) if &**s == set);
            taken.iter().position(|transaction| transaction.ops.iter().any(touches)).unwrap()
        };
        assert!(with(order[0]) < with(order[1]), "{order:?}");
    }
}

/// kp:H1, kp:H2: a quiet agent waits for nothing, and what comes while it is busy is written as one.
#[test]
fn a_change_is_written_at_once_and_what_gathered_in_one_batch() {
    let mut agent = agent_with_web(&[(1, true)]);
    let now = Instant::now();
    let endpoint =
        |last| Event::Change(Change::SliceApplied(name("web-1"), slice("web", &[(last, true)]).into()));
    assert_eq!(agent.turn([endpoint(3)], || now), None);
    assert_eq!(agent.dataplane().kernel().taken.len(), 1);
    assert_eq!(agent.turn([endpoint(5), endpoint(7), endpoint(9)], || now), None, "at the same moment");
    assert_eq!(agent.dataplane().kernel().taken.len(), 2);
    assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
    assert_eq!(agent.turn([], || now), None);
    assert_eq!(agent.dataplane().kernel().taken.len(), 2, "nothing is written by the clock");
}

/// kp:H1: the node's zone decides which endpoints are near, so it counts at once too.
#[test]
fn another_zone_of_the_node_is_written() {
    let mut agent = agent_with_web(&[(1, true)]);
    let near = |last: u8, zone: &str| {
        let endpoint = slice("web", &[(last, true)]).endpoints.remove(0);
        let hints = Hints { zones: vec![zone.into()], ..Hints::default() };
        SliceEndpoint { hints: Some(Box::new(hints)), ..endpoint }
    };
    let endpoints = vec![near(1, "a"), near(3, "b")];
    let changes = [Change::SliceApplied(name("web-1"), Slice { endpoints, ..slice("web", &[]) }.into())];
    tell(&mut agent, changes);
    for (zone, address) in [("a", "10.0.0.1"), ("b", "10.0.0.3")] {
        let node = Node { zone: Some(zone.into()), ..Node::default() };
        tell(&mut agent, [Change::NodeApplied(node)]);
        assert_eq!(agent.sync(), None);
        let printed = kernel_tables(&mut agent)[0].to_string();
        assert!(printed.contains(&format!("{address} . 8080")), "{printed}");
    }
}

#[test]
fn a_change_that_changes_nothing_for_packets_does_not_reach_the_kernel() {
    let mut agent = agent_with_web(&[(1, true)]);
    tell(&mut agent, [Change::SliceApplied(name("web-1"), slice("web", &[(1, true), (3, false)]).into())]);
    assert_eq!(agent.sync(), None);
    assert!(agent.dataplane().kernel().taken.is_empty());
}

/// kp:P7
#[test]
fn a_first_write_that_fails_is_tried_again_on_a_timer() {
    let mut agent = agent();
    agent.dataplane().kernel().refuse = vec![Errno::NOMEM];
    tell(&mut agent, [Change::ServiceApplied(name("web"), http(1).into())]);
    tell(&mut agent, complete());
    assert!(agent.sync().is_some(), "the time of the next try");
    assert_eq!(agent.sync(), None);
    assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
}

/// kp:H5: what a failed sync had taken in is in the next one.
#[test]
fn a_refused_write_is_tried_again_later_and_later_and_loses_nothing() {
    let mut agent = agent_with_web(&[(1, true)]);
    agent.dataplane().kernel().refuse = vec![Errno::NOMEM; 2];
    tell(&mut agent, [Change::SliceApplied(name("web-1"), slice("web", &[(3, true)]).into())]);
    let first = agent.sync().unwrap();
    let second = agent.sync().unwrap();
    assert!(second > first, "{first:?} {second:?}");
    assert_eq!(agent.sync(), None);
    assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
}

#[test]
fn a_chain_that_the_kernel_still_holds_is_removed_later() {
    let mut agent = agent_with_web(&[(1, true), (3, true)]);
    tell(&mut agent, [Change::SliceApplied(name("web-1"), slice("web", &[(1, true)]).into())]);
    // The main transaction goes through, the removal of `spread-2` does not: kernels before 6.2.
    agent.dataplane().kernel().refuse_deleted_chains = true;
    assert_eq!(agent.sync(), None);
    assert!(kernel_tables(&mut agent)[0].chains.contains_key("cluster-2"));
    agent.dataplane().kernel().refuse_deleted_chains = false;
    tell(&mut agent, [Change::SliceApplied(name("web-1"), slice("web", &[(3, true)]).into())]);
    assert_eq!(agent.sync(), None);
    assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
}

/// kp:H6, kp:P6
#[test]
fn every_kind_of_outside_damage_is_undone() {
    type Damage = fn(&mut Table);
    let damages: [(&str, Damage); 8] = [
        ("an element gone", |t| t.sets.get_mut(ruleset::ENDPOINTS).unwrap().elements.clear()),
        ("an element changed", |t| {
            let endpoints = &mut t.sets.get_mut(ruleset::ENDPOINTS).unwrap().elements;
            let other = endpoints.values().last().unwrap();
            *endpoints = endpoints.keys().map(|key| (key, other.clone())).collect();
        }),
        ("an element more", |t| {
            let key = ruleset::hairpin_key([192, 0, 2, 1].into());
            t.sets.get_mut(ruleset::HAIRPIN).unwrap().elements.insert(key, &Data::None);
        }),
        ("a rule gone", |t| t.chains.get_mut("prerouting").unwrap().rules.clear()),
        ("a foreign rule", |t| t.chains.get_mut("output").unwrap().rules.insert(0, vec![Statement::Foreign])),
        ("a chain gone", |t| drop(t.chains.remove("postrouting"))),
        ("a foreign set", |t| {
            let set = t.sets[ruleset::HAIRPIN].clone();
            t.sets.insert("foreign".into(), set);
        }),
        ("switched off", |t| t.dormant = true),
    ];
    for (what, damage) in damages {
        let mut agent = agent_with_web(&[(1, true), (2, true)]);
        let mut dropped = agent.dataplane().kernel().tables.clone();
        damage(dropped.get_mut(&TableFamily::Ip).unwrap());
        agent.dataplane().kernel().tables = dropped;
        agent.take(Event::Doubt);
        assert_eq!(agent.sync(), None, "{what}");
        assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent), "{what}");
    }
}

#[test]
fn a_flushed_ruleset_is_written_again() {
    let mut agent = agent_with_web(&[(1, true)]);
    agent.dataplane().kernel().tables.clear();
    agent.take(Event::Doubt);
    assert_eq!(agent.sync(), None);
    assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
}

#[test]
fn a_doubt_that_proves_wrong_writes_nothing() {
    let mut agent = agent_with_web(&[(1, true)]);
    agent.take(Event::Doubt);
    assert_eq!(agent.sync(), None);
    assert!(agent.dataplane().kernel().taken.is_empty());
}

/// kp:D1, kp:I7, kp:J5: pods are known by what the Node object says at the moment; kube-proxy waits for it and ends when it
/// changes.
#[test]
fn with_node_networks_the_chains_follow_the_node() {
    let settings = Settings { locality: Locality::NodeNetworks, ..Settings::default() };
    let mut agent = Agent::new(NODE, Nft::new(FakeKernel::default(), &settings));
    tell(
        &mut agent,
        [
            Change::ServiceApplied(name("web"), http(1).into()),
            Change::SliceApplied(name("web-1"), slice("web", &[(1, true)]).into()),
        ],
    );
    tell(&mut agent, complete());
    assert_eq!(agent.sync(), None);
    let rules = |agent: &mut Agent<_>| kernel_tables(agent)[0].chains["cluster-1"].rules.clone();
    assert_eq!(rules(&mut agent).len(), 1, "nobody is known as a pod yet");
    for cidr in ["10.1.0.0/24", "10.2.0.0/24"] {
        let pod_cidrs = vec![cidr.parse().unwrap()];
        agent.take(Event::Change(Change::NodeApplied(Node {
            pod_cidrs: pod_cidrs.clone(),
            ..Node::default()
        })));
        assert_eq!(agent.sync(), None);
        let not_from_pod = Statement::Address(End::Source, Sense::IsNot, pod_cidrs[0]);
        assert_eq!(rules(&mut agent)[0][0], not_from_pod);
        assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
        let before = rules(&mut agent);
        agent.take(Event::Change(Change::NodeGone));
        assert_eq!(agent.sync(), None);
        assert_eq!(rules(&mut agent), before, "the pods are there without the object");
    }
}

/// The text of the IPv4 table of an agent, with this setting of node ports, after the node had each of these addresses.
fn tables_with_addresses(node_ports: NodePortAddresses, addresses: &[&[&str]]) -> Vec<String> {
    let settings = Settings { node_port_addresses: node_ports, ..Settings::default() };
    let mut agent = Agent::new(NODE, Nft::new(FakeKernel::default(), &settings));
    let plain = http(1);
    let ports = plain.ports.iter().cloned().map(|port| ServicePort { node_port: Some(30_000), ..port });
    let service =
        Service { ports: ports.collect(), load_balancer_ips: vec![[192, 0, 2, 77].into()], ..plain };
    let slice = Change::SliceApplied(name("web-1"), slice("web", &[(1, true)]).into());
    tell(&mut agent, [Change::ServiceApplied(name("web"), service.into()), slice]);
    tell(&mut agent, complete());
    let mut table_at = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        tell(&mut agent, [Change::NodeApplied(Node { addresses, ..Node::default() })]);
        assert_eq!(agent.sync(), None);
        assert_eq!(kernel_tables(&mut agent), wanted_tables(&mut agent));
        kernel_tables(&mut agent)[0].to_string()
    };
    addresses.iter().map(|addresses| table_at(addresses)).collect()
}

/// kp:I7, kp:J2, kp:J4: an address that comes late or changes is taken up, and counts only where node ports are on it.
#[test]
fn the_nodes_own_address_is_followed_and_counts_only_for_node_ports_on_it() {
    let life: [&[&str]; 4] = [&[], &["192.0.2.1", "198.51.100.1"], &["192.0.2.2"], &[]];
    let own = tables_with_addresses(NodePortAddresses::Primary, &life);
    let holds = |table: &String| ["192.0.2.1 ", "198.51.100.1 ", "192.0.2.2 "].map(|it| table.contains(it));
    let held: Vec<[bool; 3]> = own.iter().map(holds).collect();
    assert_eq!(held, [[false; 3], [true, false, false], [false, false, true], [false; 3]], "{own:#?}");
    let all = tables_with_addresses(NodePortAddresses::Networks(Vec::new()), &life);
    assert!(all.iter().all(|table| *table == all[0]), "{all:#?}");
}

/// kp:J3: an address that is configured takes the place of the one that the Node object has, and needs no object.
#[test]
fn a_configured_address_is_the_nodes_own() {
    let own: IpAddr = "192.0.2.9".parse().unwrap();
    let mut agent = Agent::new(NODE, Nft::new(FakeKernel::default(), &Settings::default()));
    agent = agent.with_node_address(Some(own));
    tell(&mut agent, complete());
    let of_the_object = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Change::NodeApplied(Node { addresses, ..Node::default() })
    };
    for change in [None, Some(of_the_object(&["192.0.2.1"])), Some(of_the_object(&[]))] {
        tell(&mut agent, change);
        assert_eq!(agent.sync(), None);
        let printed = kernel_tables(&mut agent)[0].to_string();
        assert!(printed.contains("192.0.2.9") && !printed.contains("192.0.2.1 "), "{printed}");
    }
}

/// kp:H8: a restart finds the old table and changes only what differs.
#[test]
fn a_restart_takes_the_kernels_table_over() {
    let mut before = agent_with_web(&[(1, true), (3, true)]);
    let tables = before.dataplane().kernel().tables.clone();
    let mut after =
        Agent::new(NODE, Nft::new(FakeKernel { tables, ..FakeKernel::default() }, &Settings::default()));
    tell(
        &mut after,
        [
            Change::ServiceApplied(name("web"), http(1).into()),
            Change::SliceApplied(name("web-1"), slice("web", &[(1, true), (3, true)]).into()),
        ],
    );
    tell(&mut after, complete());
    assert_eq!(after.sync(), None);
    assert!(after.dataplane().kernel().taken.is_empty());
}

/// Which of two Services holds an address is stated: the first by namespace and name; the other takes over.
#[test]
fn the_first_service_by_name_holds_an_address_that_two_claim() {
    let mut model = model_of(&[
        Change::ServiceApplied(name("b"), http(1).into()),
        Change::ServiceApplied(name("a"), http(1).into()),
        Change::SliceApplied(name("a-1"), slice("a", &[(1, true)]).into()),
        Change::SliceApplied(name("b-1"), slice("b", &[(2, true)]).into()),
    ]);
    let first = resolve(&model, NODE).to_string();
    assert!(first.starts_with("10.96.0.1:80/tcp cluster-ip of default/a\n  10.0.0.1:8080\n"), "{first}");
    model.apply(Change::ServiceGone(name("a")));
    let second = resolve(&model, NODE).to_string();
    assert!(
        second.starts_with("10.96.0.1:80/tcp cluster-ip of default/b\n  10.0.0.2:8080 local\n"),
        "{second}"
    );
}

/// A dataplane that takes everything but what it is told to set aside.
#[derive(Debug, Default)]
struct Picky {
    set_aside: Vec<SetAside>,
}

impl Dataplane for Picky {
    fn stage(&mut self, _: &Delta<Frontend, Backends>) {}
    fn surround(&mut self, _: &Surroundings) {}
    fn doubt(&mut self) {}

    fn sync(&mut self, _: &Frontends) -> Synced {
        Synced { set_aside: self.set_aside.clone(), ..Synced::default() }
    }
}

fn news(reports: &mut UnboundedReceiver<Report>) -> Vec<News> {
    let mut news = Vec::new();
    while let Ok(report) = reports.try_recv() {
        if let Report::Problem(one) = report {
            news.push(one);
        }
    }
    news
}

#[test]
fn what_the_kernel_refuses_is_told_with_its_service_once_and_taken_back() {
    let (reports, mut told) = unbounded_channel();
    let mut agent = Agent::new(NODE, Picky::default()).with_reports(Reports::new(reports));
    let place = Place::Address([10, 96, 0, 1].into());
    let frontend = Frontend { place, protocol: Protocol::Tcp, port: 80 };
    agent.dataplane().set_aside = vec![SetAside { frontend, why: "file exists".to_owned() }];
    let problem = Problem::set_aside(&frontend, &name("a"), "file exists");
    for change in complete().into_iter().chain([Change::ServiceApplied(name("a"), http(1).into())]) {
        agent.take(Event::Change(change));
    }
    agent.sync();
    assert_eq!(news(&mut told), [News::Began(problem.clone())]);
    agent.take(Event::Doubt);
    agent.sync();
    assert_eq!(news(&mut told), []);
    agent.dataplane().set_aside.clear();
    agent.take(Event::Doubt);
    agent.sync();
    assert_eq!(news(&mut told), [News::Ended(problem)]);
}

#[test]
fn a_lost_frontend_is_told_even_where_it_changes_nothing_in_the_kernel() {
    let (reports, mut told) = unbounded_channel();
    let mut agent = agent().with_reports(Reports::new(reports));
    tell(&mut agent, complete().into_iter().chain([Change::ServiceApplied(name("a"), http(1).into())]));
    agent.sync();
    assert_eq!(news(&mut told), []);
    tell(&mut agent, [Change::ServiceApplied(name("b"), http(1).into())]);
    agent.sync();
    let began = news(&mut told);
    assert!(
        matches!(&began[..], [News::Began(v4), News::Began(_)] if v4.text.contains("10.96.0.1:80/tcp")),
        "{began:?}"
    );
    tell(&mut agent, [Change::ServiceGone(name("b"))]);
    agent.sync();
    assert_eq!(news(&mut told).len(), 2);
}
