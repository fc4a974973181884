//! A kernel in memory into whose dynamic maps packets write.

use heddle_netlink::Error;
use heddle_netlink::nft::{Cells, CommitError, Data, Name, Table, TableFamily, Transaction};
use heddle_proxy::nft::affinity::Affinities;
use heddle_proxy::nft::{FakeKernel, Kernel};

/// What was committed, and what packets have written since.
#[derive(Debug, Default)]
pub(crate) struct Remembering {
    fake: FakeKernel,
}

impl Remembering {
    /// The tables with all that is in them.
    pub(crate) fn tables(&self) -> Vec<Table> {
        self.fake.tables.values().cloned().collect()
    }

    /// Puts in what a packet has written.
    pub(crate) fn remember(&mut self, family: TableFamily, written: Vec<(Name, Cells, Data)>) {
        let table = self.fake.tables.get_mut(&family).expect("a packet was evaluated by this table");
        for (map, key, data) in written {
            table.sets.get_mut(&map).expect("the rule that wrote names the map").elements.insert(key, &data);
        }
    }
}

impl Kernel for Remembering {
    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, Error> {
        let mut table = self.fake.load(family)?;
        let sets = table.iter_mut().flat_map(|table| table.sets.values_mut());
        sets.filter(|set| set.kind.dynamic.is_some()).for_each(|set| set.elements.clear());
        Ok(table)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        self.fake.commit(transaction)
    }

    fn forget(&mut self, family: TableFamily, allowed: &Affinities) -> Result<usize, Error> {
        let tables = self.fake.tables.get_mut(&family).into_iter();
        let dynamic =
            tables.flat_map(|table| table.sets.values_mut()).filter(|set| set.kind.dynamic.is_some());
        let mut forgotten = 0;
        for set in dynamic {
            let before = set.elements.len();
            set.elements.retain(|key, data| {
                let mark = key.as_bytes().last_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
                matches!((mark, data), (Some(mark), Data::Cells(endpoint)) if allowed.allows(mark, endpoint))
            });
            forgotten += before - set.elements.len();
        }
        Ok(forgotten)
    }
}
