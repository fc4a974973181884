//! Whether the agent's thread goes on, for who cannot ask it.
//!
//! Not whether the kernel obeys: a thread that tries again goes on. The agent writes, probes read, and neither holds the
//! lock for longer than a few instructions. Invariant: a thread that waits for events is never taken for one that hangs,
//! however long it waits.

use crate::diff::Steps;
use crate::kernel::{Failure, Kernel};
use crate::seen::Seen;
use heddle_netlink::link::LinkIndex;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One step of a turn, which is an answer of the kernel, takes no longer; heddle-proxy's measure too. The longest that was
/// measured takes a tenth of a second, but another program may hold the kernel's locks for many.
pub const STUCK: Duration = Duration::from_mins(5);

/// What the agent says of itself; clones are the same one.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// Since when the agent is at the step that it is at; none while it waits for events.
    step: Arc<Mutex<Option<Instant>>>,
    clock: fn() -> Instant,
}

impl Default for Pulse {
    fn default() -> Self {
        Self::by(Instant::now)
    }
}

impl Pulse {
    /// By this clock.
    pub fn by(clock: fn() -> Instant) -> Self {
        Self { step: Arc::default(), clock }
    }

    /// The agent has begun to work, or has ended a step of its work and goes on to the next.
    pub fn step(&self) {
        *self.lock() = Some((self.clock)());
    }

    /// The agent waits for events.
    pub fn rest(&self) {
        *self.lock() = None;
    }

    /// For how long it has been at one step; none while it waits for events.
    pub fn busy(&self) -> Option<Duration> {
        let step = *self.lock();
        step.map(|since| (self.clock)().saturating_duration_since(since))
    }

    /// For how long it hangs, if it does.
    pub fn stuck(&self) -> Option<Duration> {
        self.busy().filter(|busy| *busy >= STUCK)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A door to the kernel that tells of each answer: a turn of many steps is long, one that hangs has no next step.
#[derive(Debug)]
pub struct Attended<K> {
    kernel: K,
    pulse: Pulse,
}

impl<K> Attended<K> {
    /// Tells this pulse of what the kernel answers.
    pub fn new(kernel: K, pulse: Pulse) -> Self {
        Self { kernel, pulse }
    }

    fn step<T>(&mut self, ask: impl FnOnce(&mut K) -> T) -> T {
        let answer = ask(&mut self.kernel);
        self.pulse.step();
        answer
    }
}

impl<K: Kernel> Kernel for Attended<K> {
    fn look(&mut self) -> Result<Seen, Failure> {
        self.step(K::look)
    }

    fn forward(&mut self, uplinks: &BTreeSet<LinkIndex>) -> Result<Vec<String>, Failure> {
        self.step(|kernel| kernel.forward(uplinks))
    }

    fn apply(&mut self, steps: &Steps) -> Vec<Failure> {
        self.step(|kernel| kernel.apply(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    static SECONDS: AtomicU64 = AtomicU64::new(0);

    fn pass(time: Duration) {
        SECONDS.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    #[test]
    fn who_waits_is_well_and_who_has_been_at_one_step_for_too_long_hangs() {
        let pulse = Pulse::by(|| *START + Duration::from_secs(SECONDS.load(Ordering::Relaxed)));
        pass(2 * STUCK);
        assert_eq!((pulse.busy(), pulse.stuck()), (None, None), "nothing was to be done yet");
        pulse.step();
        pass(STUCK - Duration::from_secs(1));
        assert_eq!((pulse.busy(), pulse.stuck()), (Some(STUCK - Duration::from_secs(1)), None));
        pulse.step();
        pass(STUCK);
        assert_eq!(pulse.stuck(), Some(STUCK), "the time counts from the last step");
        pulse.step();
        assert_eq!((pulse.busy(), pulse.stuck()), (Some(Duration::ZERO), None), "it goes on");
        pulse.rest();
        pass(2 * STUCK);
        assert_eq!((pulse.busy(), pulse.stuck()), (None, None));
    }
}
