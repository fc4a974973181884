//! Edits, or two whole tables, into transactions.
//!
//! Both ways end in the same operations, so that start, repair and change differ only in how the edits were found.
//!
//! A packet does several lookups, and a commit may come between two of them. So what a verdict leads to is there one
//! transaction before the verdict, and goes some time after it: see `docs/decisions/commits-between-lookups.md`.

use super::chains;
use super::plan::Edits;
use super::retired::Remains;
use super::ruleset;
use crate::delta::{Delta, Edit};
use heddle_netlink::nft::{Cells, Chain, Data, Elements, Hook, Name, Op, Table, TableFamily, Transaction};
use std::collections::BTreeMap;

/// Operations of one transaction of many. Whatever the kernel tells others of a commit it keeps until that ends, and this process the
/// messages: some 8 KB for each operation in all, where somebody listens.
const PORTION: usize = 20_000;

/// What to send for one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// In this order, each all or nothing. None is empty; most updates need one.
    pub transactions: Vec<Transaction>,
    /// What nothing leads to any more after them.
    pub remains: Remains,
}

/// When an operation is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// While nothing leads to what it makes.
    Before,
    /// With everything that decides where packets go.
    Deciding,
    /// Once no packet is on its way any more to what it removes.
    Later,
}

/// A transaction on our table that does nothing yet.
pub fn transaction(family: TableFamily) -> Transaction {
    Transaction::new(family, ruleset::TABLE.into(), ruleset::COMMENT)
}

/// What removes remains, in this order. A chain goes alone: kernels before 6.2 count a removed map element's reference for
/// a moment longer and answer `EBUSY`.
pub fn removals(family: TableFamily, remains: &Remains) -> Vec<Transaction> {
    let of_set = |(set, elements): (&Name, &BTreeMap<Cells, Data>)| {
        let set = set.clone();
        let delete = move |(key, data): (&Cells, &Data)| Op::DeleteElement(set.clone(), *key, data.clone());
        elements.iter().map(delete).collect::<Vec<_>>()
    };
    let elements: Vec<Op> = remains.elements.iter().flat_map(of_set).collect();
    // Base chains first: they are what goes to the others.
    let (base, plain): (Vec<_>, Vec<_>) = remains.chains.iter().partition(|(_, chain)| chain.hook.is_some());
    let chains = base.into_iter().chain(plain).map(|(name, _)| vec![Op::DeleteChain(name.clone())]);
    let all = std::iter::once(elements).filter(|ops| !ops.is_empty()).chain(chains);
    all.map(|ops| Transaction { ops, ..transaction(family) }).collect()
}

/// What sends edits to a table that is otherwise as wanted.
pub fn update(family: TableFamily, edits: &Edits) -> Update {
    update_after(Vec::new(), family, edits)
}

/// What makes the kernel's table, as it was read back, the wanted one.
pub fn diff(have: Option<&Table>, want: &Table) -> Update {
    let Some(held) = have.filter(|table| editable(table, want)) else {
        return made_anew(want, have.is_some());
    };
    let missing = want.sets.iter().filter(|(name, _)| !held.sets.contains_key(*name));
    let sets = missing.map(|(name, set)| (Moment::Before, Op::AddSet(name.clone(), set.kind.clone())));
    update_after(sets.collect(), want.family, &edits_between(held, want))
}

/// The whole table: no packet has seen it yet. A large one comes in portions, where it takes nobody's place: its hooks come last, and before
/// them no packet comes to it.
fn made_anew(want: &Table, replaced: bool) -> Update {
    let elements: usize = want.sets.values().map(|set| set.elements.len()).sum();
    let in_portions = !replaced && elements > PORTION;
    let (hooked, plain): (Vec<_>, Vec<_>) = want.chains.iter().partition(|(_, chain)| chain.hook.is_some());
    let sets = want.sets.iter().map(|(name, set)| Op::AddSet(name.clone(), set.kind.clone()));
    let first = replaced.then_some(Op::DeleteTable).into_iter().chain([Op::AddTable]);
    let mut now = transaction(want.family);
    now.ops.extend(first.chain(sets).chain(chains_with_rules(&plain)));
    let mut last = chains_with_rules(&hooked);
    if !in_portions {
        now.ops.append(&mut last);
    }
    // Far the most: without room for all of them, twice as much would be taken for a moment.
    now.ops.reserve_exact(elements.min(PORTION));
    let mut transactions = Vec::new();
    for (name, set) in &want.sets {
        for (key, data) in set.elements.iter() {
            if in_portions && now.ops.len() >= PORTION {
                let ops = Vec::with_capacity(PORTION);
                transactions
                    .push(std::mem::replace(&mut now, Transaction { ops, ..transaction(want.family) }));
            }
            now.ops.push(Op::AddElement(name.clone(), key, data));
        }
    }
    now.ops.append(&mut last);
    transactions.push(now);
    Update { transactions, remains: Remains::default() }
}

/// What makes chains with their rules: all chains first, since rules go to them.
fn chains_with_rules(chains: &[(&Name, &Chain)]) -> Vec<Op> {
    let made = chains.iter().map(|(name, chain)| Op::AddChain((*name).clone(), chain.hook));
    let rules = chains
        .iter()
        .flat_map(|(name, chain)| chain.rules.iter().map(|rule| Op::AddRule((*name).clone(), rule.clone())));
    made.chain(rules).collect()
}

fn edits_between(have: &Table, want: &Table) -> Edits {
    let none = Elements::default();
    // What packets put into a map is theirs.
    let fixed = want.sets.iter().filter(|(_, set)| set.kind.dynamic.is_none());
    let elements = fixed.map(|(name, set)| {
        let held = have.sets.get(name).map_or(&none, |set| &set.elements);
        (name.clone(), Delta::merge(held.iter(), set.elements.iter()))
    });
    Edits { elements: elements.collect(), chains: Delta::between(&have.chains, &want.chains) }
}

/// Whether the table can be edited into the wanted one. What cannot be changed in place (the type of a set, the hook of a
/// chain) or should not be there at all (somebody else's set or base chain) is not worth an order of its own: the table is
/// made anew, in one transaction.
fn editable(have: &Table, want: &Table) -> bool {
    let same_hook = |name: &Name, hook: Option<Hook>| match want.chains.get(name) {
        Some(chain) => chain.hook == hook,
        // A chain of ours that is idle now is removed like any other.
        None => hook.is_none_or(|hook| chains::is_ours(name, hook)),
    };
    !have.dormant
        && have
            .sets
            .iter()
            .all(|(name, set)| want.sets.get(name).is_some_and(|wanted| wanted.kind == set.kind))
        && have.chains.iter().all(|(name, chain)| same_hook(name, chain.hook))
}

/// The update that does these operations and the edits.
fn update_after(mut due: Vec<(Moment, Op)>, family: TableFamily, edits: &Edits) -> Update {
    let mut remains = Remains::of_chains(&edits.chains);
    push_chains(&mut due, edits);
    for (set, delta) in &edits.elements {
        let moment = |key: &Cells, edit: &Edit<Data>| moment(family, set, (key, edit), edits);
        push_elements(&mut due, (set, delta), moment);
        let later = delta.iter().filter(|(key, edit)| moment(key, edit) == Moment::Later);
        remains.add(set, later.filter_map(|(key, edit)| Some((*key, edit.old.clone()?))));
    }
    due.retain(|(moment, _)| *moment != Moment::Later);
    // Stable: what is due at one moment keeps its order.
    due.sort_by_key(|(moment, _)| *moment);
    let mut transactions = Vec::new();
    let mut due = due.into_iter().peekable();
    while let Some((moment, first)) = due.next() {
        let others = std::iter::from_fn(|| due.next_if(|(other, _)| *other == moment));
        let ops = std::iter::once(first).chain(others.map(|(_, op)| op)).collect();
        transactions.push(Transaction { ops, ..transaction(family) });
    }
    Update { transactions, remains }
}

/// Chains come first, since rules and elements go to them.
fn push_chains(due: &mut Vec<(Moment, Op)>, edits: &Edits) {
    let wanted = || {
        edits.chains.iter().filter_map(|(name, edit)| {
            let chain = edit.new.as_ref()?;
            // A new base chain decides at once; a new plain one waits to be gone to.
            let waits = edit.old.is_none() && chain.hook.is_none();
            Some((if waits { Moment::Before } else { Moment::Deciding }, name, chain))
        })
    };
    for (moment, name, chain) in wanted() {
        due.push((moment, Op::AddChain(name.clone(), chain.hook)));
        due.push((moment, Op::FlushChain(name.clone())));
    }
    for (moment, name, chain) in wanted() {
        due.extend(chain.rules.iter().map(|rule| (moment, Op::AddRule(name.clone(), rule.clone()))));
    }
}

/// The elements that go or change, then those that come or changed: an element's data cannot be overwritten.
fn push_elements(
    due: &mut Vec<(Moment, Op)>,
    (set, delta): (&Name, &Delta<Cells, Data>),
    moment: impl Fn(&Cells, &Edit<Data>) -> Moment,
) {
    for (key, edit) in delta.iter() {
        let gone = edit.old.as_ref().map(|data| Op::DeleteElement(set.clone(), *key, data.clone()));
        due.extend(gone.map(|op| (moment(key, edit), op)));
    }
    for (key, edit) in delta.iter() {
        let come = edit.new.as_ref().map(|data| Op::AddElement(set.clone(), *key, data.clone()));
        due.extend(come.map(|op| (moment(key, edit), op)));
    }
}

/// When an element is edited, so that no packet looks for it in vain.
fn moment(family: TableFamily, set: &str, (key, edit): (&Cells, &Edit<Data>), edits: &Edits) -> Moment {
    if ruleset::SLOTS.contains(&set) && edit.new.is_none() {
        return Moment::Later;
    }
    let filter = || {
        let filtered = ruleset::frontend_of(family, set, key)?;
        edits.elements.get(ruleset::FILTERED)?.get(&ruleset::frontend_key(&filtered))
    };
    match (set == ruleset::SOURCES).then(filter).flatten() {
        Some(filter) if filter.old.is_none() => Moment::Before,
        Some(filter) if filter.new.is_none() => Moment::Later,
        // Where the filter stays, all at once: the kernel refuses a new range that overlaps an old one.
        _ => Moment::Deciding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::ruleset::CLUSTER_IPS;
    use crate::nft::settings::Settings;
    use std::net::{IpAddr, Ipv4Addr};

    /// Our table with so many cluster IPs.
    fn with(count: usize) -> Table {
        let mut table = ruleset::empty(TableFamily::Ip, &Settings::default());
        let ips = (0..u32::try_from(count).unwrap()).map(|number| IpAddr::from(Ipv4Addr::from_bits(number)));
        let set = table.sets.get_mut(CLUSTER_IPS).unwrap();
        set.elements = ips.map(|ip| (Cells::default().address(ip), Data::None)).collect();
        table
    }

    fn after(have: Option<&Table>, update: &Update) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        for transaction in &update.transactions {
            let before = tables.last().or(have);
            tables.push(Table::after(before, transaction).unwrap().unwrap());
        }
        tables
    }

    #[test]
    fn a_large_table_is_made_in_portions_that_no_packet_comes_to_before_the_last() {
        let want = with(2 * PORTION);
        let update = diff(None, &want);
        let sizes: Vec<usize> = update.transactions.iter().map(|transaction| transaction.ops.len()).collect();
        assert!(sizes.len() == 3 && sizes.iter().all(|size| (1..=PORTION + 50).contains(size)), "{sizes:?}");
        let tables = after(None, &update);
        let is_hooked = |table: &Table| table.chains.values().any(|chain| chain.hook.is_some());
        assert_eq!(tables.iter().map(is_hooked).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(tables.last(), Some(&want));
        // Whoever was killed in between left something that the next one completes.
        for half in &tables[..2] {
            assert_eq!(after(Some(half), &diff(Some(half), &want)).last(), Some(&want));
        }
    }

    /// Packets come to the one that is there, and must not miss it.
    #[test]
    fn a_small_table_and_one_that_takes_anothers_place_are_one_transaction() {
        assert_eq!(diff(None, &with(PORTION)).transactions.len(), 1);
        let mut dormant = with(0);
        dormant.dormant = true;
        assert_eq!(diff(Some(&dormant), &with(2 * PORTION)).transactions.len(), 1);
    }
}
