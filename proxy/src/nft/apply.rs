//! The nft dataplane, and the door to the kernel.
//!
//! Each family has its own table, its own plan and its own doubt: one broken family does not stop the other. Start, a
//! failed commit and outside damage are one path, since all of them only leave the table in doubt.

use super::affinity::Affinities;
use super::diff;
use super::family::FamilyTable;
use super::ruleset;
use super::settings::Settings;
use crate::dataplane::{Dataplane, FamilySync, SetAside, Surroundings, Synced};
use crate::delta::Delta;
use crate::frontends::{Backends, Frontend, Frontends, IpFamily};
use heddle_netlink::nft::{self, Cells, CommitError, Data, Ears, Op, Table, TableFamily, Transaction, noted};
use heddle_netlink::{Errno, Error, Family, Socket};
use std::fmt;
use std::time::{Duration, Instant};
use tracing::warn;

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

    /// The longest time that a packet may take between two lookups; none where there are no packets.
    fn transit(&self) -> Duration {
        Duration::ZERO
    }

    /// Applies a transaction, all or nothing.
    ///
    /// # Errors
    /// When it was refused.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError>;
}

/// The kernel, through one socket that stays open: closing one waits for the removal of what it deleted.
pub struct Netlink {
    socket: Socket,
    transit: Duration,
    listener: Option<Unheard>,
}

/// Who listens to others' changes, and does not hear large ones of ours.
struct Unheard {
    ears: Ears,
    /// Somebody else may have changed something meanwhile.
    doubt: Box<dyn Fn() + Send>,
}

/// So many operations are a large change: telling a listener of it takes the kernel longer than asking whether there was another.
const LARGE: usize = 1000;

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// The kernel handles a packet without a pause, in microseconds; a hypervisor may stop the processor meanwhile.
const TRANSIT: Duration = Duration::from_millis(200);

impl Netlink {
    /// Opens the socket in the current network namespace.
    ///
    /// # Errors
    /// When the kernel has no nf_tables or the process may not use it.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Family::Netfilter)?, transit: TRANSIT, listener: None })
    }

    /// The same with a listener that does not hear large changes of ours. `doubt` is called where others may have changed something
    /// that it did not hear.
    pub fn unheard_by(self, ears: Ears, doubt: impl Fn() + Send + 'static) -> Self {
        Self { listener: Some(Unheard { ears, doubt: Box::new(doubt) }), ..self }
    }

    /// The same where a packet takes at most this long between two lookups.
    pub fn with_transit(self, transit: Duration) -> Self {
        Self { transit, ..self }
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
        for (key, data) in clients.iter() {
            let mark = key.as_bytes().last_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            let keeps = matches!(&data, Data::Cells(endpoint) if allowed.allows(mark, endpoint));
            if !keeps {
                self.forget_client(family, &key)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn transit(&self) -> Duration {
        self.transit
    }

    fn load(&mut self, family: TableFamily) -> Result<Option<Table>, Error> {
        nft::load(&mut self.socket, family, ruleset::TABLE)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        let socket = &mut self.socket;
        let Some(Unheard { ears, doubt }) = self.listener.as_ref().filter(|_| transaction.ops.len() >= LARGE)
        else {
            return nft::commit(socket, transaction);
        };
        let before = noted::generation(socket);
        let (done, hears) = ears.cover(|| nft::commit(socket, transaction));
        if let Err(error) = hears {
            warn!("outside changes are not heard any more: {error}");
        }
        let ours = before.map(|before| if done.is_ok() { before.next() } else { before });
        if !matches!((ours, noted::generation(socket)), (Ok(ours), Ok(now)) if ours == now) {
            doubt();
        }
        done
    }
}

/// The nft dataplane.
#[derive(Debug)]
pub struct Nft<K> {
    kernel: K,
    families: Vec<FamilyTable>,
    /// The other families: nothing is wanted of the kernel there.
    left_out: Vec<IpFamily>,
}

impl<K: Kernel> Nft<K> {
    /// A dataplane that knows nothing of the kernel yet and wants no Services.
    pub fn new(kernel: K, settings: &Settings) -> Self {
        Self::of_families(kernel, settings, &TableFamily::ALL)
    }

    /// The same for these families alone.
    pub fn of_families(kernel: K, settings: &Settings, families: &[TableFamily]) -> Self {
        let table = |family: &TableFamily| FamilyTable::new(*family, settings);
        let left_out = TableFamily::ALL.into_iter().filter(|family| !families.contains(family));
        Self {
            kernel,
            families: families.iter().map(table).collect(),
            left_out: left_out.map(ruleset::ip_family).collect(),
        }
    }

    /// The wanted tables.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.families.iter().map(FamilyTable::table)
    }

    /// The frontends that the kernel refuses.
    pub fn set_aside(&self) -> impl Iterator<Item = SetAside> {
        self.families.iter().flat_map(FamilyTable::set_aside)
    }

    /// The door, for tests that look behind it.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }
}

impl<K: Kernel> Dataplane for Nft<K> {
    fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        for family in &mut self.families {
            family.stage(delta);
        }
    }

    fn surround(&mut self, surroundings: &Surroundings) {
        for family in &mut self.families {
            family.surround(surroundings);
        }
    }

    fn sync(&mut self, wanted: &Frontends) -> Synced {
        let mut synced = Synced { written: self.left_out.clone(), ..Synced::default() };
        for family in &mut self.families {
            let start = Instant::now();
            let (operations, compared) = (synced.operations, synced.compared);
            let (failures, leftovers) = (synced.failures.len(), synced.leftovers);
            family.sync(&mut self.kernel, wanted, &mut synced);
            synced.families.push(FamilySync {
                family: ruleset::ip_family(family.table().family),
                operations: synced.operations - operations,
                compared: synced.compared - compared,
                leftovers: synced.leftovers - leftovers,
                elapsed: start.elapsed(),
                failed: synced.failures.len() > failures,
            });
        }
        synced
    }

    fn wanted(&self) -> Vec<&Table> {
        self.tables().collect()
    }

    fn due(&self) -> Option<Instant> {
        self.families.iter().filter_map(|family| family.due(&self.kernel)).min()
    }

    fn doubt(&mut self) {
        for family in &mut self.families {
            family.doubt();
        }
    }
}
