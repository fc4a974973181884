//! Refused elements: whatever needs one is set aside until it changes.

use super::{Drawn, TARGET, changes, cluster, drawn, endpoint, frontends, set_aside, start, tables_of, tell};
use heddle_netlink::Errno;
use heddle_netlink::nft::{Cells, Data, TableFamily};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::dataplane::SetAside;
use heddle_proxy::frontends::{Backends, Frontend, Frontends};
use heddle_proxy::model::{Change, Node, ObjectName};
use heddle_proxy::nft::{FakeKernel, Nft, ruleset};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What the kernel is told to refuse.
#[derive(Clone, Debug)]
enum Poison {
    /// Whatever has this frontend, of those there are, in its key.
    Frontend(prop::sample::Index),
    /// Whatever leads to this endpoint.
    Endpoint(u8),
    /// That this endpoint reaches itself.
    Hairpin(u8),
    /// That other ports of this cluster IP are refused.
    ClusterIp(u8),
}

fn poison() -> impl Strategy<Value = Poison> {
    prop_oneof![
        4 => any::<prop::sample::Index>().prop_map(Poison::Frontend),
        1 => (1..40_u8).prop_map(Poison::Endpoint),
        1 => (1..40_u8).prop_map(Poison::Hairpin),
        1 => (0..10_u8).prop_map(Poison::ClusterIp),
    ]
}

impl Poison {
    fn cells(&self, wanted: &Frontends) -> Option<Cells> {
        Some(match self {
            Self::Frontend(index) => {
                let all: Vec<&Frontend> = wanted.iter().map(|(frontend, ..)| frontend).collect();
                ruleset::frontend_key(all.get(index.index(all.len().max(1)))?)
            }
            Self::Endpoint(last) => Cells::default().address(endpoint(*last)).port(TARGET),
            Self::Hairpin(last) => ruleset::hairpin_key(endpoint(*last)),
            Self::ClusterIp(last) => Cells::default().address([10, 96, 0, *last].into()),
        })
    }

    /// Whether the frontend cannot be without something that is refused.
    fn hits(&self, frontend: &Frontend, backends: &Backends, wanted: &Frontends) -> bool {
        let mut endpoints = backends.cluster.iter().chain(&*backends.local);
        match self {
            Self::Frontend(_) => self.cells(wanted) == Some(ruleset::frontend_key(frontend)),
            Self::Endpoint(last) => endpoints.any(|e| e.address == endpoint(*last)),
            Self::Hairpin(last) => endpoints.any(|e| e.local && e.address == endpoint(*last)),
            Self::ClusterIp(last) => frontend.to_string().starts_with(&format!("10.96.0.{last}:")),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_the_kernel_refuses_is_set_aside_until_it_changes(
        services in prop::collection::vec(drawn(), 0..20),
        poison in prop::collection::vec(poison(), 0..5),
        late in any::<bool>(),
    ) {
        let changes = cluster(&services, TARGET);
        let wanted = frontends(&changes);
        let hit = |frontend: &Frontend, backends: &Backends| poison.iter().any(|p| p.hits(frontend, backends, &wanted));
        let mut agent = start(if late { &[] } else { &changes });
        if late {
            prop_assert_eq!(agent.sync(), None);
            tell(&mut agent, &changes);
        }
        agent.dataplane().kernel().refuse_cells = poison.iter().filter_map(|p| p.cells(&wanted)).collect();
        prop_assert_eq!(agent.sync(), None);

        let expected: BTreeSet<Frontend> =
            wanted.iter().filter(|(f, _, b)| hit(f, b)).map(|(f, ..)| *f).collect();
        prop_assert_eq!(set_aside(&mut agent), expected);
        let rest = wanted.iter().filter(|(f, _, b)| !hit(f, b)).map(|(f, _, b)| (f, b));
        prop_assert_eq!(&agent.dataplane().kernel().tables, &tables_of(rest));

        agent.dataplane().kernel().refuse_cells.clear();
        let changed = cluster(&services, TARGET + 1);
        tell(&mut agent, &changed);
        prop_assert_eq!(agent.sync(), None);
        // A frontend without an endpoint has not changed.
        let changed = frontends(&changed);
        let unchanged = |f: &Frontend, b: &Backends| b.cluster.is_empty() && hit(f, b);
        let expected: BTreeSet<Frontend> =
            changed.iter().filter(|(f, _, b)| unchanged(f, b)).map(|(f, ..)| *f).collect();
        prop_assert_eq!(set_aside(&mut agent), expected);
        let all = changed.iter().filter(|(f, _, b)| !unchanged(f, b)).map(|(f, _, b)| (f, b));
        prop_assert_eq!(&agent.dataplane().kernel().tables, &tables_of(all));
    }
}

/// Services s0..s3 with an endpoint each, of which the kernel refuses that of s0.
fn with_one_refused() -> (Agent<Nft<FakeKernel>>, Vec<Change>) {
    let one = |last| Drawn { endpoints: [last].into(), ..Drawn::default() };
    let changes = cluster(&[one(1), one(3), one(5)], TARGET);
    let mut agent = start(&changes);
    agent.dataplane().kernel().refuse_cells = [Cells::default().address(endpoint(1)).port(TARGET)].into();
    assert_eq!(agent.sync(), None);
    (agent, changes)
}

#[test]
fn what_is_set_aside_is_named_with_what_was_refused_and_why() {
    let (mut agent, _) = with_one_refused();
    let refused: Vec<SetAside> = agent.dataplane().set_aside().collect();
    let [refused] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(refused.frontend.to_string(), "10.96.0.0:80/tcp");
    assert_eq!(
        refused.why,
        "element 10.96.0.0 . tcp . 80 . 0 : 10.0.0.1 . 8080 of endpoints: Invalid argument (os error 22)"
    );
}

#[test]
fn changes_of_others_leave_it_set_aside_and_cost_no_more_than_before() {
    let (mut agent, _) = with_one_refused();
    let before = agent.dataplane().kernel().taken.len();
    let other = Drawn { endpoints: [7].into(), ..Drawn::default() };
    tell(&mut agent, &changes(2, &other, TARGET));
    assert_eq!(agent.sync(), None);
    assert_eq!(set_aside(&mut agent).len(), 1);
    assert_eq!(agent.dataplane().kernel().taken.len(), before + 1);
}

#[test]
fn it_is_tried_again_when_the_table_was_in_doubt() {
    let (mut agent, changes) = with_one_refused();
    agent.take(Event::Doubt);
    assert_eq!(agent.sync(), None);
    assert_eq!(set_aside(&mut agent).len(), 1, "the kernel still refuses it");
    agent.dataplane().kernel().refuse_cells.clear();
    agent.take(Event::Doubt);
    assert_eq!(agent.sync(), None);
    assert_eq!(set_aside(&mut agent), [].into());
    let all = frontends(&changes);
    assert_eq!(agent.dataplane().kernel().tables, tables_of(all.iter().map(|(f, _, b)| (f, b))));
}

#[test]
fn a_service_that_goes_is_set_aside_no_more() {
    let (mut agent, _) = with_one_refused();
    tell(&mut agent, &[Change::ServiceGone(ObjectName::new("default", "s0"))]);
    assert_eq!(agent.sync(), None);
    assert_eq!(set_aside(&mut agent), [].into());
}

#[test]
fn an_edit_by_others_that_was_not_heard_of_yet_heals_and_sets_nothing_aside() {
    let (mut agent, changes) = with_one_refused();
    agent.dataplane().kernel().refuse_cells.clear();
    agent.take(Event::Doubt);
    assert_eq!(agent.sync(), None);
    let table = agent.dataplane().kernel().tables.get_mut(&TableFamily::Ip).unwrap();
    let endpoints = &mut table.sets.get_mut(ruleset::ENDPOINTS).unwrap().elements;
    let foreign = Data::Cells(Cells::default().address([192, 0, 2, 1].into()).port(1));
    let key = Cells::default().address([10, 96, 0, 1].into()).protocol(6).port(80).slot(1);
    endpoints.insert(key, &foreign);
    let two = Drawn { endpoints: [5, 7].into(), ..Drawn::default() };
    let change = self::changes(2, &two, TARGET);
    tell(&mut agent, &change);
    assert_eq!(agent.sync(), None, "the kernel said that the slot is taken, and the table was compared");
    assert_eq!(set_aside(&mut agent), [].into());
    let all = frontends(&[&changes[..], &change].concat());
    assert_eq!(agent.dataplane().kernel().tables, tables_of(all.iter().map(|(f, _, b)| (f, b))));
}

/// What nothing leads to any more is removed in a transaction of its own, after that which decides.
#[test]
fn what_others_removed_before_us_is_no_failure() {
    let all = |endpoints: &[u8]| {
        let endpoints = endpoints.iter().copied().collect();
        changes(1, &Drawn { endpoints, ..Drawn::default() }, TARGET)
    };
    let mut agent = start(&all(&[1, 3, 5]));
    assert_eq!(agent.sync(), None);
    let table = agent.dataplane().kernel().tables.get_mut(&TableFamily::Ip).unwrap();
    let endpoints = &mut table.sets.get_mut(ruleset::ENDPOINTS).unwrap().elements;
    let last = endpoints.keys().last().unwrap();
    endpoints.remove(&last).unwrap();
    tell(&mut agent, &all(&[1, 3]));
    assert_eq!(agent.sync(), None);
    let wanted = frontends(&all(&[1, 3]));
    assert_eq!(agent.dataplane().kernel().tables, tables_of(wanted.iter().map(|(f, _, b)| (f, b))));
}

/// Without memory nothing is said about any frontend.
#[test]
fn a_refusal_of_the_moment_sets_nothing_aside() {
    for errno in [Errno::NOMEM, Errno::NOBUFS, Errno::PERM] {
        let (mut agent, _) = with_one_refused();
        agent.dataplane().kernel().refuse_cells.clear();
        agent.dataplane().kernel().refuse = vec![errno];
        tell(&mut agent, &[Change::NodeApplied(Node::default())]);
        agent.take(Event::Doubt);
        assert!(agent.sync().is_some());
        assert_eq!(set_aside(&mut agent), [].into());
    }
}
