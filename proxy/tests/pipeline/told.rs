//! What is said about objects that are not served as they ask.

use super::{NODE, agent, complete, http, model_of, name, slice, tell};
use heddle_proxy::agent::{Agent, Event};
use heddle_proxy::dataplane::{Dataplane, SetAside, Surroundings, Synced};
use heddle_proxy::delta::Delta;
use heddle_proxy::frontends::{Backends, Frontend, Frontends, Place, resolve};
use heddle_proxy::model::{Change, Protocol};
use heddle_proxy::problems::{News, Problem};
use heddle_proxy::status::{Report, Reports};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

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
