//! A kernel in memory.

use super::affinity::Affinities;
use super::apply::Kernel;
use heddle_netlink::nft::{Cells, CommitError, Data, Op, RefusedOps, Table, TableFamily, Transaction};
use heddle_netlink::{Errno, Error, Refusal};
use std::collections::{BTreeMap, BTreeSet};

/// A kernel in memory that refuses what nf_tables refuses.
#[derive(Debug, Default)]
pub struct FakeKernel {
    /// The tables, by family.
    pub tables: BTreeMap<TableFamily, Table>,
    /// Every transaction that was taken.
    pub taken: Vec<Transaction>,
    /// Errors for the next commits, whatever they hold; the last one is used first.
    pub refuse: Vec<Errno>,
    /// Refuse to remove chains, as kernels before 6.2 do for a moment.
    pub refuse_deleted_chains: bool,
    /// Refuse to add elements that have one of these cells at the start of their key, or map to them.
    pub refuse_cells: BTreeSet<Cells>,
}

impl Kernel for FakeKernel {
    /// No packet has put a client into a fake kernel.
    fn forget(&mut self, _: TableFamily, _: &Affinities) -> Result<usize, Error> {
        Ok(0)
    }

    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, Error> {
        Ok(self.tables.get(&family).cloned())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        if transaction.is_empty() {
            return Ok(());
        }
        if let Some(errno) = self.refuse.pop() {
            return Err(refusal(transaction, [(0, errno)]));
        }
        let deletes_chain = transaction.ops.iter().any(|op| matches!(op, Op::DeleteChain(_)));
        if self.refuse_deleted_chains && deletes_chain {
            return Err(refusal(transaction, [(0, Errno::BUSY)]));
        }
        let poisoned: Vec<_> = (0..transaction.ops.len())
            .filter(|at| self.is_poisoned(&transaction.ops[*at]))
            .map(|at| (at, Errno::INVAL))
            .collect();
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
    fn is_poisoned(&self, op: &Op) -> bool {
        let Op::AddElement(_, key, data) = op else { return false };
        self.refuse_cells.iter().any(|cells| {
            key.as_bytes().starts_with(cells.as_bytes()) || matches!(data, Data::Cells(data) if data == cells)
        })
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
