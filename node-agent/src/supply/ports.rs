//! The host ports of pods that run, written anew when their table is flushed.
//!
//! What is missing, [`restore`](heddle_cni::hostports::restore) knows from what the pods' links remember. Invariant: a DEL at
//! work, which takes a pod's ports before its link, is not undone.

use heddle_cni::failure::Failure;
use heddle_cni::hostports::HostPorts;
use heddle_cni::hostports::claim::Claim;
use heddle_cni::hostports::restore::Missing;
use heddle_cni::node::Node;
use heddle_proxy::backoff::Backoff;
use heddle_proxy::doubts::Doubts;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long a DEL takes at most from a pod's ports to its link: it takes a millisecond.
const MOMENT: Duration = Duration::from_millis(500);

/// Which pods lack ports, and since when. Pure.
#[derive(Debug, Default)]
struct Suspects(BTreeMap<String, Instant>);

impl Suspects {
    /// Takes in a look; returns the pods whose ports are to be written.
    fn due(&mut self, missing: Missing, now: Instant) -> BTreeMap<String, Vec<Claim>> {
        self.0.retain(|note, _| missing.pods.contains_key(note));
        missing.pods.keys().for_each(|note| _ = self.0.entry(note.clone()).or_insert(now));
        let is_due = |note: &String| missing.broken || self.0[note] + MOMENT <= now;
        missing.pods.into_iter().filter(|(note, _)| is_due(note)).collect()
    }

    /// When the first of them is due.
    fn next(&self) -> Option<Instant> {
        self.0.values().min().map(|since| *since + MOMENT)
    }
}

/// Keeps the host ports.
#[derive(Debug)]
pub(super) struct Ports {
    doubts: Doubts,
    suspects: Suspects,
    backoff: Backoff,
    retry: Option<Instant>,
    /// What could not be written, which was said.
    said: BTreeSet<String>,
}

impl Ports {
    /// What happened before the start is looked at, too.
    pub(super) fn new() -> Self {
        let mut doubts = Doubts::default();
        doubts.hear();
        let (suspects, backoff, said) = (Suspects::default(), Backoff::default(), BTreeSet::new());
        Self { doubts, suspects, backoff, retry: None, said }
    }

    /// Looks whenever it is told that the table changed. Works until nobody can tell it any more.
    pub(super) fn run(mut self, changed: &Receiver<()>) {
        loop {
            self.turn(Instant::now());
            let next = self.doubts.next().into_iter().chain(self.retry).chain(self.suspects.next()).min();
            let heard = match next {
                None => changed.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => changed.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match heard {
                Ok(()) => {
                    changed.try_iter().for_each(drop);
                    self.doubts.hear();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn turn(&mut self, now: Instant) {
        let doubted = self.doubts.take_due(now);
        let retried = self.retry.take_if(|retry| *retry <= now).is_some();
        let suspected = self.suspects.next().is_some_and(|next| next <= now);
        if !(doubted || retried || suspected) {
            return;
        }
        let troubles = self.restore(now).unwrap_or_else(|failure| {
            self.suspects = Suspects::default();
            [failure.to_line()].into()
        });
        troubles.difference(&self.said).for_each(|trouble| warn!("host ports are not restored: {trouble}"));
        self.retry = self.backoff.after(!troubles.is_empty()).map(|wait| now + wait);
        self.said = troubles;
        // Who edits is not known: an ADD may be the reason for the look.
        let _ = self.doubts.found(false, now);
    }

    /// Writes what is missing; returns what could not be written.
    fn restore(&mut self, now: Instant) -> Result<BTreeSet<String>, Failure> {
        let (mut node, mut ports) = (Node::open()?, HostPorts::open()?);
        let missing = ports.find_missing(&mut node)?;
        let mut troubles = BTreeSet::new();
        for (note, claims) in self.suspects.due(missing, now) {
            match ports.claim(&mut node, (&claims, &note)) {
                Ok(()) => info!(ports = claims.len(), "host ports are back: {note}"),
                Err(error) => _ = troubles.insert(format!("{note}: {}", Failure::from(error).to_line())),
            }
            self.suspects.0.remove(&note);
        }
        Ok(troubles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(broken: bool, notes: &[&str]) -> Missing {
        Missing { broken, pods: notes.iter().map(|note| ((*note).to_owned(), Vec::new())).collect() }
    }

    #[test]
    fn a_flushed_table_is_written_at_once_and_a_single_pod_is_waited_for() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        let mut due = |missing, now| suspects.due(missing, now).into_keys().collect::<Vec<_>>();
        assert_eq!(due(missing(true, &["a", "b"]), start), ["a", "b"]);
        assert_eq!(due(missing(false, &[]), start), [""; 0]);
        assert_eq!(due(missing(false, &["a"]), start), [""; 0], "a DEL may be at work");
        assert_eq!(due(missing(false, &["a", "b"]), start + MOMENT), ["a"]);
        assert_eq!(suspects.next(), Some(start + MOMENT));
    }
}
