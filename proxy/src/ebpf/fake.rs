//! A kernel's sockets in memory: the other side of the dataplane's door.
//!
//! It refuses what the kernel refuses, which is little: programs run once they are attached, and a proof needs programs that run and
//! maps that were filled before. Nothing here is for a running proxy.

use super::between::{Hindrance, Look, Untracking};
use super::door::Door;
use super::error::Unable;
use super::memory::{Held, Memory};
use super::plan::{self, Leads};
use crate::dataplane::Untracked;
use crate::frontends::{Endpoint, Frontend, Place};
use crate::model::Protocol;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// What a door is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// [`Door::probes`].
    Probes,
    /// [`Door::load`].
    Load,
    /// [`Door::serve_on`].
    ServeOn,
    /// [`Door::leave_out`].
    LeaveOut,
    /// [`Door::attach`].
    Attach,
    /// [`Door::prove`].
    Prove,
    /// [`Door::detach`].
    Detach,
    /// [`Door::look_between`].
    LookBetween,
    /// [`Door::let_pass`].
    LetPass,
}

/// Sockets in memory.
#[derive(Debug, Default)]
pub struct FakeDoor {
    /// What the maps of the programs that run held when those were attached; none run where there is none.
    pub running: Option<Held>,
    /// How often each was done or tried.
    pub acts: BTreeMap<Act, usize>,
    /// How often each fails from now on.
    pub fails: BTreeMap<Act, usize>,
    /// The node's addresses.
    pub addresses: Vec<IpAddr>,
    /// The namespaces of its pods.
    pub namespaces: BTreeMap<IpAddr, u64>,
    /// What needs connections between pods to be tracked.
    pub hindrance: Option<Hindrance>,
    /// A look takes a second question.
    pub is_slow: bool,
    /// Of which networks bridges let frames pass.
    pub passing: Vec<IpNetwork>,
    /// The largest room for frontends that maps of the next load can have.
    pub limit: Option<usize>,
}

impl FakeDoor {
    fn act(&mut self, act: Act) -> Result<(), Unable> {
        *self.acts.entry(act).or_default() += 1;
        match self.fails.get_mut(&act) {
            Some(left @ 1..) => {
                *left -= 1;
                Err(Unable::new(format!("{act:?}"), "told to fail"))
            }
            _ => Ok(()),
        }
    }

    fn probe() -> Frontend {
        let place = Place::Address(Ipv4Addr::new(192, 0, 0, 8).into());
        Frontend { place, protocol: Protocol::Tcp, port: 1 }
    }
}

impl Door for FakeDoor {
    type Tables = Memory;

    fn load(&mut self) -> Result<Memory, Unable> {
        self.act(Act::Load)?;
        Ok(Memory { limit: self.limit, ..Memory::default() })
    }

    fn attach(&mut self, tables: &Memory) -> Result<(), Unable> {
        self.act(Act::Attach)?;
        self.running = Some(tables.held.clone());
        Ok(())
    }

    fn detach(&mut self) -> Result<(), Unable> {
        self.act(Act::Detach)?;
        self.running = None;
        Ok(())
    }

    fn probes(&mut self) -> Result<Vec<(Frontend, Leads)>, Unable> {
        self.act(Act::Probes)?;
        let endpoint = Endpoint { address: Ipv4Addr::LOCALHOST.into(), port: 1024, local: true };
        let leads =
            Leads { endpoints: [endpoint].into(), affinity: None, refuses: false, not_for_pods: false };
        Ok(vec![(Self::probe(), leads)])
    }

    fn prove(&mut self) -> Result<(), Unable> {
        self.act(Act::Prove)?;
        let key = plan::key(&Self::probe());
        let leads = |held: &Held| key.is_some_and(|key| held.frontends.contains_key(&key));
        if self.running.as_ref().is_some_and(leads) {
            return Ok(());
        }
        Err(Unable::new("reach a Service", "no program runs, or its maps were empty"))
    }

    fn serve_on(
        &mut self,
        tables: &mut Memory,
        served: &dyn Fn(&IpAddr) -> bool,
    ) -> Result<BTreeSet<IpAddr>, Unable> {
        self.act(Act::ServeOn)?;
        let all = self.addresses.iter().filter(|address| served(address));
        tables.held.addresses = all.map(|address| plan::address(*address)).collect::<BTreeSet<_>>();
        Ok(self.addresses.iter().copied().collect())
    }

    fn leave_out(
        &mut self,
        tables: &mut Memory,
        pods: &BTreeSet<IpAddr>,
    ) -> Result<BTreeSet<IpAddr>, Unable> {
        self.act(Act::LeaveOut)?;
        tables.held.left_out = pods.iter().filter_map(|pod| self.namespaces.get(pod)).copied().collect();
        Ok(pods.iter().filter(|pod| !self.namespaces.contains_key(pod)).copied().collect())
    }

    fn look_between(&mut self, _: &[Untracked], _: Untracking, anew: bool) -> Result<Look, Unable> {
        self.act(Act::LookBetween)?;
        if anew && self.is_slow {
            return Ok(Look::Pending);
        }
        Ok(self.hindrance.clone().map_or(Look::Clear, Look::Hindered))
    }

    fn let_pass(&mut self, networks: &[IpNetwork]) -> Result<(), Unable> {
        self.act(Act::LetPass)?;
        self.passing = networks.to_vec();
        Ok(())
    }
}
