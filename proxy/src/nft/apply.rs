//! The nft dataplane: what was committed, what is in doubt, and the door to the kernel.
//!
//! Each family has its own table, its own plan and its own doubt: one broken family does not stop the other. Start, a
//! failed commit and outside damage are one path, since all of them only leave the table in doubt.

use super::affinity::Affinities;
use super::diff::{self, Update};
use super::plan::Plan;
use super::ruleset;
use super::settings::Settings;
use crate::dataplane::{Dataplane, Failure, Surroundings, Synced};
use crate::delta::Delta;
use crate::frontends::{Backends, Frontend};
use heddle_netlink::nft::{self, Cells, CommitError, Data, Name, Op, Table, TableFamily, Transaction};
use heddle_netlink::{Errno, Error, Family, Refusal, Socket};
use std::collections::BTreeMap;

/// The door: nf_tables, or something that behaves like it.
pub trait Kernel {
    /// Reads our table.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, Error>;

    /// Makes the kernel forget clients whose endpoint they may not keep. Returns how many there were.
    ///
    /// # Errors
    /// When it cannot be read or changed; what was forgotten until then is.
    fn forget(&mut self, family: TableFamily, allowed: &Affinities) -> Result<usize, Error>;

    /// Applies a transaction, all or nothing.
    ///
    /// # Errors
    /// When it was refused.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError>;
}

/// The kernel, through one socket that stays open: closing one waits for the removal of what it deleted.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
}

impl Netlink {
    /// Opens the socket in the current network namespace.
    ///
    /// # Errors
    /// When the kernel has no nf_tables or the process may not use it.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Family::Netfilter)? })
    }

    /// The netlink port by which notifications of our own changes are known.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }
}

impl Netlink {
    /// One by one, since an element may end its time at any moment, and would take a transaction with it.
    fn forget_client(&mut self, family: TableFamily, key: &Cells) -> Result<(), Error> {
        let mut transaction = diff::transaction(family);
        transaction.ops.push(Op::DeleteElement(ruleset::CLIENTS.into(), *key, Data::None));
        match nft::commit(&mut self.socket, &transaction) {
            Err(e) if e.source.errno() != Some(Errno::NOENT) => Err(e.source),
            _ => Ok(()),
        }
    }
}

impl Kernel for Netlink {
    fn forget(&mut self, family: TableFamily, allowed: &Affinities) -> Result<usize, Error> {
        let clients = nft::load_dynamic(&mut self.socket, family, (ruleset::TABLE, ruleset::CLIENTS))?;
        let mut forgotten = 0;
        for (key, data) in clients {
            let mark = key.as_bytes().last_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            let keeps = matches!(&data, Data::Cells(endpoint) if allowed.allows(mark, endpoint));
            if !keeps {
                self.forget_client(family, &key)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, Error> {
        nft::load(&mut self.socket, family, ruleset::TABLE)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        nft::commit(&mut self.socket, transaction)
    }
}

/// One family's table.
#[derive(Debug)]
struct FamilyTable {
    plan: Plan,
    /// The kernel's table may not be the plan's.
    in_doubt: bool,
    /// Chains that the kernel may still have and the plan does not; those that go to others come first.
    idle_chains: Vec<Name>,
}

/// The nft dataplane.
#[derive(Debug)]
pub struct Nft<K> {
    kernel: K,
    families: Vec<FamilyTable>,
}

impl<K: Kernel> Nft<K> {
    /// A dataplane that knows nothing of the kernel yet and wants no Services.
    pub fn new(kernel: K, settings: &Settings) -> Self {
        let table = |family| FamilyTable {
            plan: Plan::new(family, settings.clone()),
            in_doubt: true,
            idle_chains: Vec::new(),
        };
        Self { kernel, families: TableFamily::ALL.into_iter().map(table).collect() }
    }

    /// The wanted tables.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.families.iter().map(|family| family.plan.table())
    }

    /// The door, for tests that look behind it.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }
}

impl<K: Kernel> Dataplane for Nft<K> {
    fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        for family in &mut self.families {
            family.plan.stage(delta);
        }
    }

    fn surround(&mut self, surroundings: &Surroundings) {
        for family in &mut self.families {
            family.plan.surround(surroundings);
        }
    }

    fn sync(&mut self) -> Synced {
        let mut synced = Synced::default();
        for family in &mut self.families {
            family.sync(&mut self.kernel, &mut synced);
        }
        synced
    }

    fn doubt(&mut self) {
        for family in &mut self.families {
            family.in_doubt = true;
        }
    }
}

impl FamilyTable {
    fn sync(&mut self, kernel: &mut impl Kernel, synced: &mut Synced) {
        let edits = self.plan.take_edits();
        let want = self.plan.table();
        let update = if self.in_doubt {
            synced.compared += 1;
            match kernel.load(want.family) {
                Ok(have) => diff::diff(have.as_ref(), want),
                Err(source) => {
                    return synced.fail(format!("read table {} {} back", want.family, want.name), source);
                }
            }
        } else {
            diff::update(want.family, &edits)
        };
        // Until the kernel has said yes, its table is not known.
        let compared = std::mem::replace(&mut self.in_doubt, true);
        match kernel.commit(&update.main) {
            Ok(()) => {
                self.in_doubt = false;
                synced.operations += update.main.ops.len();
                synced.written.push(ruleset::ip_family(want.family));
                self.remove_idle_chains(kernel, update, synced);
                self.forget_clients(kernel, compared, synced);
            }
            Err(source) => synced.fail(format!("write table {} {}", want.family, want.name), source),
        }
    }

    /// After the commit: before it, packets could have remembered anew what is forgotten. At a start and after damage the
    /// kernel may remember endpoints that went while nobody looked.
    fn forget_clients(&mut self, kernel: &mut impl Kernel, compared: bool, synced: &mut Synced) {
        let family = self.plan.table().family;
        let shrunk = self.plan.take_shrunk();
        if !(shrunk || compared && !self.plan.affinities().is_empty()) {
            return;
        }
        match kernel.forget(family, self.plan.affinities()) {
            Ok(forgotten) => synced.operations += forgotten,
            Err(source) => {
                self.in_doubt = true;
                synced.fail(format!("forget clients of table {family} {}", ruleset::TABLE), source);
            }
        }
    }

    fn remove_idle_chains(&mut self, kernel: &mut impl Kernel, update: Update, synced: &mut Synced) {
        let want = self.plan.table();
        let mut idle = std::mem::take(&mut self.idle_chains);
        let known = |name: &Name| !idle.contains(name);
        let new: Vec<Name> = update.idle_chains.into_iter().filter(known).collect();
        idle.extend(new);
        idle.retain(|name| !want.chains.contains_key(name));
        for name in idle {
            match kernel.commit(&diff::delete_chain(want.family, &name)) {
                Ok(()) => synced.operations += 1,
                Err(e) if e.source.errno() == Some(Errno::BUSY) => {
                    self.idle_chains.push(name);
                }
                // Somebody removed it, or more than that: look again at the next sync.
                Err(_) => self.in_doubt = true,
            }
        }
    }
}

impl Synced {
    fn fail(&mut self, what: String, source: impl std::error::Error + Send + Sync + 'static) {
        self.failures.push(Failure { what, source: source.into() });
    }
}

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
        let refused = |op: usize, errno| CommitError {
            family: transaction.family,
            table: transaction.table.clone(),
            op: transaction.ops.get(op).map(|o| (op, Box::new(o.clone()))),
            source: Error::Refused { refusals: vec![Refusal { index: 0, errno, text: None }] },
        };
        if let Some(errno) = self.refuse.pop() {
            return Err(refused(0, errno));
        }
        let deletes_chain = transaction.ops.iter().any(|op| matches!(op, Op::DeleteChain(_)));
        if self.refuse_deleted_chains && deletes_chain {
            return Err(refused(0, Errno::BUSY));
        }
        let have = self.tables.get(&transaction.family);
        match Table::after(have, transaction).map_err(|r| refused(r.op, r.errno))? {
            Some(table) => self.tables.insert(transaction.family, table),
            None => self.tables.remove(&transaction.family),
        };
        self.taken.push(transaction.clone());
        Ok(())
    }
}
