//! A packet's way through the hooks, and what its connection remembers on it.

use super::rule::Step;
use super::{Fault, Hit, Passage, Visit};
use crate::packet::{Outcome, Packet};
use heddle_netlink::nft::{Cells, Chain, Data, HookKind, HookPoint, Name, Policy, Rule, Table, TableFamily};
use std::collections::BTreeSet;
use std::mem;
use std::net::IpAddr;

/// `NFT_JUMP_STACK_SIZE`
const DEEPEST: usize = 16;

/// Why a packet goes no further.
#[derive(Debug)]
pub(super) enum End {
    /// It was dropped.
    Dropped,
    /// Its sender was answered.
    Rejected,
    /// The tables do not hold together.
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A packet on its way, with its connection.
#[derive(Debug)]
pub(super) struct Travel<'a> {
    tables: Vec<&'a Table>,
    pub(super) addresses: &'a BTreeSet<IpAddr>,
    /// As it is now: translations change it.
    pub(super) packet: Packet,
    pub(super) draw: u32,
    /// How many numbers a rule could have drawn.
    pub(super) choices: u32,
    pub(super) remembered: Vec<(Name, Cells, Data)>,
    /// The destination was translated (`IPS_DST_NAT`).
    pub(super) destination_translated: bool,
    /// It belongs to no connection.
    pub(super) untracked: bool,
    pub(super) source_translated: bool,
    /// Labels of the connection.
    pub(super) labels: BTreeSet<u8>,
    /// Mark of the connection.
    pub(super) mark: u32,
    /// Nat chains have decided about the destination, be it that it stays (`IPS_DST_NAT_DONE`).
    destination_decided: bool,
    source_decided: bool,
    path: Vec<Visit<'a>>,
    /// What the rule at hand has found.
    pub(super) hits: Vec<Hit<'a>>,
}

impl<'a> Travel<'a> {
    pub(super) fn new(
        tables: Vec<&'a Table>,
        addresses: &'a BTreeSet<IpAddr>,
        packet: &Packet,
        draw: u32,
    ) -> Self {
        Self {
            tables,
            addresses,
            packet: packet.clone(),
            draw,
            choices: 1,
            remembered: Vec::new(),
            destination_translated: false,
            untracked: false,
            source_translated: false,
            labels: BTreeSet::new(),
            mark: 0,
            destination_decided: false,
            source_decided: false,
            path: Vec::new(),
            hits: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Passage<'a>, Fault> {
        let outcome = match self.pass() {
            Ok(()) if self.destination_translated || self.source_translated => Outcome::Endpoint {
                address: self.packet.destination,
                port: self.packet.port,
                source_kept: !self.source_translated,
            },
            Ok(()) => Outcome::Untouched,
            Err(End::Dropped) => Outcome::Drop,
            Err(End::Rejected) => Outcome::Reject,
            Err(End::Fault(fault)) => return Err(fault),
        };
        Ok(Passage { outcome, path: self.path, choices: self.choices, remembered: self.remembered })
    }

    /// Whether an address is this host's own (`RTN_LOCAL`).
    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    fn pass(&mut self) -> Result<(), End> {
        if self.packet.in_interface.is_none() {
            self.hook(HookPoint::Output)?;
            self.hook(HookPoint::Postrouting)?;
            if !self.is_local(self.packet.destination) {
                return Ok(());
            }
            // What a host sends to itself comes in again by the loopback interface, in the same connection.
            self.packet.in_interface = Some("lo".into());
        }
        self.hook(HookPoint::Prerouting)?;
        if self.is_local(self.packet.destination) {
            return self.hook(HookPoint::Input);
        }
        self.hook(HookPoint::Forward)?;
        self.hook(HookPoint::Postrouting)
    }

    /// Runs the base chains of a hook by priority. An accepted packet goes to the next of them, but for nat chains: once one
    /// has translated, the others of its hook are skipped.
    fn hook(&mut self, point: HookPoint) -> Result<(), End> {
        let mut bases = self.base_chains(point);
        bases.sort_by_key(|(_, _, chain)| chain.hook.map(|hook| hook.priority));
        for (table, name, chain) in bases {
            let hook = chain.hook.filter(|hook| hook.kind == HookKind::Filter || !self.nat_is_decided(point));
            let Some(hook) = hook else { continue };
            let accepted = self.chain(table, name, chain)?;
            if !accepted && hook.policy == Policy::Drop {
                self.path.push(Visit { table, chain: name, rule: None, hits: Vec::new() });
                return Err(End::Dropped);
            }
            self.nat_decides(point, hook.kind, false);
        }
        self.nat_decides(point, HookKind::Nat, true);
        Ok(())
    }

    fn base_chains(&self, point: HookPoint) -> Vec<(&'a Table, &'a Name, &'a Chain)> {
        let family = TableFamily::of(self.packet.destination);
        let tables = self.tables.iter().copied().filter(|table| table.family == family && !table.dormant);
        let chains =
            tables.flat_map(|table| table.chains.iter().map(move |(name, chain)| (table, name, chain)));
        chains.filter(|(_, _, chain)| chain.hook.is_some_and(|hook| hook.point == point)).collect()
    }

    fn nat_is_decided(&self, point: HookPoint) -> bool {
        match point {
            HookPoint::Prerouting | HookPoint::Output => self.destination_decided,
            _ => self.source_decided,
        }
    }

    /// Once a nat chain has translated, or the hook is over, the connection's address stays as it is.
    fn nat_decides(&mut self, point: HookPoint, kind: HookKind, over: bool) {
        if kind == HookKind::Filter {
            return;
        }
        match point {
            HookPoint::Prerouting | HookPoint::Output => {
                self.destination_decided |= over || self.destination_translated;
            }
            HookPoint::Postrouting | HookPoint::Input => {
                self.source_decided |= over || self.source_translated;
            }
            HookPoint::Forward => {}
        }
    }

    /// Runs a base chain and what it goes to; false when none of them accepted and its policy decides.
    fn chain(&mut self, table: &'a Table, name: &'a Name, chain: &'a Chain) -> Result<bool, End> {
        let (mut name, mut chain) = (name, chain);
        for _ in 0..DEEPEST {
            match self.rules(table, name, chain)? {
                Step::Accept => return Ok(true),
                Step::Goto(target) => {
                    // A chain that was gone to has nowhere to return: its end is the base chain's.
                    let found = table.chains.get_key_value(&target);
                    (name, chain) = found.ok_or(Fault::NoChain { chain: target })?;
                }
                Step::Next | Step::NoMatch => return Ok(false),
            }
        }
        Err(Fault::Endless { chain: name.clone() }.into())
    }

    fn rules(&mut self, table: &'a Table, name: &'a Name, chain: &'a Chain) -> Result<Step, End> {
        for rule in &chain.rules {
            self.hits.clear();
            let step = self.rule(table, name, rule);
            if !matches!(step, Ok(Step::NoMatch)) {
                let hits = mem::take(&mut self.hits);
                self.path.push(Visit { table, chain: name, rule: Some(rule), hits });
            }
            match step? {
                Step::Next | Step::NoMatch => {}
                verdict => return Ok(verdict),
            }
        }
        Ok(Step::Next)
    }

    fn rule(&mut self, table: &'a Table, name: &Name, rule: &'a Rule) -> Result<Step, End> {
        for statement in rule {
            match self.statement(table, name, statement)? {
                Step::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Step::Next)
    }
}
