//! Connections between the node's pods, kept out of tracking while sockets lead all of them.
//!
//! Two steps: a rule before tracking begins, and bridges that let frames pass by all rules where nobody else wants those to see them. Invariant:
//! both are taken back before packets have to be tracked again, and taken only after it was looked for connections that are translated.

use super::Ebpf;
use crate::causes;
use crate::dataplane::{Dataplane, Failure, Surroundings, Synced, Untracked};
use crate::ebpf::between::{Hindrance, Look, Untracking};
use crate::ebpf::door::Door;
use crate::ebpf::error::Unable;
use crate::ebpf::plan::Leads;
use crate::ebpf::report::State;
use crate::frontends::{Backends, Frontend};
use ipnetwork::IpNetwork;
use std::time::Instant;
use tracing::warn;

impl<N: Dataplane, D: Door> Ebpf<N, D> {
    /// Notes whether packets serve this frontend to pods; `leads` is what sockets are told of it.
    pub(super) fn note_packets(
        &mut self,
        frontend: &Frontend,
        backends: Option<&Backends>,
        leads: Option<&Leads>,
    ) {
        let has_endpoints = backends.is_some_and(|backends| !backends.cluster.is_empty());
        if has_endpoints && leads.is_none_or(|leads| leads.not_for_pods) {
            self.by_packets.insert(*frontend);
        } else {
            self.by_packets.remove(frontend);
        }
    }

    /// Whether sockets lead all connections of the node's pods.
    fn leads_all(&self) -> bool {
        self.settings.untracking != Untracking::Never
            && self.state == State::Serving
            && self.by_packets.is_empty()
            && !self.left_out.had_some()
    }

    /// Between what addresses no packet needs to be tracked: those of the node's pods, while sockets lead all of them.
    pub(super) fn to_be_untracked(&self) -> &[Untracked] {
        if self.leads_all() && self.between.is_clear() { &self.between_pods } else { &[] }
    }

    /// Notes which addresses pods have, and which of theirs are the node's, when either is not what it was.
    pub(super) fn note_pods(&mut self) {
        let own = |network: IpNetwork| self.own.iter().copied().filter(move |own| network.contains(*own));
        let between = |network: &IpNetwork| Untracked { network: *network, own: own(*network).collect() };
        self.between_pods = self.surroundings.pod_cidrs.iter().map(between).collect();
    }

    /// Tells the dataplane for packets, before they may have to be tracked again.
    pub(super) fn surround_packets(&mut self) {
        self.untracked = self.to_be_untracked().to_vec();
        let untracked = self.untracked.clone();
        self.packets.surround(&Surroundings { untracked, ..self.surroundings.clone() });
    }

    /// Why connections between pods are tracked, where they are.
    fn tracked_because(&self) -> Option<String> {
        if self.settings.untracking == Untracking::Never {
            return Some("heddle.untrackedPods is false".to_owned());
        }
        if self.left_out.had_some() {
            return Some("pods are left out, or were".to_owned());
        }
        if self.surroundings.pod_cidrs.is_empty() {
            return Some("the node's object has no range of pods".to_owned());
        }
        match (self.by_packets.first(), self.between.hindrance()) {
            (Some(frontend), _) => Some(format!("packets serve {frontend}")),
            (None, Some(hindrance)) => Some(hindrance.to_string()),
            (None, None) => self.untracked.is_empty().then(|| "nobody looked yet".to_owned()),
        }
    }

    /// Looks, when it is due, whether something needs pods' connections to be tracked. Returns whether it did.
    pub(super) fn look_between(&mut self) -> bool {
        let now = Instant::now();
        self.between.want(self.leads_all(), now);
        let is_due = self.between.due().is_some_and(|due| due <= now);
        if is_due {
            let anew = self.between.asks_anew();
            let found = self.door.look_between(&self.between_pods, self.settings.untracking, anew);
            let unknown = |unable: Unable| Look::Hindered(Hindrance::Unknown(causes::line(&unable)));
            self.between.settle(found.unwrap_or_else(unknown), now);
        }
        self.report.track(self.tracked_because());
        is_due
    }

    /// Makes bridges hand frames to the rules again, where they are not to pass any more.
    pub(super) fn hand_over_again(&mut self, synced: &mut Synced) {
        if self.untracked.is_empty() && self.passing.as_ref().is_none_or(|networks| !networks.is_empty()) {
            self.tell_bridges(Vec::new(), synced);
        }
    }

    /// Lets frames pass on bridges of the node's pods, once no rule of ours needs them; where it was just looked, on new ones too.
    pub(super) fn let_pass(&mut self, looked: bool, synced: &mut Synced) {
        let networks: Vec<IpNetwork> = self.untracked.iter().map(|between| between.network).collect();
        let is_due = looked || self.passing.as_ref() != Some(&networks);
        if is_due && !networks.is_empty() && synced.failures.is_empty() {
            self.tell_bridges(networks, synced);
        }
    }

    fn tell_bridges(&mut self, networks: Vec<IpNetwork>, synced: &mut Synced) {
        match self.door.let_pass(&networks) {
            Ok(()) => self.passing = Some(networks),
            Err(unable) if networks.is_empty() => {
                let what = "hand pods' frames to the tables again".into();
                synced.failures.push(Failure { what, source: unable.into() });
            }
            // It costs time and nothing else.
            Err(unable) => {
                warn!("bridges go on handing pods' frames to the node's rules: {}", causes::line(&unable));
                self.passing = Some(networks);
            }
        }
    }
}
