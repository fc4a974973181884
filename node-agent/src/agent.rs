//! The loop: gather, look, plan, apply, retry.
//!
//! Invariant: nothing is written before every node is known, and what is written follows from what the kernel has at that
//! moment, never from what we did before.

use crate::board::Board;
use crate::cluster::Cluster;
use crate::diff::{Steps, diff};
use crate::kernel::{Failure, Kernel};
use crate::metrics::AgentMeter;
use crate::plan::{Plan, Settings, plan};
use crate::problem::Problem;
use crate::pulse::Pulse;
use crate::seen::Seen;
use crate::view::{Turn, View};
use heddle_proxy::backoff::Backoff;
use heddle_proxy::causes;
use heddle_proxy::doubts::{Doubts, News};
use heddle_proxy::model::Change;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// What the agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something of the cluster.
    Change(Change),
    /// Somebody else changed something of the node's network.
    Doubt,
    /// What is wrong now with the plugin's supply.
    Supply(BTreeSet<Problem>),
}

/// The agent.
#[derive(Debug)]
pub struct Agent<K> {
    kernel: K,
    settings: Settings,
    cluster: Cluster,
    /// The cluster changed since the last look.
    dirty: bool,
    doubts: Doubts,
    backoff: Backoff,
    /// When to try again what failed.
    retry: Option<Instant>,
    /// The last plan, whose problems were said.
    planned: Plan,
    synced_once: bool,
    /// Where everybody else sees what came of a turn.
    views: Board<View>,
    pulse: Pulse,
    meter: AgentMeter,
}

impl<K: Kernel> Agent<K> {
    /// An agent that knows nothing yet.
    pub fn new(settings: Settings, kernel: K) -> Self {
        Self {
            kernel,
            settings,
            cluster: Cluster::default(),
            dirty: false,
            doubts: Doubts::default(),
            backoff: Backoff::default(),
            retry: None,
            planned: Plan::default(),
            synced_once: false,
            views: Board::default(),
            pulse: Pulse::default(),
            meter: AgentMeter::default(),
        }
    }

    /// The same, which shows here what came of each turn.
    pub fn with_views(self, views: Board<View>) -> Self {
        Self { views, ..self }
    }

    /// The same, whose thread can be watched.
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// The same, which also counts.
    pub fn with_meter(self, meter: AgentMeter) -> Self {
        Self { meter, ..self }
    }

    /// Works until nobody can tell it anything any more.
    pub fn run(mut self, inbox: &Receiver<Event>) {
        loop {
            self.pulse.rest();
            let next = self.retry.into_iter().chain(self.doubts.next()).min();
            let first = match next {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            self.pulse.step();
            match first {
                Ok(event) => {
                    self.take(event);
                    inbox.try_iter().for_each(|event| self.take(event));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.turn(Instant::now());
        }
    }

    /// Takes an event in; the kernel is not touched.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Change(change) => self.dirty |= self.cluster.apply(change),
            Event::Doubt => self.doubts.hear(),
            Event::Supply(wrong) => {
                self.views.post(self.views.now().value.with_supply(&wrong, Timestamp::now()));
            }
        }
    }

    /// Does what is due at this time.
    pub fn turn(&mut self, now: Instant) {
        if !self.cluster.is_complete() {
            return;
        }
        let doubted = self.doubts.take_due(now);
        let retried = self.retry.take_if(|retry| *retry <= now).is_some();
        if self.dirty || doubted || retried {
            let was_told = std::mem::take(&mut self.dirty) || retried;
            let repaired = self.sync(now, was_told);
            let news = doubted.then(|| self.doubts.found(repaired, now)).flatten();
            news.into_iter().for_each(say_of_edits);
        }
        self.doubts.rest(now).into_iter().for_each(say_of_edits);
    }

    /// Brings the kernel to what the cluster says. Returns whether that undid what somebody else had changed: there was
    /// something to do that the last plan had too, and nobody `was_told` of anything.
    fn sync(&mut self, now: Instant, was_told: bool) -> bool {
        let (mut failures, mut is_router, start) = (Vec::new(), false, Instant::now());
        let (mut planned, mut done) = (None, Steps::default());
        // What leaves by the device is planned when that is there.
        for _ in 0..=1 {
            match self.kernel.look() {
                Ok(seen) => {
                    is_router = self.forward(&seen, &mut failures);
                    let plan = plan(&self.cluster, &self.settings, &seen);
                    let steps = diff(&seen, &plan);
                    failures.extend(self.kernel.apply(&steps));
                    planned = Some(plan);
                    let made = steps.makes_device() && failures.is_empty();
                    done.join(steps);
                    if !made {
                        break;
                    }
                }
                Err(failure) => {
                    failures.push(failure);
                    break;
                }
            }
        }
        let is_usable = is_usable(&failures, planned.as_ref().unwrap_or(&self.planned).routes.len());
        let is_again = planned.is_some_and(|plan| self.report(plan, &done, start.elapsed()));
        let repaired = is_again && !was_told;
        self.meter.sync(start.elapsed(), &failures, repaired);
        let failures: Vec<String> = failures.iter().map(|failure| causes::line(failure)).collect();
        failures.iter().for_each(|failure| error!("{failure}; it is tried again"));
        self.show((is_router, is_usable, repaired), &failures);
        self.retry = self.backoff.after(!failures.is_empty()).map(|wait| now + wait);
        repaired
    }

    /// Makes the node a router. Returns whether it is one.
    fn forward(&mut self, seen: &Seen, failures: &mut Vec<Failure>) -> bool {
        let own = self.cluster.node(&self.settings.node).map_or(&[][..], |node| &node.addresses);
        match self.kernel.forward(&seen.uplinks(own)) {
            Ok(changed) => {
                changed.iter().for_each(|setting| info!("this node forwards: {setting}"));
                true
            }
            Err(failure) => {
                failures.push(failure);
                false
            }
        }
    }

    fn show(&self, (forwards, usable, repaired): (bool, bool, bool), failures: &[String]) {
        let (cluster, settings, plan) = (&self.cluster, &self.settings, &self.planned);
        let turn = Turn { cluster, settings, plan, forwards, failures, usable, repaired };
        self.views.post(self.views.now().value.after(turn, Timestamp::now()));
    }

    /// Says what is new about a plan, and keeps it. Returns whether it is the last one, and there was something to do all the
    /// same.
    fn report(&mut self, plan: Plan, steps: &Steps, elapsed: Duration) -> bool {
        let said = &self.planned.problems;
        plan.problems.difference(said).for_each(|problem| warn!("{problem}"));
        said.difference(&plan.problems).for_each(|problem| info!("no longer so: {problem}"));
        let (nodes, routes) = (self.cluster.nodes().count(), plan.routes.len());
        let changed = steps.routes.len();
        if std::mem::replace(&mut self.synced_once, true) {
            debug!(nodes, routes, changed, tables = steps.tables.len(), ?elapsed, "synced");
        } else {
            info!(
                nodes,
                routes,
                changed,
                ?elapsed,
                "the pods of other nodes are reached as far as they can be"
            );
        }
        let is_planned_again = self.planned == plan;
        self.planned = plan;
        is_planned_again && !steps.is_empty()
    }
}

/// Whether pods have a network: at most the ways to some of the other nodes were refused.
fn is_usable(failures: &[Failure], routes: usize) -> bool {
    failures.is_empty() || failures.len() < routes && failures.iter().all(Failure::is_of_one_route)
}

fn say_of_edits(news: News) {
    match news {
        News::Began => warn!("others change our routes or tables; they are put back"),
        News::Ended { repairs } => info!(repairs, "others do not change our routes or tables any more"),
    }
}

#[cfg(test)]
mod tests;
