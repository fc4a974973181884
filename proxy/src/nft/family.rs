//! One family's table: what is wanted of it, what is in doubt, and what the kernel refuses.

use super::apply::Kernel;
use super::blame;
use super::diff::{self, Update};
use super::plan::Plan;
use super::retired::{Remains, Retired};
use super::ruleset;
use super::settings::Settings;
use crate::dataplane::{Failure, SetAside, Surroundings, Synced};
use crate::delta::Delta;
use crate::frontends::{Backends, Frontend, Frontends};
use heddle_netlink::Errno;
use heddle_netlink::nft::{CommitError, Table, TableFamily, Transaction};
use std::collections::BTreeMap;
use std::time::Instant;

/// How often one sync writes at most. A try is refused as sent, refused after the table was read back, and refused with
/// the culprits named; so this is for some twenty culprits that hide behind one another. Plain elements do not: all of
/// them are named at once.
const TRIES: usize = 64;

/// One family's table.
#[derive(Debug)]
pub struct FamilyTable {
    plan: Plan,
    /// The kernel's table may not be the plan's.
    in_doubt: bool,
    /// Somebody may have edited it when it still was the plan's.
    edited: bool,
    /// What the kernel still has and the plan does not.
    retired: Retired,
    /// The same where others put it there: no packet of ours is led to it.
    foreign: Remains,
    /// Frontends that the kernel refuses, and why. They are not in the plan.
    set_aside: BTreeMap<Frontend, String>,
    /// Those are to be tried again.
    forgiving: bool,
}

impl FamilyTable {
    /// A table that wants no Services, while nothing is known of the kernel's.
    pub fn new(family: TableFamily, settings: &Settings) -> Self {
        Self {
            plan: Plan::new(family, settings.clone()),
            in_doubt: true,
            edited: false,
            retired: Retired::default(),
            foreign: Remains::default(),
            set_aside: BTreeMap::new(),
            forgiving: false,
        }
    }

    /// The wanted table.
    pub fn table(&self) -> &Table {
        self.plan.table()
    }

    /// The frontends that the kernel refuses.
    pub fn set_aside(&self) -> impl Iterator<Item = SetAside> {
        self.set_aside.iter().map(|(frontend, why)| SetAside { frontend: *frontend, why: why.clone() })
    }

    /// The kernel's table may be another one. Who caused that may also have caused a refusal.
    pub fn doubt(&mut self) {
        // What failed before leaves the table in doubt, too: then nobody can tell who made the difference.
        self.edited |= !self.in_doubt;
        self.in_doubt = true;
        self.forgiving = true;
    }

    /// Where whole tables are compared, edits only tell who made a difference.
    fn needs_edits(&self) -> bool {
        !self.in_doubt || self.edited
    }

    /// Takes in what the node and the cluster are like.
    pub fn surround(&mut self, surroundings: &Surroundings) {
        self.plan.record(self.needs_edits());
        self.plan.surround(surroundings);
    }

    /// Takes edits of frontends in. What was set aside and changes is tried again.
    pub fn stage(&mut self, delta: &Delta<Frontend, Backends>) {
        self.plan.record(self.needs_edits());
        if self.set_aside.is_empty() {
            return self.plan.stage(delta);
        }
        let mut of_plan = Delta::default();
        for (frontend, edit) in delta.iter() {
            let known = self.set_aside.remove(frontend).is_none();
            of_plan.record(frontend, edit.old.as_ref().filter(|_| known), edit.new.as_ref());
        }
        self.plan.stage(&of_plan);
    }

    /// Brings the kernel's table to the wanted state, and says in `synced` what was done.
    pub fn sync(&mut self, kernel: &mut impl Kernel, wanted: &Frontends, synced: &mut Synced) {
        if std::mem::take(&mut self.forgiving) {
            self.take_back(wanted);
        }
        match self.write(kernel, wanted, synced) {
            Ok((update, compared)) => {
                synced.operations += update.transactions.iter().map(|sent| sent.ops.len()).sum::<usize>();
                synced.written.push(ruleset::ip_family(self.table().family));
                self.retired.add(update.remains, Instant::now());
                self.sweep(kernel, synced);
                self.forget_clients(kernel, compared, synced);
            }
            Err(failure) => synced.failures.push(failure),
        }
        synced.set_aside.extend(self.set_aside());
    }

    /// Writes until the kernel takes it, setting aside what it refuses. Returns what was written, and whether the table was
    /// read back for it.
    fn write(
        &mut self,
        kernel: &mut impl Kernel,
        wanted: &Frontends,
        synced: &mut Synced,
    ) -> Result<(Update, bool), Failure> {
        let mut refused: Option<Transaction> = None;
        for _ in 0..TRIES {
            // Until the kernel has said yes, its table is not known.
            let compared = std::mem::replace(&mut self.in_doubt, true);
            let mut update = self.update(kernel, compared, synced)?;
            if let Some(before) = refused.take()
                && let Some(same) = update.transactions.iter_mut().find(|next| next.ops == before.ops)
            {
                same.singly = before.singly;
            }
            let Err((transaction, error)) = commit(kernel, &update) else {
                self.in_doubt = false;
                return Ok((update, compared));
            };
            if !blame::speaks_of_content(&error) {
                return Err(self.failure("write", error));
            }
            if !transaction.singly.is_empty() {
                let suspects = blame::suspects(&error, &self.plan, wanted);
                if !self.leave_out(suspects, wanted) {
                    return Err(self.failure("write", error));
                }
            } else if compared {
                // Somebody may have edited the table since it was read: only what is refused twice is believed.
                let singly = error.refused.into_iter().map(|refused| refused.ops).collect();
                refused = Some(Transaction { singly, ..transaction.clone() });
            }
        }
        let what = format!("write table {} {} in {TRIES} tries", self.table().family, ruleset::TABLE);
        Err(Failure { what, source: "the kernel goes on refusing".into() })
    }

    fn update(
        &mut self,
        kernel: &mut impl Kernel,
        compare: bool,
        synced: &mut Synced,
    ) -> Result<Update, Failure> {
        let mut edits = self.plan.take_edits();
        let want = self.plan.table();
        self.retired.revive(want.family, &mut edits);
        if !compare {
            return Ok(diff::update(want.family, &edits));
        }
        synced.compared += 1;
        let have = kernel.load(want.family).map_err(|source| self.failure("read back", source))?;
        let mut update = diff::diff(have.as_ref(), want);
        self.foreign = Remains::default();
        if std::mem::take(&mut self.edited) {
            // What the update does besides sending the edits, it does to what others did.
            let known = diff::update(want.family, &edits);
            self.foreign = self.retired.take_foreign(&known.remains, &mut update.remains);
            let repairs = update.transactions != known.transactions || !self.foreign.is_empty();
            synced.repaired += usize::from(repairs);
        }
        self.retired.clear();
        Ok(update)
    }

    fn failure(&self, verb: &str, source: impl std::error::Error + Send + Sync + 'static) -> Failure {
        let what = format!("{verb} table {} {}", self.table().family, ruleset::TABLE);
        Failure { what, source: source.into() }
    }

    /// Takes frontends out of the plan; false when none of them was in it.
    fn leave_out(&mut self, suspects: BTreeMap<Frontend, String>, wanted: &Frontends) -> bool {
        let mut removed = Delta::default();
        for (frontend, why) in suspects {
            self.set_aside.entry(frontend).or_insert_with(|| {
                removed.record(&frontend, wanted.get(&frontend), None);
                why
            });
        }
        self.plan.stage(&removed);
        !removed.is_empty()
    }

    fn take_back(&mut self, wanted: &Frontends) {
        let mut back = Delta::default();
        for frontend in std::mem::take(&mut self.set_aside).keys() {
            back.record(frontend, None, wanted.get(frontend));
        }
        self.plan.stage(&back);
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
                synced.failures.push(self.failure("forget clients of", source));
            }
        }
    }

    /// Removes what no packet is on its way to any more.
    fn sweep(&mut self, kernel: &mut impl Kernel, synced: &mut Synced) {
        let mut busy = Remains::default();
        let mut ripe = Some(std::mem::take(&mut self.foreign));
        while let Some(unused) = ripe {
            for transaction in diff::removals(self.table().family, &unused) {
                match kernel.commit(&transaction) {
                    Ok(()) => synced.operations += transaction.ops.len(),
                    Err(e) if e.source.errno() == Some(Errno::BUSY) => busy.add_chains(&unused, &transaction),
                    Err(e) => self.leave(e, synced),
                }
            }
            ripe = self.retired.take_ripe(Instant::now(), kernel.transit());
        }
        self.retired.add(busy, Instant::now());
    }

    /// What could not be removed is found when the table is compared. Where somebody else was faster, that is when we hear
    /// of it.
    fn leave(&mut self, error: CommitError, synced: &mut Synced) {
        self.in_doubt = true;
        synced.leftovers += 1;
        if error.source.errno() != Some(Errno::NOENT) {
            synced.failures.push(self.failure("remove what is unused from", error));
        }
    }

    /// When to sync although nothing changes.
    pub fn due(&self, kernel: &impl Kernel) -> Option<Instant> {
        self.retired.due(kernel.transit())
    }
}

/// Commits until one is refused, and returns that one. Those before it harm nobody: they lead nowhere yet, or decide what
/// was to be decided.
fn commit<'u>(kernel: &mut impl Kernel, update: &'u Update) -> Result<(), (&'u Transaction, CommitError)> {
    let mut transactions = update.transactions.iter();
    transactions.try_for_each(|sent| kernel.commit(sent).map_err(|error| (sent, error)))
}
