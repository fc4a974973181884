//! What the agent says of itself, for the servers to read.
//!
//! The agent's thread writes, the servers' reads, and neither holds the lock for longer than a few instructions: a probe is
//! answered while the agent works, and however many probes there are, the agent does not wait for them.

use super::{Health, Report};
use crate::frontends::IpFamily;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The agent's [`Health`], shared. The clock is read under the lock, so that moments come in their order.
#[derive(Clone, Debug)]
pub struct Pulse {
    health: Arc<Mutex<Health>>,
    clock: fn() -> Instant,
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new(Health::default(), Instant::now)
    }
}

impl Pulse {
    /// Of an agent in this state, by this clock.
    pub fn new(health: Health, clock: fn() -> Instant) -> Self {
        Self { health: Arc::new(Mutex::new(health)), clock }
    }

    /// See [`Health::step`].
    pub fn step(&self) {
        let mut health = self.health();
        health.step((self.clock)());
    }

    /// See [`Health::synced`].
    pub fn synced(&self, written: &[IpFamily]) {
        let mut health = self.health();
        health.synced(written, (self.clock)());
    }

    /// See [`Health::rest`].
    pub fn rest(&self) {
        self.health().rest();
    }

    /// See [`Health::set_eligible`].
    pub fn set_eligible(&self, is_eligible: bool) {
        self.health().set_eligible(is_eligible);
    }

    /// The state now.
    pub fn report(&self) -> Report {
        let health = self.health();
        health.report((self.clock)())
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
