//! Refused rules and verdicts: what stands behind a whole shape of frontends.

use super::{Drawn, TARGET, cluster, frontends, set_aside, start, tables_of};
use heddle_proxy::agent::Agent;
use heddle_proxy::dataplane::Dataplane;
use heddle_proxy::delta::Delta;
use heddle_proxy::frontends::{Backends, IpFamily};
use heddle_proxy::model::Change;
use heddle_proxy::nft::{FakeKernel, Nft, Settings};
use std::collections::BTreeMap;

/// A Service for each of the counts, with so many endpoints; the first ones have affinity.
fn with_counts(counts: impl IntoIterator<Item = u8>, sticky: usize) -> Vec<Change> {
    let drawn = |(at, count): (usize, u8)| Drawn {
        endpoints: (1..=count).collect(),
        sticky: at < sticky,
        ..Drawn::default()
    };
    let services: Vec<Drawn> = counts.into_iter().enumerate().map(drawn).collect();
    cluster(&services, TARGET)
}

/// That the frontends whose IPv4 endpoints are so many are set aside, and that all others are in the table.
fn only_others_are_written(agent: &mut Agent<Nft<FakeKernel>>, changes: &[Change], refused: &[usize]) {
    let all = frontends(changes);
    let is_refused = |backends: &Backends| refused.contains(&backends.cluster.len());
    let expected = all.iter().filter(|(.., backends)| is_refused(backends)).map(|(frontend, ..)| *frontend);
    assert_eq!(set_aside(agent), expected.collect());
    let rest = all.iter().filter(|(.., backends)| !is_refused(backends));
    assert_eq!(agent.dataplane().kernel().tables, tables_of(rest.map(|(f, _, b)| (f, b))));
}

#[test]
fn a_refused_rule_sets_aside_all_that_go_through_its_chain() {
    let changes = with_counts([1, 2, 1, 3, 2], 0);
    let mut agent = start(&changes);
    agent.dataplane().kernel().refuse_rules = ["cluster-2".into()].into();
    assert_eq!(agent.sync(), None);
    only_others_are_written(&mut agent, &changes, &[2]);
    let refused = agent.dataplane().set_aside().next().map(|refused| refused.why);
    assert_eq!(refused.as_deref(), Some("a rule of chain cluster-2: Invalid argument (os error 22)"));
}

/// The kernel refuses each verdict after the first one, too: those are nobody's fault.
#[test]
fn a_verdict_that_leads_astray_sets_aside_all_that_it_may_lead_there() {
    let changes = with_counts([1, 2, 1, 3, 2], 0);
    let mut agent = start(&changes);
    agent.dataplane().kernel().refuse_gotos = ["cluster-1".into(), "cluster-3".into()].into();
    assert_eq!(agent.sync(), None);
    only_others_are_written(&mut agent, &changes, &[1, 3]);
}

#[test]
fn a_refused_chain_of_affinity_sets_aside_all_that_remember_for_its_time() {
    for goto in [false, true] {
        let changes = with_counts([1, 2, 0, 3, 1], 3);
        let mut agent = start(&changes);
        let kernel = agent.dataplane().kernel();
        let chain = if goto { &mut kernel.refuse_gotos } else { &mut kernel.refuse_rules };
        chain.insert("remember-60".into());
        assert_eq!(agent.sync(), None);
        let all = frontends(&changes);
        let refused = |backends: &Backends| backends.affinity.is_some() && !backends.cluster.is_empty();
        let sticky = all.iter().filter(|(.., backends)| refused(backends));
        assert_eq!(set_aside(&mut agent), sticky.map(|(frontend, ..)| *frontend).collect());
        let rest = all.iter().filter(|(.., backends)| !refused(backends));
        let expected = tables_of(rest.map(|(f, _, b)| (f, b)));
        assert_eq!(agent.dataplane().kernel().tables, expected, "{goto}");
    }
}

/// The frontends of IPv6 have no endpoint here, and those of IPv4 do.
#[test]
fn a_refused_base_chain_is_nobodys_fault_and_stops_its_family_alone() {
    let wanted = frontends(&with_counts([1], 0));
    let all = wanted.iter().map(|(frontend, _, backends)| (*frontend, backends.clone())).collect();
    let mut dataplane = Nft::new(FakeKernel::default(), &Settings::default());
    dataplane.stage(&Delta::between(&BTreeMap::new(), &all));
    dataplane.kernel().refuse_rules = ["filter-input".into()].into();
    let synced = dataplane.sync(&wanted);
    assert_eq!(synced.set_aside, []);
    let failures: Vec<String> = synced.failures.iter().map(ToString::to_string).collect();
    assert!(
        matches!(&failures[..], [v6] if v6.contains("ip6") && v6.contains("filter-input")),
        "{failures:?}"
    );
    assert_eq!(synced.written, [IpFamily::V4]);
}

/// Shapes hide behind one another: of refused rules only the first is believed. One sync gives up after some, and keeps
/// what it has found out.
#[test]
fn what_one_sync_does_not_find_the_next_one_does() {
    let changes = with_counts(0..=39, 0);
    let mut agent = start(&changes);
    let refused: Vec<usize> = (1..=39).collect();
    agent.dataplane().kernel().refuse_rules =
        refused.iter().map(|count| format!("cluster-{count}").as_str().into()).collect();
    assert!(agent.sync().is_some(), "more than one sync can find");
    let found = set_aside(&mut agent).len();
    assert!(found >= 20, "{found}");
    assert_eq!(agent.sync(), None);
    only_others_are_written(&mut agent, &changes, &refused);
}
