//! When something is written, and what happens when that fails or others write.

use super::{NODE, agent, agent_with_web, complete, http, kernel_tables, name, slice, tell, wanted_tables};
use heddle_netlink::Errno;
use heddle_netlink::nft::{Data, Statement, Table, TableFamily};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::model::{Change, Kind};
use heddle_proxy::nft::{FakeKernel, Nft, Settings, ruleset};
use std::time::Instant;

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
