//! Others who edit our table: how soon it is whole again, and how often it is read for that. Time is virtual.

use heddle_netlink::Errno;
use heddle_netlink::nft::{Cells, Table, TableFamily};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::dataplane::Dataplane;
use heddle_proxy::delta::Delta;
use heddle_proxy::doubts::{PACE, QUIET};
use heddle_proxy::frontends::{Frontends, resolve};
use heddle_proxy::model::{Change, Kind, Model, ObjectName, Protocol, Service, ServicePort};
use heddle_proxy::nft::{FakeKernel, Nft, Settings, ruleset};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const MILLISECOND: Duration = Duration::from_millis(1);

/// An agent with one Service in the kernel, and the time.
struct Stage {
    agent: Agent<Nft<FakeKernel>>,
    now: Cell<Instant>,
    /// When the agent wants to come back.
    next: Option<Instant>,
}

impl Stage {
    fn new() -> Self {
        let agent = Agent::new("node-1", Nft::new(FakeKernel::default(), &Settings::default()));
        let mut stage = Self { agent, now: Instant::now().into(), next: None };
        let complete = [Kind::Service, Kind::Slice].map(Change::Complete);
        stage.hear([web(1)].into_iter().chain(complete).map(Event::Change));
        assert_eq!(stage.next, None);
        stage
    }

    fn hear(&mut self, heard: impl IntoIterator<Item = Event>) {
        self.next = self.agent.turn(heard, || self.now.get());
    }

    fn kernel(&mut self) -> &mut FakeKernel {
        self.agent.dataplane().kernel()
    }

    /// Somebody removes what is in the table's sets.
    fn damage(&mut self) {
        let table = self.kernel().tables.get_mut(&TableFamily::Ip);
        table.into_iter().flat_map(|table| table.sets.values_mut()).for_each(|set| set.elements.clear());
        self.hear([Event::Doubt]);
    }

    /// Lets the time pass; the agent comes back when it wanted to.
    fn pass(&mut self, time: Duration) {
        let end = self.now.get() + time;
        while let Some(next) = self.next.filter(|next| *next <= end) {
            assert!(next >= self.now.get(), "it comes back for something that is over");
            self.now.set(next);
            self.hear([]);
        }
        self.now.set(end);
    }

    fn is_whole(&mut self) -> bool {
        let wanted: Vec<Table> = self.agent.dataplane().tables().cloned().collect();
        self.kernel().tables.values().eq(&wanted)
    }

    /// How often the table was read.
    fn looks(&mut self) -> usize {
        self.kernel().loads / TableFamily::ALL.len()
    }
}

fn web(last: u8) -> Change {
    let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let service =
        Service { cluster_ips: [[10, 96, 0, last].into()].into(), ports: vec![port], ..Service::default() };
    Change::ServiceApplied(ObjectName::new("default", "web"), service.into())
}

#[test]
fn the_first_damage_is_undone_at_once() {
    let mut stage = Stage::new();
    for _ in 0..3 {
        stage.damage();
        assert!(stage.is_whole());
        stage.pass(PACE);
    }
}

#[test]
fn who_edits_in_a_loop_is_answered_at_a_pace_and_the_table_is_whole_soon_after() {
    let mut stage = Stage::new();
    let (before, seconds) = (stage.looks(), 10);
    for _ in 0..seconds * 1000 {
        stage.damage();
        stage.pass(MILLISECOND);
    }
    let looks = stage.looks() - before;
    let most = seconds * 1000 / usize::try_from(PACE.as_millis()).expect("a small number") + 1;
    assert!((most - 1..=most).contains(&looks), "{looks}");
    stage.pass(PACE);
    assert!(stage.is_whole());
    let looks = stage.looks();
    stage.pass(2 * QUIET);
    assert_eq!((stage.looks(), stage.next), (looks, None), "nothing is read when nothing was heard");
}

/// Also by doubts that wait, and by those that are due.
#[test]
fn changes_are_written_at_once_while_others_edit() {
    let mut stage = Stage::new();
    for last in 2..100 {
        stage.damage();
        stage.pass(PACE / 7);
        stage.hear([Event::Doubt, Event::Change(web(last))]);
        let set = &stage.kernel().tables[&TableFamily::Ip].sets[ruleset::CLUSTER_IPS];
        assert!(set.elements.contains_key(&Cells::default().address([10, 96, 0, last].into())), "{last}");
    }
}

#[test]
fn a_failed_write_is_tried_again_when_it_was_to_be_and_not_for_each_doubt() {
    let mut stage = Stage::new();
    stage.kernel().refuse = vec![Errno::NOMEM; 1000];
    let mut seconds = 0;
    while stage.kernel().refuse.len() > 900 && seconds < 60 {
        seconds += 1;
        for _ in 0..1000 {
            stage.damage();
            stage.pass(MILLISECOND);
        }
    }
    assert!(seconds > 5, "100 tries in {seconds} s");
    stage.kernel().refuse.clear();
    stage.pass(Duration::from_secs(10));
    assert!(stage.is_whole());
}

#[test]
fn only_what_others_did_is_counted_as_repaired() {
    let frontends = |last: u8| {
        let mut model = Model::default();
        model.apply(web(last));
        let resolved = resolve(&model, "node-1");
        resolved
            .iter()
            .map(|(frontend, _, backends)| (*frontend, backends.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    let mut dataplane = Nft::new(FakeKernel::default(), &Settings::default());
    let mut repaired = |before: &BTreeMap<_, _>, after: u8, edited: bool| {
        if edited {
            dataplane.kernel().tables.clear();
        }
        dataplane.stage(&Delta::between(before, &frontends(after)));
        dataplane.doubt();
        dataplane.sync(&Frontends::new("node-1")).repaired
    };
    assert_eq!(repaired(&BTreeMap::new(), 1, true), 0, "at the start the table is not known");
    assert_eq!(repaired(&frontends(1), 1, false), 0);
    assert_eq!(repaired(&frontends(1), 2, false), 0, "what changed meanwhile is no edit");
    assert_eq!(repaired(&frontends(2), 3, true), 2);
    assert_eq!(repaired(&frontends(3), 3, false), 0);
}
