//! A kernel in memory.

use super::affinity::Affinities;
use super::apply::Kernel;
use heddle_netlink::nft::{
    Cells, CommitError, Data, Name, Op, RefusedOps, Statement, Table, TableFamily, Transaction,
};
use heddle_netlink::{Errno, Error, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A kernel in memory that refuses what nf_tables refuses.
#[derive(Debug, Default)]
pub struct FakeKernel {
    /// The tables, by family.
    pub tables: BTreeMap<TableFamily, Table>,
    /// Every transaction that was taken.
    pub taken: Vec<Transaction>,
    /// How often a table was read.
    pub loads: usize,
    /// Errors for the next commits, whatever they hold; the last one is used first.
    pub refuse: Vec<Errno>,
    /// How many commits go by those first.
    pub passing: usize,
    /// The longest time that a packet may take between two lookups.
    pub transit: Duration,
    /// Refuse to remove chains, as kernels before 6.2 do for a moment.
    pub refuse_deleted_chains: bool,
    /// Refuse to add elements that have one of these cells at the start of their key, or map to them.
    pub refuse_cells: BTreeSet<Cells>,
    /// Refuse to add rules to these chains.
    pub refuse_rules: BTreeSet<Name>,
    /// Refuse rules with one of these, as a kernel that was built without them.
    pub lacks: Vec<Statement>,
    /// Refuse verdicts that lead to these chains, as where a chain has what its hook does not allow.
    pub refuse_gotos: BTreeSet<Name>,
}

impl Kernel for FakeKernel {
    /// No packet has put a client into a fake kernel.
    fn forget(&mut self, _: TableFamily, _: &Affinities) -> Result<usize, Error> {
        Ok(0)
    }

    fn transit(&self) -> Duration {
        self.transit
    }

    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, Error> {
        self.loads += 1;
        Ok(self.tables.get(&family).cloned())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        if transaction.is_empty() {
            return Ok(());
        }
        if self.passing > 0 {
            self.passing -= 1;
        } else if let Some(errno) = self.refuse.pop() {
            return Err(refusal(transaction, [(0, errno)]));
        }
        let deletes_chain = transaction.ops.iter().any(|op| matches!(op, Op::DeleteChain(_)));
        if self.refuse_deleted_chains && deletes_chain {
            return Err(refusal(transaction, [(0, Errno::BUSY)]));
        }
        let poisoned = self.poisoned(transaction);
        if !poisoned.is_empty() {
            return Err(refusal(transaction, poisoned));
        }
        let have = self.tables.get(&transaction.family);
        match Table::after(have, transaction).map_err(|r| refusal(transaction, [(r.op, r.errno)]))? {
            Some(table) => self.tables.insert(transaction.family, table),
            None => self.tables.remove(&transaction.family),
        };
        self.taken.push(transaction.clone());
        Ok(())
    }
}

impl FakeKernel {
    /// What it was told to refuse, and the error numbers. Once a chain leads where it may not, the kernel meets that again
    /// at each later rule and verdict.
    fn poisoned(&self, transaction: &Transaction) -> Vec<(usize, Errno)> {
        let mut astray = false;
        let mut refused = Vec::new();
        for (at, op) in transaction.ops.iter().enumerate() {
            astray |=
                matches!(op, Op::AddElement(_, _, Data::Goto(chain)) if self.refuse_gotos.contains(chain));
            let is_walked = matches!(op, Op::AddRule(..) | Op::AddElement(_, _, Data::Goto(_)));
            if astray && is_walked {
                refused.push((at, Errno::OPNOTSUPP));
            } else if self.is_poisoned(op) {
                refused.push((at, Errno::INVAL));
            }
        }
        refused
    }

    fn is_poisoned(&self, op: &Op) -> bool {
        let poisoned = |key: &Cells, data: &Data| {
            self.refuse_cells.iter().any(|cells| {
                key.as_bytes().starts_with(cells.as_bytes())
                    || matches!(data, Data::Cells(data) if data == cells)
            })
        };
        match op {
            Op::AddElement(_, key, data) => poisoned(key, data),
            Op::AddRule(chain, rule) => {
                self.refuse_rules.contains(chain) || rule.iter().any(|part| self.lacks.contains(part))
            }
            _ => false,
        }
    }
}

/// As the kernel answers: each message once, for the first of its operations that is wrong, and without saying which.
fn refusal(transaction: &Transaction, wrong: impl IntoIterator<Item = (usize, Errno)>) -> CommitError {
    let mut wrong = wrong.into_iter().peekable();
    let mut refused = Vec::new();
    for (message, ops) in transaction.messages().enumerate() {
        let mut first = None;
        while let Some((_, errno)) = wrong.next_if(|(at, _)| ops.contains(at)) {
            first.get_or_insert(errno);
        }
        let index = u32::try_from(message + 1).unwrap_or(u32::MAX);
        refused.extend(first.map(|errno| RefusedOps {
            first: Box::new(transaction.ops[ops.start].clone()),
            ops,
            why: Refusal { index, errno, text: None },
        }));
    }
    CommitError {
        family: transaction.family,
        table: transaction.table.clone(),
        source: Error::Refused { refusals: refused.iter().map(|refused| refused.why.clone()).collect() },
        refused,
    }
}
