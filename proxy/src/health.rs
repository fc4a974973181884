//! Whether the proxy works: asked for by probes and by load balancers.
//!
//! A node is healthy while its kernel routes by what the cluster says, or is on its way there. It is neither unhealthy because
//! the way is long, nor healthy because nobody noticed that it ended: see docs/decisions/health.md. [`Health`] is pure: every
//! moment is a value that it is given.
//!
//! ```text
//! agent ──▶ Pulse ──Health──▶ /healthz /livez /readyz        asked at any moment, answered without the agent
//!       ──▶ Outbox ──Changes──▶ one server a Service and address      healthCheckNodePort
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`pulse`] | what the agent says of itself, for the servers to read |
//! | [`answer`] | the responses; pure |
//! | [`checks`] | which Services want a health check, and their local endpoints; pure |
//! | [`listeners`] | on which addresses that makes us listen; pure |
//! | [`servers`] | the thread: listens, closes, tries again |

pub mod answer;
pub mod checks;
pub mod listeners;
pub mod pulse;
pub mod servers;

pub use checks::Outbox;
pub use pulse::Pulse;

use crate::frontends::IpFamily;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// kube-proxy's default.
const SYNC_PERIOD: Duration = Duration::from_secs(30);
/// How long a family may go on failing, in sync periods; kube-proxy's measure for any delay.
const FAILING: u32 = 2;
/// How long one step of a sync may take, in sync periods. The longest that was measured, the first write of
/// 100 000 Services, takes a sixtieth of it.
const STUCK: u32 = 10;

/// What is known of the agent.
#[derive(Clone, Debug)]
pub struct Health {
    sync_period: Duration,
    families: BTreeMap<IpFamily, Writes>,
    /// Since when the agent is at the step that it is at; none while it waits for changes.
    step: Option<Instant>,
    is_eligible: bool,
}

/// How a family's writes ended.
#[derive(Clone, Copy, Debug, Default)]
struct Writes {
    /// The last that the kernel took.
    last: Option<Instant>,
    /// The first of those since that failed.
    failing: Option<Instant>,
}

/// The state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// By family.
    pub families: BTreeMap<IpFamily, FamilyReport>,
    /// The cluster wants connections to come to this node.
    pub is_eligible: bool,
}

/// One family's state at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyReport {
    /// What is wanted is in the kernel or on its way.
    pub is_healthy: bool,
    /// How long ago the kernel last had all that was wanted; none before the first time.
    pub written: Option<Duration>,
}

impl Report {
    /// Every family is healthy.
    pub fn is_healthy(&self) -> bool {
        self.families.values().all(|family| family.is_healthy)
    }

    /// Every family was written at least once.
    pub fn is_ready(&self) -> bool {
        self.families.values().all(|family| family.written.is_some())
    }

    /// How long ago the kernel took a family last, whichever it was.
    pub fn written(&self) -> Option<Duration> {
        self.families.values().filter_map(|family| family.written).min()
    }
}

impl Health {
    /// An agent that has done nothing yet, on a node that nobody has told of.
    pub fn new(sync_period: Duration) -> Self {
        let families = IpFamily::ALL.map(|family| (family, Writes::default()));
        Self { sync_period, families: families.into(), step: None, is_eligible: false }
    }

    /// The same, where the others of the families are not routed.
    pub fn of_families(mut self, routed: &[IpFamily]) -> Self {
        self.families.retain(|family, _| routed.contains(family));
        self
    }

    /// The agent has begun to work, or has ended a step of its work and goes on to the next.
    pub fn step(&mut self, now: Instant) {
        self.step = Some(now);
    }

    /// A sync has ended; the kernel has all that is wanted of these families.
    pub fn synced(&mut self, written: &[IpFamily], now: Instant) {
        for (family, writes) in &mut self.families {
            if written.contains(family) {
                *writes = Writes { last: Some(now), failing: None };
            } else {
                writes.failing.get_or_insert(now);
            }
        }
    }

    /// The agent waits for changes.
    pub fn rest(&mut self) {
        self.step = None;
    }

    /// The cluster wants connections to come to this node, or not.
    pub fn set_eligible(&mut self, is_eligible: bool) {
        self.is_eligible = is_eligible;
    }

    /// The state at a moment that is not before any that it was told of.
    pub fn report(&self, now: Instant) -> Report {
        let within = |since: Option<Instant>, periods: u32| {
            since.is_none_or(|since| now.duration_since(since) < self.sync_period * periods)
        };
        let moves = within(self.step, STUCK);
        let families = self.families.iter().map(|(family, writes)| {
            let is_healthy = moves && within(writes.failing, FAILING);
            (*family, FamilyReport { is_healthy, written: writes.last.map(|last| now.duration_since(last)) })
        });
        Report { families: families.collect(), is_eligible: self.is_eligible }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(SYNC_PERIOD)
    }
}

#[cfg(test)]
mod tests;
