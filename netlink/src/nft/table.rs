//! One table as data: its chains, sets and maps, and what a transaction makes of it.
//!
//! It is the same thing as wanted state, as the kernel's state read back, and as a fake kernel: [`Table::after`] refuses
//! what nf_tables refuses, with its error number. Invariant: everything is ordered, so equal tables print equal bytes.

use super::TableFamily;
use super::elements::Elements;
use super::statement::{Rule, Statement};
use super::transaction::{Op, Transaction};
use super::value::{Cells, Data, Name, Type};
use crate::Errno;
use std::collections::{BTreeMap, BTreeSet};

/// Which kind of base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// `type filter`
    Filter,
    /// `type nat`: sees the first packet of each connection only.
    Nat,
}

impl HookKind {
    /// nft's word.
    pub fn keyword(self) -> &'static str {
        if self == Self::Filter { "filter" } else { "nat" }
    }
}

/// Where a base chain is called (`NF_INET_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Arriving packets, before routing.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets that pass through.
    Forward,
    /// Packets that this host made.
    Output,
    /// Leaving packets, after routing.
    Postrouting,
}

impl HookPoint {
    /// All hooks, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    /// nft's word.
    pub fn keyword(self) -> &'static str {
        ["prerouting", "input", "forward", "output", "postrouting"][self as usize]
    }
}

/// What happens to a packet at the end of a base chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// It goes on.
    #[default]
    Accept,
    /// It is dropped.
    Drop,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its type.
    pub kind: HookKind,
    /// Its hook.
    pub point: HookPoint,
    /// Lower comes first.
    pub priority: i32,
    /// Its policy.
    pub policy: Policy,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// `None` for a chain that only others go to.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// What the elements of a set map to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataType {
    /// Nothing: a set.
    None,
    /// Nothing, and each element is a range of each cell: an interval set (kernel 5.6).
    Ranges,
    /// A verdict: a verdict map.
    Verdict,
    /// These cells: a map.
    Cells(Vec<Type>),
}

/// The shape of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetType {
    /// The cells of a key.
    pub key: Vec<Type>,
    /// What a key maps to.
    pub data: DataType,
    /// Its elements come from packets and go after a time, and there are at most so many; what it holds is not ours to
    /// say, so it is not read back.
    pub dynamic: Option<u32>,
    /// Each element counts the packets that found it; an element that is replaced begins at 0 (kernel 5.7).
    pub counted: bool,
    /// For people who list the table; at most 127 bytes.
    pub comment: Name,
}

/// A set or map with its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its shape.
    pub kind: SetType,
    /// Its elements.
    pub elements: Elements,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: TableFamily,
    /// Its name.
    pub name: Name,
    /// Somebody has switched the table off (`flags dormant`).
    pub dormant: bool,
    /// Its chains.
    pub chains: BTreeMap<Name, Chain>,
    /// Its sets and maps.
    pub sets: BTreeMap<Name, Set>,
}

/// Which operation of a transaction was refused, and the kernel's error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the operation.
    pub op: usize,
    /// What the kernel says.
    pub errno: Errno,
}

impl Table {
    /// A table without chains and sets.
    pub fn new(family: TableFamily, name: &str) -> Self {
        Self { family, name: name.into(), dormant: false, chains: BTreeMap::new(), sets: BTreeMap::new() }
    }

    /// What the kernel has after the transaction, if it takes it; `None` stands for "no such table".
    ///
    /// # Errors
    /// The first operation that nf_tables would refuse; nothing is changed then.
    pub fn after(have: Option<&Self>, transaction: &Transaction) -> Result<Option<Self>, Refused> {
        let mut table = have.cloned();
        for (op, operation) in transaction.ops.iter().enumerate() {
            match operation {
                Op::AddTable => {
                    table.get_or_insert_with(|| Self::new(transaction.family, &transaction.table));
                }
                Op::DeleteTable => {
                    table.take().ok_or(Refused { op, errno: Errno::NOENT })?;
                }
                other => {
                    let table = table.as_mut().ok_or(Refused { op, errno: Errno::NOENT })?;
                    table.take_op(other).map_err(|errno| Refused { op, errno })?;
                }
            }
        }
        if let Some(table) = &table {
            let op = transaction.ops.len().saturating_sub(1);
            table.validate().map_err(|errno| Refused { op, errno })?;
        }
        Ok(table)
    }

    /// The kernel's check of what each base chain can reach (`nft_chain_validate`).
    fn validate(&self) -> Result<(), Errno> {
        let mut bases = self.chains.values().filter_map(|chain| Some((chain, chain.hook?)));
        bases.try_for_each(|(chain, hook)| self.validate_chain(chain, hook, 0))
    }

    fn validate_chain(&self, chain: &Chain, hook: Hook, depth: usize) -> Result<(), Errno> {
        // `NFT_JUMP_STACK_SIZE`
        if depth == 16 {
            return Err(Errno::MLINK);
        }
        for statement in chain.rules.iter().flatten() {
            if !statement.allowed_in(hook) {
                return Err(Errno::OPNOTSUPP);
            }
            let mut targets: BTreeSet<Name> = statement.target().into_iter().cloned().collect();
            if let Statement::Vmap(_, map) = statement {
                targets.extend(self.sets[map].elements.values().filter_map(Data::into_target));
            }
            for target in targets {
                self.validate_chain(&self.chains[&target], hook, depth + 1)?;
            }
        }
        Ok(())
    }

    fn take_op(&mut self, op: &Op) -> Result<(), Errno> {
        match op {
            Op::AddTable | Op::DeleteTable => Ok(()),
            Op::AddChain(name, hook) => self.add_chain(name, *hook),
            Op::FlushChain(name) => {
                self.chains.get_mut(name).ok_or(Errno::NOENT)?.rules.clear();
                Ok(())
            }
            Op::DeleteChain(name) => self.delete_chain(name),
            Op::AddRule(chain, rule) => self.add_rule(chain, rule),
            Op::AddSet(name, kind) => self.add_set(name, kind),
            Op::DeleteSet(name) => self.delete_set(name),
            Op::AddElement(set, key, data) => self.add_element(set, key, data),
            Op::DeleteElement(set, key, _) => {
                let set = self.sets.get_mut(set).ok_or(Errno::NOENT)?;
                set.elements.remove(key).map(|_| ()).ok_or(Errno::NOENT)
            }
        }
    }

    fn add_chain(&mut self, name: &Name, hook: Option<Hook>) -> Result<(), Errno> {
        match self.chains.get(name) {
            // Without a hook the chain is only named, and a base chain stays one.
            Some(chain) if hook.is_none() || chain.hook == hook => Ok(()),
            Some(_) => Err(Errno::EXIST),
            None => {
                self.chains.insert(name.clone(), Chain { hook, rules: Vec::new() });
                Ok(())
            }
        }
    }

    fn delete_chain(&mut self, name: &Name) -> Result<(), Errno> {
        let maps = self.sets.values().filter(|set| set.kind.data == DataType::Verdict);
        let mut elements = maps.flat_map(|map| map.elements.values()).filter_map(Data::into_target);
        let statements = self.chains.values().flat_map(|chain| &chain.rules).flatten();
        if elements.any(|target| target == *name)
            || statements.filter_map(Statement::target).any(|t| t == name)
        {
            return Err(Errno::BUSY);
        }
        self.chains.remove(name).map(|_| ()).ok_or(Errno::NOENT)
    }

    fn add_rule(&mut self, chain: &Name, rule: &[Statement]) -> Result<(), Errno> {
        if rule.iter().filter_map(Statement::set).any(|set| !self.sets.contains_key(set)) {
            return Err(Errno::NOENT);
        }
        for target in rule.iter().filter_map(Statement::target) {
            if self.chains.get(target).ok_or(Errno::NOENT)?.hook.is_some() {
                return Err(Errno::OPNOTSUPP);
            }
        }
        self.chains.get_mut(chain).ok_or(Errno::NOENT)?.rules.push(rule.to_vec());
        Ok(())
    }

    fn add_set(&mut self, name: &Name, kind: &SetType) -> Result<(), Errno> {
        match self.sets.get(name) {
            Some(set) if set.kind.key == kind.key && set.kind.data == kind.data => Ok(()),
            Some(_) => Err(Errno::EXIST),
            None => {
                self.sets.insert(name.clone(), Set { kind: kind.clone(), elements: Elements::default() });
                Ok(())
            }
        }
    }

    fn delete_set(&mut self, name: &Name) -> Result<(), Errno> {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        if rules.flatten().any(|statement| statement.set() == Some(name)) {
            return Err(Errno::BUSY);
        }
        self.sets.remove(name).map(|_| ()).ok_or(Errno::NOENT)
    }

    fn add_element(&mut self, set: &Name, key: &Cells, data: &Data) -> Result<(), Errno> {
        if let Data::Goto(chain) = data {
            // A verdict may not name a base chain.
            if self.chains.get(chain).ok_or(Errno::NOENT)?.hook.is_some() {
                return Err(Errno::OPNOTSUPP);
            }
        }
        let set = self.sets.get_mut(set).ok_or(Errno::NOENT)?;
        if !set.kind.fits(key, data) {
            return Err(Errno::INVAL);
        }
        match set.elements.get(key) {
            // The kernel keeps the old data and says so.
            Some(old) if old != *data => Err(Errno::EXIST),
            Some(_) => Ok(()),
            None => {
                set.check_overlap(key, data)?;
                set.elements.insert(*key, data);
                Ok(())
            }
        }
    }
}

impl Set {
    /// Two ranges may not have keys in common.
    fn check_overlap(&self, start: &Cells, data: &Data) -> Result<(), Errno> {
        let Data::Until(end) = data else { return Ok(()) };
        let reaches = |(first, data): (Cells, Data)| match data {
            Data::Until(last) => {
                first.pairs(end, &self.kind.key).all(|(_, first, end)| first <= end)
                    && start.pairs(&last, &self.kind.key).all(|(_, start, last)| start <= last)
            }
            _ => false,
        };
        if self.elements.iter().any(reaches) { Err(Errno::EXIST) } else { Ok(()) }
    }
}

impl SetType {
    fn fits(&self, key: &Cells, data: &Data) -> bool {
        let width = |types: &[Type]| types.iter().map(|t| t.width()).sum::<usize>();
        let data_fits = match (&self.data, data) {
            (DataType::None, Data::None) | (DataType::Verdict, Data::Goto(_)) => true,
            (DataType::Ranges, Data::Until(end)) => {
                key <= end && end.as_bytes().len() == key.as_bytes().len()
            }
            (DataType::Cells(types), Data::Cells(cells)) => cells.as_bytes().len() == width(types),
            _ => false,
        };
        data_fits && key.as_bytes().len() == width(&self.key)
    }
}
