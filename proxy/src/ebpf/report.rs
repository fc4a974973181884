//! What is told of sockets: whether they are served, and if not, why.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Who serves Services to clients of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet.
    #[default]
    Waiting,
    /// Sockets.
    Serving,
    /// Packets alone, and why.
    Packets(String),
}

/// What was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Who serves.
    pub state: State,
    /// How many frontends sockets serve.
    pub frontends: usize,
    /// The cgroup that programs were last attached to.
    pub cgroup: Option<PathBuf>,
    /// Why connections between pods of this node are tracked; `None` where they are not.
    pub tracked: Option<String>,
    /// The addresses of pods that are left out, or are to be.
    pub left_out: BTreeSet<IpAddr>,
    /// Why some of those are served at sockets all the same.
    pub not_left_out: Option<String>,
    /// How often new maps and programs took the places of those before.
    pub takeovers: u64,
    /// How often sockets could not be served.
    pub failures: u64,
    /// How often it was tried out whether they are.
    pub probes: u64,
    /// How often they were not.
    pub failed_probes: u64,
}

/// The last state, for whoever asks or waits.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    now: Arc<(Mutex<Told>, Condvar)>,
}

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.now.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the state in, and how many frontends sockets serve.
    pub fn tell(&self, state: &State, frontends: usize) {
        let mut now = self.lock();
        if now.state != *state {
            self.now.1.notify_all();
        }
        now.failures += u64::from(matches!(state, State::Packets(_)));
        now.state.clone_from(state);
        now.frontends = frontends;
    }

    /// New programs took the places of those before, on this cgroup.
    pub fn take_over(&self, cgroup: Option<PathBuf>) {
        let mut now = self.lock();
        now.takeovers += 1;
        now.cgroup = cgroup;
    }

    /// Takes in why connections between pods of this node are tracked, where they are.
    pub fn track(&self, why: Option<String>) {
        self.lock().tracked = why;
    }

    /// Takes in the addresses of pods that are to be left out, and why some are not.
    pub fn leave_out(&self, pods: &BTreeSet<IpAddr>, why_not_all: Option<&str>) {
        let mut now = self.lock();
        now.left_out.clone_from(pods);
        now.not_left_out = why_not_all.map(str::to_owned);
    }

    /// It was tried out whether sockets are served.
    pub fn probe(&self, works: bool) {
        let mut now = self.lock();
        now.probes += 1;
        now.failed_probes += u64::from(!works);
    }

    /// What was told last.
    pub fn ask(&self) -> Told {
        self.lock().clone()
    }

    /// Waits for another state, but not longer than this.
    pub fn wait(&self, longest: Duration) -> Told {
        let now = self.lock();
        let before = now.state.clone();
        let waited = self.now.1.wait_timeout_while(now, longest, |told| told.state == before);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
