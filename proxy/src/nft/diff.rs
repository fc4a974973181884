//! Edits, or two whole tables, into transactions.
//!
//! Both ways end in the same operations, so that start, repair and change differ only in how the edits were found.

use super::chains;
use super::plan::Edits;
use super::ruleset;
use crate::delta::Delta;
use heddle_netlink::nft::{Cells, Data, Hook, Name, Op, Table, TableFamily, Transaction};
use std::collections::BTreeMap;

/// What to send for one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Everything that routes packets, all or nothing.
    pub main: Transaction,
    /// Chains that nothing goes to any more. They are removed after `main`: kernels before 6.2 count a removed map
    /// element's reference for a moment longer and answer `EBUSY`, and a chain left over harms nobody.
    pub idle_chains: Vec<Name>,
}

/// A transaction on our table that does nothing yet.
pub fn transaction(family: TableFamily) -> Transaction {
    Transaction::new(family, ruleset::TABLE.into(), ruleset::COMMENT)
}

/// The transaction that removes a chain.
pub fn delete_chain(family: TableFamily, name: &Name) -> Transaction {
    Transaction { ops: vec![Op::DeleteChain(name.clone())], ..transaction(family) }
}

/// What sends edits to a table that is otherwise as wanted.
pub fn update(family: TableFamily, edits: &Edits) -> Update {
    update_after(transaction(family), edits)
}

/// What makes the kernel's table, as it was read back, the wanted one.
pub fn diff(have: Option<&Table>, want: &Table) -> Update {
    let mut main = transaction(want.family);
    let nothing = Table::new(want.family, &want.name);
    let have = match have {
        Some(table) if editable(table, want) => table,
        other => {
            main.ops.extend(other.map(|_| Op::DeleteTable));
            main.ops.push(Op::AddTable);
            &nothing
        }
    };
    let missing = want.sets.iter().filter(|(name, _)| !have.sets.contains_key(*name));
    main.ops.extend(missing.map(|(name, set)| Op::AddSet(name.clone(), set.kind.clone())));
    update_after(main, &edits_between(have, want))
}

fn edits_between(have: &Table, want: &Table) -> Edits {
    let none = BTreeMap::new();
    // What packets put into a map is theirs.
    let fixed = want.sets.iter().filter(|(_, set)| set.kind.dynamic.is_none());
    let elements = fixed.map(|(name, set)| {
        let held = have.sets.get(name).map_or(&none, |set| &set.elements);
        (name.clone(), Delta::between(held, &set.elements))
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

/// Chains first, since rules and elements go to them; then the elements that go or change, then those that come or
/// changed: an element's data cannot be overwritten.
fn update_after(mut main: Transaction, edits: &Edits) -> Update {
    let wanted = || edits.chains.iter().filter_map(|(name, edit)| Some((name, edit.new.as_ref()?)));
    for (name, chain) in wanted() {
        main.ops.push(Op::AddChain(name.clone(), chain.hook));
        main.ops.push(Op::FlushChain(name.clone()));
    }
    for (name, chain) in wanted() {
        main.ops.extend(chain.rules.iter().map(|rule| Op::AddRule(name.clone(), rule.clone())));
    }
    for (set, delta) in &edits.elements {
        push_elements(&mut main, set, delta);
    }
    let gone = edits.chains.iter().filter(|(_, edit)| edit.new.is_none());
    // Base chains first: they are what goes to the others.
    let (base, plain): (Vec<_>, Vec<_>) =
        gone.partition(|(_, edit)| edit.old.as_ref().is_some_and(|c| c.hook.is_some()));
    let idle_chains = base.into_iter().chain(plain).map(|(name, _)| name.clone()).collect();
    Update { main, idle_chains }
}

fn push_elements(main: &mut Transaction, set: &Name, delta: &Delta<Cells, Data>) {
    for (key, edit) in delta.iter() {
        if let Some(data) = &edit.old {
            main.ops.push(Op::DeleteElement(set.clone(), *key, data.clone()));
        }
    }
    for (key, edit) in delta.iter() {
        if let Some(data) = &edit.new {
            main.ops.push(Op::AddElement(set.clone(), *key, data.clone()));
        }
    }
}
