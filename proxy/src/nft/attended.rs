//! A door to nf_tables that tells of each answer of the kernel.
//!
//! A sync of many steps is long; one that is stuck has no next step. Who asks for the agent's health is to know them apart.

use super::affinity::Affinities;
use super::apply::Kernel;
use crate::health::Pulse;
use heddle_netlink::Error;
use heddle_netlink::nft::{CommitError, Table, TableFamily, Transaction};
use std::time::Duration;

/// The door behind it, and whom to tell.
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

    /// The door behind it, for tests that look there.
    pub fn inner(&mut self) -> &mut K {
        &mut self.kernel
    }

    fn step<T>(&mut self, ask: impl FnOnce(&mut K) -> T) -> T {
        let answer = ask(&mut self.kernel);
        self.pulse.step();
        answer
    }
}

impl<K: Kernel> Kernel for Attended<K> {
    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, Error> {
        self.step(|kernel| kernel.load(family))
    }

    fn forget(&mut self, family: TableFamily, allowed: &Affinities) -> Result<usize, Error> {
        self.step(|kernel| kernel.forget(family, allowed))
    }

    fn transit(&self) -> Duration {
        self.kernel.transit()
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        self.step(|kernel| kernel.commit(transaction))
    }
}
