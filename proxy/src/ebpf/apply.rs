//! The eBPF dataplane: sockets first, and the nft tables for all that sockets do not see.
//!
//! Start, failure and outside damage are one path: new maps are filled with all that is wanted, and new programs take the places
//! of the old ones. There is no state to be read back. Invariant: the nft tables have every frontend, so that at every moment sockets
//! can be let go.

use super::between::Between;
use super::door::Door;
use super::error::Unable;
use super::left_out::LeftOut;
use super::live::Live;
use super::plan::{self, Leads};
use super::report::{Sockets, State};
use super::tally::Sums;
use super::view::View;
use crate::backoff::Backoff;
use crate::causes;
use crate::dataplane::{Dataplane, Failure, Surroundings, Synced, Untracked};
use crate::delta::Delta;
use crate::frontends::{Backends, Frontend, Frontends, IpFamily};
use crate::nft::Settings;
use heddle_netlink::nft::Table;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// The eBPF dataplane over another one, which has everything that sockets do not see.
#[derive(Debug)]
pub struct Ebpf<N, D: Door> {
    packets: N,
    door: D,
    settings: Settings,
    surroundings: Surroundings,
    live: Option<Live<D::Tables>>,
    /// What was counted in maps that are gone; with maps, they have it.
    ended: Sums,
    /// What was staged since the last sync.
    staged: BTreeMap<Frontend, Option<Leads>>,
    /// Everything is planned again: what is staged is not all that differs.
    replan: bool,
    /// Since when the node's addresses are to be listed.
    addresses: Option<Instant>,
    /// Since when maps have little room left for changes.
    short: Option<Instant>,
    left_out: LeftOut,
    backoff: Backoff,
    retry: Option<Instant>,
    /// When it was asked to look again.
    asked: Option<Instant>,
    /// Frontends that pods reach by packets, with their own addresses: what comes back is translated.
    by_packets: BTreeSet<Frontend>,
    /// What the dataplane for packets was last told not to track.
    untracked: Vec<Untracked>,
    between: Between,
    /// Of which networks bridges were last told to let frames pass; nothing is known of what an earlier process told them.
    passing: Option<Vec<IpNetwork>>,
    /// The node's own addresses, when they were last listed.
    own: BTreeSet<IpAddr>,
    /// Between what addresses the node's pods talk, made of these and the surroundings whenever either changes, since each sync asks.
    between_pods: Vec<Untracked>,
    report: Sockets,
    state: State,
}

impl<N: Dataplane, D: Door> Ebpf<N, D> {
    /// Over a dataplane for packets, with the same settings.
    pub fn new(packets: N, door: D, settings: &Settings, report: Sockets) -> Self {
        Self {
            packets,
            door,
            settings: settings.clone(),
            surroundings: Surroundings::default(),
            live: None,
            ended: Sums::default(),
            staged: BTreeMap::new(),
            replan: true,
            addresses: None,
            short: None,
            left_out: LeftOut::default(),
            backoff: Backoff::default(),
            retry: None,
            asked: None,
            by_packets: BTreeSet::new(),
            untracked: Vec::new(),
            between: Between::default(),
            passing: None,
            own: BTreeSet::new(),
            between_pods: Vec::new(),
            report,
            state: State::Waiting,
        }
    }

    /// The dataplane for packets, for tests that look behind it.
    pub fn packets(&mut self) -> &mut N {
        &mut self.packets
    }

    /// The door, for tests that look behind it.
    pub fn door(&mut self) -> &mut D {
        &mut self.door
    }

    fn knows_pods(&self, family: IpFamily) -> bool {
        plan::knows_pods(&self.settings.locality, &self.surroundings.pod_cidrs, family)
    }

    fn leads(&self, frontend: &Frontend, backends: &Backends) -> Option<Leads> {
        Leads::of(frontend, backends, &self.settings, self.knows_pods(frontend.place.family()))
    }

    fn serve(&mut self, wanted: &Frontends) -> Result<usize, Unable> {
        let addresses = self.addresses.take();
        if !self.replan
            && let Some(mut live) = self.live.take()
        {
            let edits = std::mem::take(&mut self.staged);
            let count = edits.len();
            let mut done = live.apply(edits, wanted);
            if addresses.is_some() {
                done = done.and_then(|()| self.serve_node_ports(&mut live.tables));
            }
            if self.left_out.due().is_some_and(|due| due <= Instant::now()) {
                self.leave_out(&mut live.tables);
            }
            self.live = Some(live);
            return done.map(|()| count);
        }
        self.serve_anew(wanted)
    }

    /// Gives the maps up, but not what was counted in them.
    fn end(&mut self) {
        if let Some(live) = self.live.take() {
            self.ended.add(live.counted());
        }
    }

    /// Fills new maps, and puts programs that read them in the places of the old ones.
    fn serve_anew(&mut self, wanted: &Frontends) -> Result<usize, Unable> {
        let start = Instant::now();
        self.staged.clear();
        self.by_packets.clear();
        for (frontend, _, backends) in wanted.iter() {
            let leads = self.leads(frontend, backends);
            self.note_packets(frontend, Some(backends), leads.as_ref());
        }
        let probes = self.door.probes()?.into_iter();
        let mut live = Live::new(self.door.load()?);
        let services = wanted
            .iter()
            .filter_map(|(frontend, _, backends)| Some((*frontend, self.leads(frontend, backends)?)));
        let loaded = start.elapsed();
        live.fill(services.chain(probes), wanted)?;
        let count = live.maps.len();
        debug!(frontends = count, ?loaded, elapsed = ?start.elapsed(), "filled maps for sockets");
        self.serve_node_ports(&mut live.tables)?;
        self.leave_out(&mut live.tables);
        self.door.attach(&live.tables)?;
        self.prove()?;
        self.report.take_over(self.door.cgroup());
        // Nobody counts in the old ones any more.
        self.end();
        live.inherit(std::mem::take(&mut self.ended), wanted);
        self.live = Some(live);
        self.replan = false;
        Ok(count)
    }

    fn prove(&mut self) -> Result<(), Unable> {
        let proof = self.door.prove();
        self.report.probe(proof.is_ok());
        proof
    }

    fn serve_node_ports(&mut self, tables: &mut D::Tables) -> Result<(), Unable> {
        let of_object = &self.surroundings.node_addresses;
        let served = |address: &IpAddr| self.settings.serves_node_ports_on(address, of_object);
        self.own = self.door.serve_on(tables, &served)?;
        self.note_pods();
        Ok(())
    }

    /// Finds out whether sockets that are said to be served are.
    fn look(&mut self) {
        if self.live.is_some()
            && let Err(unable) = self.prove()
        {
            warn!("sockets are not served: {}; they are taken anew", causes::line(&unable));
            self.replan = true;
            // So that how it ended is said in any case.
            self.state = State::Waiting;
        }
    }

    /// Makes room for the next changes once all has what this one brought: it takes the kernel longer than a change.
    fn keep_room(&mut self, has_edits: bool) {
        let is_due = self.short.take().is_some();
        let Some(live) = &mut self.live else { return };
        if is_due && let Err(error) = live.maps.make_spare_room(&mut live.tables) {
            // Changes make their own, or fail.
            debug!("no room ahead in maps: {error}");
        }
        if has_edits && live.maps.are_short_of_room(&live.tables) {
            self.short = Some(Instant::now());
        }
    }

    fn leave_out(&mut self, tables: &mut D::Tables) {
        let outcome = self.door.leave_out(tables, self.left_out.pods());
        self.left_out.settle(outcome, Instant::now());
        self.report.leave_out(self.left_out.pods(), self.left_out.why_not_all());
    }

    /// Serves sockets, or lets them go.
    fn sync_sockets(&mut self, wanted: &Frontends, synced: &mut Synced) {
        let now = Instant::now();
        if self.live.is_none() && self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        match self.serve(wanted) {
            Ok(edits) => {
                synced.operations += edits;
                self.backoff.after(false);
                self.retry = None;
                self.settle(State::Serving);
            }
            Err(unable) => {
                self.end();
                self.replan = true;
                let wait = self.backoff.after(true).unwrap_or(Duration::from_secs(1));
                self.retry = Some(now + wait);
                let why = causes::line(&unable);
                if let Err(left) = self.door.detach() {
                    synced.failures.push(Failure { what: "let sockets go".into(), source: left.into() });
                }
                self.settle(State::Packets(why));
            }
        }
    }

    fn settle(&mut self, state: State) {
        self.report.tell(&state, self.live.as_ref().map_or(0, |live| live.maps.len()));
        if state == self.state {
            return;
        }
        match &state {
            State::Serving => info!("Services are served at sockets, and by packets where no socket is seen"),
            State::Packets(why) => warn!("Services are served by packets alone (nftables): {why}"),
            State::Waiting => {}
        }
        self.state = state;
    }
}

impl<N: Dataplane, D: Door> Dataplane for Ebpf<N, D> {
    fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        self.packets.stage(delta);
        if self.replan {
            return;
        }
        for (frontend, edit) in delta.iter() {
            let leads = edit.new.as_ref().and_then(|backends| self.leads(frontend, backends));
            self.note_packets(frontend, edit.new.as_ref(), leads.as_ref());
            self.staged.insert(*frontend, leads);
        }
    }

    fn surround(&mut self, surroundings: &Surroundings) {
        let before = IpFamily::ALL.map(|family| self.knows_pods(family));
        self.surroundings.clone_from(surroundings);
        self.note_pods();
        self.replan |= before != IpFamily::ALL.map(|family| self.knows_pods(family));
        self.addresses = Some(Instant::now());
        self.left_out.want(&surroundings.left_out, Instant::now());
        self.surround_packets();
    }

    fn sync(&mut self, wanted: &Frontends) -> Synced {
        let start = Instant::now();
        let has_edits = !self.staged.is_empty();
        let tracks_otherwise = self.untracked != self.to_be_untracked();
        if tracks_otherwise {
            self.surround_packets();
        }
        let mut early = Synced::default();
        self.hand_over_again(&mut early);
        // A change takes sockets microseconds, and packets a commit. Packets come first where sockets are taken anew, so that they have all that is
        // wanted whatever becomes of those, and where they must track what sockets leave to them.
        let is_change = self.live.is_some() && !self.replan && self.asked.is_none() && !tracks_otherwise;
        if is_change {
            self.sync_sockets(wanted, &mut early);
            early.led_after = self.live.is_some().then(|| start.elapsed());
        }
        let mut synced = self.packets.sync(wanted);
        synced.operations += early.operations;
        synced.failures.append(&mut early.failures);
        synced.led_after = early.led_after;
        if self.asked.take().is_some() {
            self.look();
        }
        if !is_change {
            self.sync_sockets(wanted, &mut synced);
        }
        self.keep_room(has_edits);
        self.live.iter_mut().for_each(Live::note_released);
        let looked = self.look_between();
        self.let_pass(looked, &mut synced);
        if self.untracked != self.to_be_untracked() {
            self.asked = Some(Instant::now());
        }
        synced
    }

    fn due(&self) -> Option<Instant> {
        let of_sockets = self.live.as_ref().map(|_| self.left_out.due().into_iter().chain(self.addresses));
        self.packets
            .due()
            .into_iter()
            .chain(self.retry)
            .chain(self.asked)
            .chain(self.short)
            .chain(of_sockets.into_iter().flatten())
            .chain(self.between.due())
            .min()
    }

    fn wanted(&self) -> Vec<&Table> {
        self.packets.wanted()
    }

    fn sockets(&self) -> Option<View<'_>> {
        Some(match &self.live {
            Some(live) => View::Live(&live.maps, &live.tables, &live.tallies),
            None => View::Ended(&self.ended),
        })
    }

    fn doubt(&mut self) {
        self.packets.doubt();
    }

    fn look_again(&mut self) {
        self.packets.look_again();
        self.asked = Some(Instant::now());
    }

    fn addresses_changed(&mut self) {
        let now = Instant::now();
        self.packets.addresses_changed();
        self.addresses = Some(now);
        // A new one may be of a bridge that is to let frames pass.
        self.between.doubt(now);
    }

    fn others_changed(&mut self) {
        self.between.doubt(Instant::now());
    }
}

mod tracking;

#[cfg(test)]
mod tests;
