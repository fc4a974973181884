//! Random changes, gathered in any way.

use super::{NODE, agent, complete, kernel_tables, model_of, name, service, slice, tell, wanted_tables};
use heddle_netlink::nft::{Cells, Data, Elements, Table};
use heddle_proxy::agent::Agent;
use heddle_proxy::frontends::{Frontends, resolve};
use heddle_proxy::model::{Change, Model, Node, Policy, Protocol, Service, ServicePort};
use heddle_proxy::nft::{diff, ruleset};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
                Change::NodeApplied(_) | Change::NodeGone(_) => "node".to_owned(),
                Change::ServiceCidrApplied(n, _) | Change::ServiceCidrGone(n) => format!("range {n}"),
                Change::PodApplied(n, _) | Change::PodGone(n) => format!("pod {n}"),
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
