//! The leak sweep: what pods left that are gone without a DEL is given back.
//!
//! What is dead, [`leftovers`](heddle_cni::leftovers) knows. An ADD that has just begun looks the same, so only what is dead at
//! two looks, with a period between them, is given back. Invariant: nothing of another network is touched.

use super::News;
use heddle_cni::config::ipam;
use heddle_cni::failure::Failure;
use heddle_cni::install::programs::PROGRAM;
use heddle_cni::leftovers::{Dead, Network};
use heddle_cni::node::Node;
use heddle_cni::spec::decode;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tracing::info;

/// What was found and done since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// How often everything was looked at.
    pub sweeps: AtomicU64,
    /// How many of those failed.
    pub failures: AtomicU64,
    /// How many leases and pods' host ports were dead at the last look, and not given back yet.
    pub dead: AtomicU64,
    /// How many leases were given back.
    pub leases: AtomicU64,
    /// How many pods' host ports were given back.
    pub ports: AtomicU64,
}

/// A network whose leases are ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// Its name.
    pub(super) network: String,
    /// Where its leases are.
    pub(super) leases: PathBuf,
}

/// The networks of a configuration. Pure.
pub(super) fn targets(list: &str) -> BTreeSet<Target> {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let network = list["name"].as_str().filter(|name| !name.is_empty());
    let plugins = list["plugins"].as_array().map_or(&[][..], Vec::as_slice);
    let ours =
        plugins.iter().filter(|plugin| plugin["type"] == PROGRAM && plugin["ipam"]["type"] == "heddle");
    let target = |plugin: &Value| {
        let document = decode(plugin.to_string().as_bytes()).ok()?;
        Some(Target { network: network?.to_owned(), leases: ipam::read_leases(&document) })
    };
    ours.filter_map(target).collect()
}

/// Since when something is dead, by network.
#[derive(Debug, Default)]
struct Watchlist(BTreeMap<Target, BTreeMap<Dead, Instant>>);

impl Watchlist {
    /// Takes in a look; returns what has been dead for so long. What lives again is forgotten.
    fn due(
        &mut self,
        target: &Target,
        found: &BTreeSet<Dead>,
        (now, grace): (Instant, Duration),
    ) -> Vec<Dead> {
        let known = self.0.entry(target.clone()).or_default();
        known.retain(|dead, _| found.contains(dead));
        found.iter().for_each(|dead| _ = known.entry(dead.clone()).or_insert(now));
        known.iter().filter(|(_, since)| **since + grace <= now).map(|(dead, _)| dead.clone()).collect()
    }

    fn forget(&mut self, target: &Target, dead: &Dead) {
        self.0.get_mut(target).and_then(|known| known.remove(dead));
    }

    fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
}

/// Sweeps.
#[derive(Debug)]
pub(super) struct Sweep {
    period: Duration,
    targets: BTreeSet<Target>,
    watchlist: Watchlist,
    counts: Arc<Counts>,
}

impl Sweep {
    pub(super) fn new(period: Duration, counts: Arc<Counts>) -> Self {
        Self { period, targets: BTreeSet::new(), watchlist: Watchlist::default(), counts }
    }

    /// Looks whenever it hears of networks, and each period; tells why it cannot, or that it could. Works until nobody can
    /// tell it anything any more.
    pub(super) fn run(mut self, inbox: &Receiver<BTreeSet<Target>>, news: &Sender<News>) {
        let mut next = Instant::now() + self.period;
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                // Those that it had before may have pods still.
                Ok(more) => self.targets.extend(more),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            next = now + self.period;
            let done = self.sweep(now);
            self.counts.sweeps.fetch_add(1, Ordering::Relaxed);
            self.counts.failures.fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
            self.counts.dead.store(self.watchlist.count() as u64, Ordering::Relaxed);
            if news.send(News::Sweep(done.err().map(|failure| failure.to_line()))).is_err() {
                return;
            }
        }
    }

    fn sweep(&mut self, now: Instant) -> Result<(), Failure> {
        let mut node = Node::open()?;
        let mut troubles = Vec::new();
        for target in &self.targets {
            let network = Network { name: &target.network, leases: &target.leases };
            let found = match network.find_dead(&mut node) {
                Ok(found) => found,
                Err(failure) => {
                    troubles.push(failure.to_line());
                    continue;
                }
            };
            for dead in self.watchlist.due(target, &found, (now, self.period)) {
                match network.bury(&mut node, &dead) {
                    Ok(true) => count(&self.counts, target, &dead),
                    Ok(false) => {}
                    Err(failure) => {
                        troubles.push(failure.to_line());
                        continue;
                    }
                }
                self.watchlist.forget(target, &dead);
            }
        }
        Failure::collected(109, "give back what pods left", &troubles)
    }
}

fn count(counts: &Counts, target: &Target, dead: &Dead) {
    info!(network = target.network, "{dead} are free again: the pod was gone without a DEL");
    let counter = match dead {
        Dead::Lease { .. } => &counts.leases,
        Dead::Ports { .. } => &counts.ports,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_cni::ipam::Owner;

    fn lease(container: &str) -> Dead {
        Dead::Lease { owner: Owner::new(container, "eth0"), addresses: Vec::new() }
    }

    #[test]
    fn only_what_stays_dead_for_a_period_is_due() {
        let (mut list, start, period) = (Watchlist::default(), Instant::now(), Duration::from_secs(60));
        let target = Target { network: "pods".to_owned(), leases: PathBuf::new() };
        let mut due = |names: &[&str], now| {
            let found = names.iter().map(|name| lease(name)).collect();
            list.due(&target, &found, (now, period))
        };
        assert_eq!(due(&["a", "b"], start), []);
        assert_eq!(due(&["a", "b", "c"], start + period / 2), [], "asked early");
        assert_eq!(due(&["b", "c"], start + period), [lease("b")]);
        assert_eq!(
            due(&["a", "b", "c"], start + period * 3 / 2),
            [lease("b"), lease("c")],
            "a lived in between"
        );
        list.forget(&target, &lease("b"));
        assert_eq!(list.count(), 2);
    }

    #[test]
    fn the_networks_are_those_of_our_plugin_with_its_own_leases() {
        let list = r#"{"name": "pods", "plugins": [
            {"type": "heddle-cni", "ipam": {"type": "heddle", "dataDir": "/x"}},
            {"type": "heddle-cni", "ipam": {"type": "heddle"}},
            {"type": "heddle-cni", "ipam": {"type": "dhcp"}}, {"type": "bridge", "ipam": {"type": "heddle"}}]}"#;
        let found: Vec<_> = targets(list).into_iter().map(|target| (target.network, target.leases)).collect();
        let at = |leases: &str| ("pods".to_owned(), PathBuf::from(leases));
        assert_eq!(found, [at("/var/lib/heddle/leases"), at("/x")]);
        assert_eq!((targets("{"), targets("{\"plugins\": [{}]}")), (BTreeSet::new(), BTreeSet::new()));
    }
}
