//! The loop: gather changes, resolve, sync, retry, report.
//!
//! It runs on a thread of its own and waits in one place, for the next event or for the time of a retry. A quiet agent
//! acts at once on what comes; while it is busy, what comes gathers, and is handled as one.

mod turn;

use crate::backoff::Backoff;
use crate::conntrack::Outbox;
use crate::dataplane::{Dataplane, SetAside, Surroundings, Synced};
use crate::doubts::Doubts;
use crate::frontends::{Dispute, Frontends, IpFamily};
use crate::health::{self, Pulse};
use crate::history::History;
use crate::look::{Inside, Question};
use crate::memory;
use crate::metrics::AgentMeter;
use crate::model::{Change, Kind, Model};
use crate::problems::{self, News, Problem};
use crate::status::{Report, Reports};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tracing::{debug, error, info};

/// What the agent is told.
#[derive(Debug)]
pub enum Event {
    /// The cluster changed.
    Change(Change),
    /// Somebody else may have changed the kernel's state.
    Doubt,
    /// Sockets may not be served any more.
    LookAgain,
    /// The node's addresses may have changed.
    AddressesChanged,
    /// Somebody changed rules that are not ours.
    OthersChanged,
    /// Somebody wants to know something.
    Look(Question),
}

/// Holds the model and the frontends, and drives a dataplane.
#[derive(Debug)]
pub struct Agent<D> {
    model: Model,
    frontends: Frontends,
    dataplane: D,
    /// The node's own address, in place of the first that its object has of this family.
    node_address: Option<IpAddr>,
    udp: Outbox,
    checks: health::Outbox,
    pulse: Pulse,
    backoff: Backoff,
    /// When what failed is tried again.
    retry: Option<Instant>,
    synced_once: bool,
    doubted: bool,
    doubts: Doubts,
    /// Tables that others had edited were repaired since that was last said.
    repaired: bool,
    /// The kinds that were last said to be awaited.
    awaited: Vec<Kind>,
    reports: Reports,
    /// Who waits for the first time that all rules stand.
    standing: Option<Sender<()>>,
    /// The frontends that the kernel refused last.
    set_aside: BTreeSet<Problem>,
    history: History,
    meter: AgentMeter,
    /// They wait until nothing is to be written.
    questions: Vec<Question>,
}

impl<D: Dataplane> Agent<D> {
    /// An agent for the node with this name, which has heard nothing yet.
    pub fn new(node: &str, dataplane: D) -> Self {
        Self {
            model: Model::default(),
            frontends: Frontends::new(node),
            dataplane,
            node_address: None,
            udp: Outbox::default(),
            checks: health::Outbox::default(),
            pulse: Pulse::default(),
            backoff: Backoff::default(),
            retry: None,
            synced_once: false,
            doubted: false,
            doubts: Doubts::default(),
            repaired: false,
            awaited: Vec::new(),
            reports: Reports::default(),
            standing: None,
            set_aside: BTreeSet::new(),
            history: History::default(),
            meter: AgentMeter::default(),
            questions: Vec::new(),
        }
    }

    /// The same agent, which also tells of frontends whose endpoints changed, once the kernel has taken the change.
    pub fn with_outbox(self, udp: Outbox) -> Self {
        Self { udp, ..self }
    }

    /// The same agent, which serves external IPs only if this says so.
    pub fn with_external_ips(self, served: bool) -> Self {
        Self { frontends: self.frontends.with_external_ips(served), ..self }
    }

    /// The same agent, which also tells of TCP frontends that changed, if this says so.
    pub fn following_tcp(self, follows: bool) -> Self {
        Self { frontends: self.frontends.following_tcp(follows), ..self }
    }

    /// The same agent, which also tells of health checks that changed, once the kernel has taken the change.
    pub fn with_checks(self, checks: health::Outbox) -> Self {
        Self { checks, ..self }
    }

    /// The same agent, whose health can be asked for.
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// The same agent, on a node whose own address is this one, whatever its object says.
    pub fn with_node_address(self, node_address: Option<IpAddr>) -> Self {
        Self { node_address, ..self }
    }

    /// The same agent, which also waits for the pods whose sockets are left out, if this says so.
    pub fn with_pods(self, awaited: bool) -> Self {
        Self { model: self.model.with_pods(awaited), ..self }
    }

    /// The same agent, which says once when all rules stand.
    pub fn with_standing(self, standing: Sender<()>) -> Self {
        Self { standing: Some(standing), ..self }
    }

    /// The same agent, which also counts.
    pub fn with_meter(self, meter: AgentMeter) -> Self {
        Self { meter, ..self }
    }

    /// The same agent, which also tells of itself.
    pub fn with_reports(self, reports: Reports) -> Self {
        Self { reports, ..self }
    }

    /// The dataplane, for tests that look into it.
    pub fn dataplane(&mut self) -> &mut D {
        &mut self.dataplane
    }

    /// Takes an event in. Never touches the kernel.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Change(change) => {
                self.history.hear(&change, Timestamp::now());
                let is_of_node = matches!(change, Change::NodeApplied(_) | Change::NodeGone(_));
                let (trigger, before) = (self.meter.hear(&change), self.model.pending());
                self.model.apply(change);
                self.meter.take(trigger, before, self.model.pending());
                if is_of_node {
                    self.pulse.set_eligible(self.model.node_exists() && !self.model.node().is_leaving);
                }
            }
            Event::Look(question) => self.questions.push(question),
            Event::LookAgain => self.dataplane.look_again(),
            Event::AddressesChanged => self.dataplane.addresses_changed(),
            Event::OthersChanged => self.dataplane.others_changed(),
            Event::Doubt => {
                self.doubted = true;
                self.dataplane.doubt();
            }
        }
    }

    /// Brings the kernel to what the model says, unless the model is not complete yet. Returns how long to wait before
    /// the next try when something failed.
    pub fn sync(&mut self) -> Option<Duration> {
        self.pulse.step();
        let retry = self.bring();
        self.pulse.rest();
        retry
    }

    fn bring(&mut self) -> Option<Duration> {
        if !self.model.ready() {
            self.report_awaited();
            return None;
        }
        let start = Instant::now();
        let dirty = self.model.take_dirty();
        self.meter.pend(self.model.pending());
        if !self.synced_once {
            // Only what a start reads grows in order.
            self.model.pack();
        }
        let mut quiet = true;
        self.frontends.update(&self.model, &dirty, |delta| {
            quiet &= delta.is_empty();
            self.udp.stage(delta);
            self.dataplane.stage(delta);
        });
        self.pulse.step();
        self.checks.stage(&self.model, &dirty);
        self.report_disputes();
        // An address that is configured holds without a Node object too.
        let is_first = self.node_address.is_some() && !self.synced_once;
        let surroundings_changed = dirty.node || dirty.service_cidrs || dirty.left_out || is_first;
        quiet &= !surroundings_changed;
        let is_due = self.dataplane.due().is_some_and(|due| due <= start);
        let idle = quiet && self.synced_once && !self.doubted && !self.backoff.is_failing() && !is_due;
        if idle {
            // The kernel has all that it is to have.
            self.checks.hand_over(&IpFamily::ALL);
            self.meter.arrive(&IpFamily::ALL, Timestamp::now());
            return None;
        }
        if surroundings_changed {
            let surroundings = Surroundings::of(&self.model, self.node_address);
            self.udp.surround(&surroundings);
            self.checks.surround(&surroundings);
            self.dataplane.surround(&surroundings);
        }
        if !quiet || self.doubted {
            self.meter.queue(Timestamp::now());
        }
        let before = start.elapsed();
        let synced = self.dataplane.sync(&self.frontends);
        self.udp.hand_over(&synced.written);
        self.checks.hand_over(&synced.written);
        self.pulse.synced(&synced.written);
        let (elapsed, now) = (start.elapsed(), Timestamp::now());
        self.report(&synced, (before, elapsed));
        self.history.sync(&synced, elapsed, now);
        self.meter.sync(&synced, (before, now));
        self.meter.measure(&self.model, &self.frontends);
        self.report_set_aside(&synced);
        self.repaired |= synced.is_repair();
        if synced.compared > 0 {
            if !self.synced_once {
                self.frontends.pack();
            }
            memory::give_back();
        }
        self.synced_once |= synced.failures.is_empty();
        self.tell_that_rules_stand();
        self.doubted = false;
        self.backoff.after(!synced.failures.is_empty())
    }

    fn tell_that_rules_stand(&mut self) {
        if let Some(standing) = self.standing.take_if(|_| self.synced_once) {
            // Nobody waits where there is nothing to take over.
            let _ = standing.send(());
        }
    }

    /// Answers what was asked.
    pub fn answer(&mut self) {
        let questions = std::mem::take(&mut self.questions);
        if questions.is_empty() {
            return;
        }
        let (model, frontends, history) = (&self.model, &self.frontends, &self.history);
        let (wanted, sockets) = (self.dataplane.wanted(), self.dataplane.sockets());
        let inside = Inside { model, frontends, wanted, history, sockets };
        questions.into_iter().for_each(|question| question.answer(&inside));
    }

    /// Said once for each set of kinds, not with every object of a long list.
    fn report_awaited(&mut self) {
        let awaited: Vec<Kind> = self.model.awaited().collect();
        if awaited != self.awaited {
            info!(?awaited, "nothing is written before all is known");
            self.awaited = awaited;
        }
    }

    fn report(&self, synced: &Synced, (before, elapsed): (Duration, Duration)) {
        for failure in &synced.failures {
            error!("{failure}");
        }
        let frontends = self.frontends.len();
        let (operations, compared) = (synced.operations, synced.compared);
        if !self.synced_once && synced.failures.is_empty() {
            info!(frontends, operations, ?elapsed, "wrote the Services of this node");
        } else {
            let led = synced.led_after.map(|after| tracing::field::debug(before + after));
            debug!(frontends, operations, compared, ?elapsed, led, "synced");
        }
    }

    fn report_disputes(&mut self) {
        for (contested, edit) in self.frontends.take_disputes().iter() {
            let problem = |dispute: &Dispute| Problem::conflict(contested, dispute);
            self.tell(edit.old.as_ref().map(problem).map(News::Ended));
            self.tell(edit.new.as_ref().map(problem).map(News::Began));
        }
    }

    fn report_set_aside(&mut self, synced: &Synced) {
        if synced.set_aside.is_empty() && self.set_aside.is_empty() {
            return;
        }
        let named = synced.set_aside.iter().filter_map(|SetAside { frontend, why }| {
            Some(Problem::set_aside(frontend, self.frontends.owner(frontend)?, why))
        });
        let now = named.collect();
        self.tell(problems::between(&self.set_aside, &now));
        self.set_aside = now;
    }

    fn tell(&self, news: impl IntoIterator<Item = News>) {
        news.into_iter().for_each(|news| self.reports.tell(Report::Problem(news)));
    }
}
