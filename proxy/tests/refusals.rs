//! What becomes of Services when the kernel refuses some of them: those are set aside, and no others.

use heddle_netlink::Errno;
use heddle_netlink::nft::{Cells, Data, Table, TableFamily};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::dataplane::{Dataplane, SetAside};
use heddle_proxy::delta::Delta;
use heddle_proxy::frontends::{Backends, Frontend, Frontends, IpFamily, resolve};
use heddle_proxy::model::{
    Change, Kind, Model, Node, ObjectName, Policy, Protocol, Service, ServicePort, Slice, SliceEndpoint,
    SlicePort, Triggered,
};
use heddle_proxy::nft::{FakeKernel, Nft, Settings, ruleset};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const NODE: &str = "node-1";
/// The node that the Service's even endpoints are on.
const HERE: [Option<&str>; 2] = [Some(NODE), Some("node-2")];

/// One Service with its endpoints, all of it made from these.
#[derive(Clone, Debug, Default)]
struct Drawn {
    /// Last bytes of its endpoints' addresses.
    endpoints: BTreeSet<u8>,
    node_port: bool,
    local: bool,
    sticky: bool,
    /// It has a load balancer address that only some may reach.
    filtered: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (prop::collection::btree_set(1..40_u8, 0..4), any::<[bool; 4]>()).prop_map(
        |(endpoints, [node_port, local, sticky, filtered])| Drawn {
            endpoints,
            node_port,
            local,
            sticky,
            filtered,
        },
    )
}

fn endpoint(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn changes(number: u8, drawn: &Drawn, target: u16) -> [Change; 2] {
    let name = format!("s{number}");
    let port = ServicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: drawn.node_port.then(|| 30_000 + u16::from(number)),
    };
    let service = Service {
        // Two Services share an address, so that what is refused may be due to either.
        cluster_ips: [[10, 96, 0, number / 2].into(), [0xfd00, 0, 0, 0, 0, 0, 0, number.into()].into()]
            .into(),
        ports: vec![ServicePort { port: 80 + u16::from(number % 2), ..port }],
        external_policy: if drawn.local { Policy::Local } else { Policy::Cluster },
        load_balancer_ips: drawn.filtered.then_some([192, 0, 2, number].into()).into_iter().collect(),
        source_ranges: ["10.0.0.0/8", "fd00::/16"].map(|range| range.parse().expect("a range")).into(),
        affinity: if drawn.sticky { std::num::NonZeroU32::new(60) } else { None },
        ..Service::default()
    };
    let endpoint = |last: &u8| SliceEndpoint {
        address: endpoint(*last),
        ready: true,
        serving: true,
        terminating: false,
        hints: None,
        node: HERE[usize::from(last % 2)].map(Into::into),
    };
    let slice = Slice {
        service: name.as_str().into(),
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: target }],
        endpoints: drawn.endpoints.iter().map(endpoint).collect(),
        trigger: Triggered::default(),
    };
    let name = ObjectName::new("default", &name);
    [Change::ServiceApplied(name.clone(), service.into()), Change::SliceApplied(name, slice.into())]
}

fn cluster(services: &[Drawn], target: u16) -> Vec<Change> {
    let services = services.iter().zip(0_u8..);
    services.flat_map(|(drawn, number)| changes(number, drawn, target)).collect()
}

fn frontends(changes: &[Change]) -> Frontends {
    let mut model = Model::default();
    changes.iter().cloned().for_each(|change| model.apply(change));
    resolve(&model, NODE)
}

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

const TARGET: u16 = 8080;

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

/// The tables that a proxy writes for these frontends and no others.
fn tables_of<'a>(
    frontends: impl Iterator<Item = (&'a Frontend, &'a Backends)>,
) -> BTreeMap<TableFamily, Table> {
    let wanted = frontends.map(|(frontend, backends)| (*frontend, backends.clone())).collect();
    let mut dataplane = Nft::new(FakeKernel::default(), &Settings::default());
    dataplane.stage(&Delta::between(&BTreeMap::new(), &wanted));
    let synced = dataplane.sync(&Frontends::new(NODE));
    assert!(synced.failures.is_empty() && synced.set_aside.is_empty());
    std::mem::take(&mut dataplane.kernel().tables)
}

fn agent() -> Agent<Nft<FakeKernel>> {
    Agent::new(NODE, Nft::new(FakeKernel::default(), &Settings::default()))
}

fn tell(agent: &mut Agent<Nft<FakeKernel>>, changes: &[Change]) {
    changes.iter().cloned().for_each(|change| agent.take(Event::Change(change)));
}

fn start(changes: &[Change]) -> Agent<Nft<FakeKernel>> {
    let mut agent = agent();
    tell(&mut agent, &[Change::Complete(Kind::Service), Change::Complete(Kind::Slice)]);
    tell(&mut agent, changes);
    agent
}

fn set_aside(agent: &mut Agent<Nft<FakeKernel>>) -> BTreeSet<Frontend> {
    agent.dataplane().set_aside().map(|refused| refused.frontend).collect()
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
