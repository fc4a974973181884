//! Whatever the objects are: no panic, no refused transaction, and nothing left when all are gone.

use super::objects::object;
use heddle_netlink::nft::TableFamily;
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::convert::Names;
use heddle_proxy::model::{Change, Kind, Node};
use heddle_proxy::nft::{FakeKernel, Kernel, Netlink, Nft, Settings};
use heddle_proxy::problems::{News, Reason};
use heddle_proxy::status::{Report, Reports};
use heddle_proxy::watch::documents::{self, Format};
use heddle_proxy::watch::roster::{Roster, Update};
use heddle_tests::namespace::Namespace;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::Cell;
use std::error::Error;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const NODE: &str = "node-1";

/// A proxy without its threads.
struct Stage<K> {
    agent: Agent<Nft<K>>,
    roster: Roster,
    names: Names,
    told: UnboundedReceiver<Report>,
}

impl<K: Kernel> Stage<K> {
    fn new(kernel: K) -> Self {
        let (reports, told) = unbounded_channel();
        let agent =
            Agent::new(NODE, Nft::new(kernel, &Settings::default())).with_reports(Reports::new(reports));
        let mut stage = Self { agent, roster: Roster::default(), names: Names::default(), told };
        let complete = [Kind::Service, Kind::Slice].map(Change::Complete);
        complete.into_iter().for_each(|change| stage.agent.take(Event::Change(change)));
        stage
    }

    fn take(&mut self, update: Update) {
        update.changes.into_iter().for_each(|change| self.agent.take(Event::Change(change)));
    }

    /// Writes, and looks whether all of it was taken and stands.
    fn sync(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.agent.sync(), None, "a sync failed");
        while let Ok(Report::Problem(News::Began(problem))) = self.told.try_recv() {
            prop_assert_ne!(problem.reason, Reason::FRONTEND_SET_ASIDE, "{}", problem);
        }
        Ok(())
    }

    fn check_kernel(&mut self) -> Result<(), TestCaseError> {
        let wanted: Vec<_> = self.agent.dataplane().tables().cloned().collect();
        for table in wanted {
            let held = self.agent.dataplane().kernel().load(table.family);
            let held = held.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(held.as_ref(), Some(&table));
        }
        Ok(())
    }
}

/// Applies the objects, each in a file of its name, and takes all back.
fn come_and_go<K: Kernel>(kernel: K, objects: &[(String, bool)]) -> Result<(), TestCaseError> {
    let mut stage = Stage::new(kernel);
    for (text, sync) in objects {
        let parsed = documents::parse(Format::Json, text.as_bytes(), NODE, &mut stage.names);
        let keys = parsed.objects.keys().map(ToString::to_string);
        let file = keys.chain(["a".to_owned()]).next().unwrap_or_default();
        let update = stage.roster.replace(&file, parsed);
        stage.take(update);
        if *sync {
            stage.sync()?;
        }
    }
    stage.sync()?;
    stage.check_kernel()?;
    let files: Vec<_> = stage.roster.files().cloned().collect();
    for file in files {
        let update = stage.roster.remove(&file);
        stage.take(update);
    }
    // What is known of the machine stays when its object goes.
    stage.agent.take(Event::Change(Change::NodeApplied(Node::default())));
    stage.sync()?;
    stage.check_kernel()?;
    let mut empty = Stage::new(FakeKernel::default());
    empty.sync()?;
    for family in [TableFamily::Ip, TableFamily::Ip6] {
        let table =
            |stage: &mut Agent<Nft<FakeKernel>>| stage.dataplane().kernel().tables.get(&family).cloned();
        let left = stage.agent.dataplane().tables().find(|table| table.family == family).cloned();
        prop_assert_eq!(left, table(&mut empty.agent), "something is left");
    }
    Ok(())
}

fn some_objects() -> impl Strategy<Value = Vec<(String, bool)>> {
    prop::collection::vec((object(), any::<bool>()), 3..20)
}

proptest! {
    #[test]
    fn no_object_makes_a_transaction_that_is_refused_or_leaves_anything_behind(objects in some_objects()) {
        come_and_go(FakeKernel::default(), &objects)?;
    }
}

#[test]
fn nor_does_it_on_the_real_kernel() -> Result<(), Box<dyn Error>> {
    let namespace = Namespace::new("node")?;
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let run = || {
        runner.run(&some_objects(), |objects| {
            let kernel = Netlink::open().map_err(|error| TestCaseError::fail(error.to_string()))?;
            // No packet is sent, so what is not wanted any more may go at once.
            come_and_go(kernel.with_transit(Duration::ZERO), &objects)
        })
    };
    Ok(namespace.enter(run)?.map_err(|error| error.to_string())?)
}

/// A generator whose objects are all refused, or never meet, would prove nothing.
#[test]
fn enough_objects_are_good_enough_to_be_served() {
    let (clusters, endpoints) = (Cell::new(0), Cell::new(0));
    let run = TestRunner::deterministic().run(&some_objects(), |objects| {
        let mut stage = Stage::new(FakeKernel::default());
        for (text, _) in &objects {
            let parsed = documents::parse(Format::Json, text.as_bytes(), NODE, &mut stage.names);
            let update = stage.roster.replace(text, parsed);
            stage.take(update);
        }
        stage.sync()?;
        let found: usize =
            stage.agent.dataplane().tables().map(|table| table.sets["endpoints"].elements.len()).sum();
        endpoints.set(endpoints.get() + found);
        clusters.set(clusters.get() + usize::from(found > 0));
        Ok(())
    });
    assert!(run.is_ok(), "{run:?}");
    let found = (clusters.get(), endpoints.get());
    assert!(found >= (30, 100), "{} of 256 clusters serve something, {} endpoints in all", found.0, found.1);
}
