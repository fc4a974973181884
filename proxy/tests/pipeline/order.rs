//! What is sent in which order, so that no packet looks for something in vain.

use super::{agent_with_web, http, kernel_tables, name, slice, tell, wanted_tables};
use heddle_netlink::Errno;
use heddle_netlink::nft::{Data, Op, Table, TableFamily};
use heddle_proxy::agent::Event;
use heddle_proxy::dataplane::Dataplane;
use heddle_proxy::model::{Change, Service};
use heddle_proxy::nft::ruleset;
use std::time::Duration;

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
