//! The doors to the kernel: load a table, commit a transaction, hear of others' changes.
//!
//! Nothing here decides. A table that was read back compares equal to the wanted one exactly when every chain, rule, set
//! and element is as we would write it; what cannot be read becomes something that no wanted table contains.

use super::elements::Elements;
use super::recognise;
use super::statement::Rule;
use super::table::{Chain, DataType, Hook, HookKind, HookPoint, Policy, Set, SetType, Table};
use super::transaction::{self, Op, Transaction};
use super::value::{Cells, Data, Name, Type};
use super::{TableFamily, number, userdata};
use crate::Errno;
use crate::membership::Membership;
use crate::message::{Attributes, Batch, DUMP, Reply};
use crate::socket::{Error, Family, Refusal, Socket};
use std::collections::BTreeMap;
use std::ops::Range;

/// `nfgenmsg`
pub(super) const HEADER: usize = 4;
/// `NFNLGRP_NFTABLES`
const NOTIFICATION_GROUP: u32 = 7;
/// `NFT_TABLE_F_DORMANT`
const DORMANT: u32 = 0x1;
const POLICY_ACCEPT: u32 = 1;

/// A transaction that the kernel did not take. Nothing of it was applied.
#[derive(Debug, thiserror::Error)]
#[error("commit to table {family} {table}{}", at(refused.first()))]
pub struct CommitError {
    /// The table's family.
    pub family: TableFamily,
    /// The table's name.
    pub table: Name,
    /// The messages that were refused, in order; none when the kernel refused the whole (no permission, no memory).
    pub refused: Vec<RefusedOps>,
    /// The cause.
    #[source]
    pub source: Error,
}

/// A message of a transaction that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedOps {
    /// Its operations; the kernel does not say which of them it was.
    pub ops: Range<usize>,
    /// The first of them.
    pub first: Box<Op>,
    /// Why.
    pub why: Refusal,
}

fn at(refused: Option<&RefusedOps>) -> String {
    let Some(RefusedOps { ops, first, .. }) = refused else { return String::new() };
    match ops.len() {
        1 => format!(", at operation {}: {first:?}", ops.start),
        more => format!(", at one of {more} operations from {} on, the first being {first:?}", ops.start),
    }
}

/// Applies a transaction, all or nothing. An empty one does not reach the kernel.
///
/// # Errors
/// What the kernel refused, or why it could not be asked.
pub fn commit(socket: &mut Socket, transaction: &Transaction) -> Result<(), CommitError> {
    if transaction.is_empty() {
        return Ok(());
    }
    let (mut batch, ops_of) = transaction.encode();
    socket.request(&mut batch).map_err(|source| {
        let refusals = match &source {
            Error::Refused { refusals } => refusals.as_slice(),
            _ => &[],
        };
        let ops = |refusal: &Refusal| {
            let ops = ops_of.get(refusal.index as usize)?.clone();
            let first = Box::new(transaction.ops[ops.clone()].first()?.clone());
            Some(RefusedOps { ops, first, why: refusal.clone() })
        };
        let refused = refusals.iter().filter_map(ops).collect();
        CommitError { family: transaction.family, table: transaction.table.clone(), refused, source }
    })
}

/// Reads a table with everything in it; `None` when there is none.
///
/// # Errors
/// When the kernel refuses, or the ruleset keeps changing under the dump.
pub fn load(socket: &mut Socket, family: TableFamily, name: &str) -> Result<Option<Table>, Error> {
    let Some(dormant) = load_header(socket, family, name)? else { return Ok(None) };
    let mut table = Table::new(family, name);
    table.dormant = dormant;
    table.sets = load_sets(socket, &table)?;
    let fixed = table.sets.iter().filter(|(_, set)| set.kind.dynamic.is_none());
    let names: Vec<Name> = fixed.map(|(name, _)| name.clone()).collect();
    for set in names {
        let elements = load_elements(socket, &table, &set)?;
        table.sets.entry(set).and_modify(|s| s.elements = elements);
    }
    table.chains = load_chains(socket, &table)?;
    for (chain, rules) in load_rules(socket, family, name)? {
        table.chains.entry(chain).or_default().rules = rules;
    }
    Ok(Some(table))
}

/// Whether the table is dormant; `None` when it does not exist.
fn load_header(socket: &mut Socket, family: TableFamily, name: &str) -> Result<Option<bool>, Error> {
    let mut batch = Batch::new();
    batch.push(number::GET_TABLE, 0, &number::header(family.number(), 0), |w| w.put_str(1, name));
    let mut flags = 0;
    match socket.transact(&mut batch, |reply| flags = reply.attributes(HEADER).get_be32(2).unwrap_or(0)) {
        Ok(()) => Ok(Some(flags & DORMANT != 0)),
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Dumps one kind of object of a table; `visit` gets the attributes of those that name the table.
pub(super) fn dump<S: Default>(
    socket: &mut Socket,
    kind: u16,
    (table, set): (&Table, Option<&str>),
    mut visit: impl FnMut(&mut S, Attributes<'_>),
) -> Result<S, Error> {
    let mut batch = Batch::new();
    batch.push(kind, DUMP, &number::header(table.family.number(), 0), |w| {
        w.put_str(1, &table.name);
        if let Some(set) = set {
            w.put_str(2, set);
        }
    });
    socket.dump(&mut batch, |state, reply| {
        let attributes = reply.attributes(HEADER);
        // Kernels do not filter every kind of dump by table, and none filters chains.
        if attributes.get_str(1) == Some(&table.name) {
            visit(state, attributes);
        }
    })
}

fn load_sets(socket: &mut Socket, table: &Table) -> Result<BTreeMap<Name, Set>, Error> {
    dump(socket, number::GET_SET, (table, None), |sets: &mut BTreeMap<Name, Set>, attributes| {
        if let Some(name) = attributes.get_str(2) {
            sets.insert(name.into(), Set { kind: read_set_type(attributes), elements: Elements::default() });
        }
    })
}

fn read_set_type(attributes: Attributes<'_>) -> SetType {
    let key = read_types(attributes.get_be32(4).unwrap_or(0));
    let flags = attributes.get_be32(3).unwrap_or(0);
    let data = match attributes.get_be32(6) {
        None if flags == 0 => DataType::None,
        None => DataType::Ranges,
        Some(0xffff_ff00) => DataType::Verdict,
        Some(code) => DataType::Cells(read_types(code)),
    };
    let comment = attributes.get(13).and_then(userdata::comment).unwrap_or_default();
    let size = attributes.get_nest(9).and_then(|description| description.get_be32(1));
    let each = attributes.get_nest(transaction::EACH);
    let counted =
        each.and_then(|each| each.get_str(transaction::EXPRESSION_NAME)) == Some(transaction::COUNTER);
    let mut kind = SetType { key, data, dynamic: None, counted, comment: comment.into() };
    if flags != transaction::set_flags(&kind) {
        kind.dynamic = size;
    }
    // A set with other flags is not one of ours, whatever its types.
    if flags != transaction::set_flags(&kind) {
        kind.key = Vec::new();
    }
    kind
}

/// Undoes the concatenation of 6-bit type numbers; empty when one of them is not ours.
fn read_types(mut code: u32) -> Vec<Type> {
    const ALL: [Type; 6] =
        [Type::Ipv4Addr, Type::Ipv6Addr, Type::InetProto, Type::InetService, Type::Slot, Type::Mark];
    let mut types = Vec::new();
    while code != 0 {
        match ALL.into_iter().find(|t| t.code() == code & 0x3f) {
            Some(found) => types.insert(0, found),
            None => return Vec::new(),
        }
        code >>= 6;
    }
    types
}

/// Reads what packets have put into a dynamic map.
///
/// # Errors
/// When the kernel refuses, or the ruleset keeps changing under the dump.
pub fn load_dynamic(
    socket: &mut Socket,
    family: TableFamily,
    (table, set): (&str, &str),
) -> Result<Elements, Error> {
    load_elements(socket, &Table::new(family, table), set)
}

/// Reads how many packets found each element of a set that counts.
///
/// # Errors
/// When the kernel refuses, or the ruleset keeps changing under the dump.
pub fn load_counts(
    socket: &mut Socket,
    family: TableFamily,
    (table, set): (&str, &str),
) -> Result<BTreeMap<Cells, u64>, Error> {
    let table = Table::new(family, table);
    dump(socket, number::GET_ELEMENT, (&table, Some(set)), |counts: &mut BTreeMap<_, _>, attributes| {
        for (_, element) in attributes.get_nest(3).unwrap_or(Attributes::new(&[])) {
            let element = Attributes::new(element);
            let key = element.get_nest(1).and_then(|key| key.get(number::DATA_VALUE));
            // `NFTA_SET_ELEM_EXPR`, in it `NFTA_EXPR_DATA`, in it `NFTA_COUNTER_PACKETS`
            let counter = element.get_nest(7).and_then(|each| each.get_nest(2));
            let packets = counter.and_then(|counter| counter.get(2)?.first_chunk().copied());
            counts.extend(key.and_then(Cells::from_bytes).zip(packets.map(u64::from_be_bytes)));
        }
    })
}

fn load_elements(socket: &mut Socket, table: &Table, set: &str) -> Result<Elements, Error> {
    dump(socket, number::GET_ELEMENT, (table, Some(set)), |elements: &mut Elements, attributes| {
        for (_, element) in attributes.get_nest(3).unwrap_or(Attributes::new(&[])) {
            let element = Attributes::new(element);
            let value = |kind| element.get_nest(kind).and_then(|d| d.get(number::DATA_VALUE));
            let Some(key) = value(1).and_then(Cells::from_bytes) else { continue };
            let verdict = element.get_nest(2).and_then(|d| d.get_nest(number::DATA_VERDICT));
            let chain = verdict.and_then(|v| v.get_str(2));
            let data = match (chain, value(2).and_then(Cells::from_bytes)) {
                (Some(chain), _) => Data::Goto(chain.into()),
                (None, Some(cells)) => Data::Cells(cells),
                (None, None) => match value(10).and_then(Cells::from_bytes) {
                    Some(end) => Data::Until(end),
                    None => Data::None,
                },
            };
            elements.insert(key, &data);
        }
    })
}

fn load_chains(socket: &mut Socket, table: &Table) -> Result<BTreeMap<Name, Chain>, Error> {
    dump(socket, number::GET_CHAIN, (table, None), |chains: &mut BTreeMap<Name, Chain>, attributes| {
        if let Some(name) = attributes.get_str(3) {
            chains.insert(name.into(), Chain { hook: read_hook(attributes), rules: Vec::new() });
        }
    })
}

fn read_hook(attributes: Attributes<'_>) -> Option<Hook> {
    let hook = attributes.get_nest(4)?;
    let point = HookPoint::ALL.get(hook.get_be32(1)? as usize).copied()?;
    let kind = match attributes.get_str(7)? {
        "nat" => HookKind::Nat,
        _ => HookKind::Filter,
    };
    let policy = if attributes.get_be32(5) == Some(POLICY_ACCEPT) { Policy::Accept } else { Policy::Drop };
    Some(Hook { kind, point, priority: hook.get_be32(2)?.cast_signed(), policy })
}

/// Reads the rules of a table by their chains; those without a rule, and a table that is missing, are left out. It is the
/// cheapest way to see that nobody has flushed a table whose rules never change.
///
/// # Errors
/// When the kernel refuses, or the ruleset keeps changing under the dump.
pub fn load_rules(
    socket: &mut Socket,
    family: TableFamily,
    table: &str,
) -> Result<BTreeMap<Name, Vec<Rule>>, Error> {
    let table = Table::new(family, table);
    dump(socket, number::GET_RULE, (&table, None), |rules: &mut BTreeMap<Name, Vec<Rule>>, attributes| {
        if let (Some(chain), Some(list)) = (attributes.get_str(2), attributes.get_nest(4)) {
            rules.entry(chain.into()).or_default().push(recognise::decode(list, family));
        }
    })
}

/// What was done to tables, as far as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Tables that somebody changed; without a family, of one that heddle has no tables in (`inet`, `bridge`, …).
    Changed(Vec<(Option<TableFamily>, String)>),
    /// Notifications were lost: anything may have changed.
    Lost,
}

/// Listens to changes of nf_tables in this network namespace.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Of a commit that was not heard to its end.
    changed: Vec<(Option<TableFamily>, String)>,
}

impl Listener {
    /// Opens a listener. Changes from now on are heard.
    ///
    /// # Errors
    /// When the socket cannot be opened or may not listen.
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::open(Family::Netfilter)?;
        socket.subscribe(NOTIFICATION_GROUP)?;
        Ok(Self { socket, changed: Vec::new() })
    }

    /// Hears no more of what is changed through the socket with this port.
    ///
    /// # Errors
    /// When the kernel takes no filter.
    pub fn ignore(&self, port: u32) -> Result<(), Error> {
        self.socket.ignore(port)
    }

    /// What another thread can cover its ears with.
    pub fn ears(&self) -> Ears {
        Ears { membership: self.socket.membership(NOTIFICATION_GROUP) }
    }

    /// Waits for the end of the next commit, which may be thousands of notifications; the last of them is its number.
    ///
    /// # Errors
    /// When the socket cannot be read.
    pub fn hear(&mut self) -> Result<Heard, Error> {
        loop {
            let (changed, mut is_over) = (&mut self.changed, false);
            let complete = self.socket.listen(|reply| match changed_table(reply) {
                Some(table) if changed.last() != Some(&table) => changed.push(table),
                Some(_) => {}
                None => is_over |= reply.kind == number::NEW_GENERATION,
            })?;
            if !complete {
                self.changed.clear();
                return Ok(Heard::Lost);
            }
            if is_over && !self.changed.is_empty() {
                return Ok(Heard::Changed(std::mem::take(&mut self.changed)));
            }
        }
    }
}

/// The ears of a [`Listener`], which another thread may cover for a while.
#[derive(Clone, Debug)]
pub struct Ears {
    membership: Membership,
}

impl Ears {
    /// Does what the listener is not to hear. Where nobody else listens, the kernel tells nobody: of each element of a set that is
    /// a buffer of 4 KiB, and all of a commit are there at once (`nf_tables_setelem_notify`; 300 000 elements took 1.2 GB, and a third of the
    /// time). What others do meanwhile is not heard either; [`noted::generation`](super::noted::generation) tells whether they did.
    ///
    /// # Errors
    /// When the listener cannot hear again; the work is done all the same.
    pub fn cover<T>(&self, work: impl FnOnce() -> T) -> (T, Result<(), Error>) {
        // One who cannot cover them is disturbed, and nothing else.
        let _ = self.membership.leave();
        (work(), self.membership.join())
    }
}

fn changed_table(reply: Reply<'_>) -> Option<(Option<TableFamily>, String)> {
    if reply.kind == number::NEW_GENERATION {
        return None;
    }
    let family = TableFamily::ALL.into_iter().find(|f| Some(&f.number()) == reply.body.first());
    Some((family, reply.attributes(HEADER).get_str(1)?.to_owned()))
}
