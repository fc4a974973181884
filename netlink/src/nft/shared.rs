//! Tables that several programs share, as iptables keeps them: which chains there are, and which rules lead into them.
//!
//! Not a reader of rules: of a rule only its place and where it jumps are looked at, which is enough to take one program's
//! chains out and leave the others'. Invariant: a rule is removed only by the handle under which it was seen, so one that
//! was replaced meanwhile makes the removal fail as a whole, and nothing of somebody else's goes.

use super::read::{HEADER, dump};
use super::{Name, Table, TableFamily, number};
use crate::Errno;
use crate::message::{ACK, Attributes, Batch, DUMP, Reply};
use crate::socket::{Error, Socket};
use std::collections::{BTreeMap, BTreeSet};

/// The chains of one table and the ways between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The chains, and whether packets come to them from the kernel itself (a base chain).
    pub chains: BTreeMap<Name, bool>,
    /// Rules that lead from one chain into another, in the order in which the kernel has them.
    pub jumps: Vec<Jump>,
}

/// A rule that leads into another chain, by jump or goto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The chain that it stands in.
    pub chain: Name,
    /// The kernel's number of the rule within its table.
    pub handle: u64,
    /// The chain that it leads to.
    pub to: Name,
}

/// What is to be taken out of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Rules in chains that stay.
    pub jumps: Vec<Jump>,
    /// Chains, with all their rules.
    pub chains: BTreeSet<Name>,
}

impl Cut {
    /// True when nothing is to be taken out.
    pub fn is_empty(&self) -> bool {
        self.jumps.is_empty() && self.chains.is_empty()
    }
}

/// Reads a table's chains and jumps; no chains when there is no such table.
///
/// # Errors
/// When the kernel refuses, or the ruleset keeps changing under the dump.
pub fn survey(socket: &mut Socket, family: TableFamily, table: &str) -> Result<Shared, Error> {
    let table = Table::new(family, table);
    let chains =
        dump(socket, number::GET_CHAIN, (&table, None), |chains: &mut BTreeMap<_, _>, attributes| {
            if let Some(name) = attributes.get_str(3) {
                chains.insert(Name::from(name), attributes.get_nest(4).is_some());
            }
        })?;
    let jumps = dump(socket, number::GET_RULE, (&table, None), |jumps: &mut Vec<Jump>, attributes| {
        jumps.extend(read_jump(attributes));
    })?;
    Ok(Shared { chains, jumps })
}

/// A chain with rules that packets come to from the kernel itself, in a table of any family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooked {
    /// `NFPROTO_…`: 1 is `inet`, 2 `ip`, 7 `bridge`, 10 `ip6`.
    pub family: u8,
    /// Its table's name.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// What it is for: `filter`, `nat` or `route`.
    pub kind: String,
    /// `NF_INET_PRE_ROUTING` (0), `NF_INET_LOCAL_IN` (1), `NF_INET_FORWARD` (2), `NF_INET_LOCAL_OUT` (3), `NF_INET_POST_ROUTING` (4);
    /// `bridge` counts in the same way.
    pub hook: u32,
}

/// Lists them. What iptables keeps in `ip_tables` (its legacy variant) is not among them.
///
/// # Errors
/// When the kernel refuses, or the ruleset keeps changing under the dump.
pub fn hooked(socket: &mut Socket) -> Result<Vec<Hooked>, Error> {
    let mut batch = Batch::new();
    batch.push(number::GET_CHAIN, DUMP, &number::header(0, 0), |_| ());
    socket.dump(&mut batch, |found: &mut Vec<Hooked>, reply| found.extend(read_hooked(reply)))
}

fn read_hooked(reply: Reply<'_>) -> Option<Hooked> {
    let attributes = reply.attributes(HEADER);
    // NFTA_CHAIN_USE: the rules of a chain, and the rules that lead into it, of which a base chain has none.
    let rules = attributes.get_be32(6)?;
    Some(Hooked {
        family: *reply.body.first()?,
        table: attributes.get_str(1)?.to_owned(),
        chain: attributes.get_str(3)?.to_owned(),
        kind: attributes.get_str(7)?.to_owned(),
        hook: attributes.get_nest(4)?.get_be32(1)?,
    })
    .filter(|_| rules > 0)
}

/// Whether a table has a chain of this name; false also when there is no such table.
///
/// # Errors
/// When the kernel refuses for another reason than that it is missing.
pub fn has_chain(
    socket: &mut Socket,
    family: TableFamily,
    (table, chain): (&str, &str),
) -> Result<bool, Error> {
    let mut batch = Batch::new();
    batch.push(number::GET_CHAIN, ACK, &number::header(family.number(), 0), |w| {
        w.put_str(1, table);
        w.put_str(3, chain);
    });
    match socket.request(&mut batch) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The first verdict of a rule that names a chain: iptables allows one target a rule.
fn read_jump(attributes: Attributes<'_>) -> Option<Jump> {
    let chain = attributes.get_str(2)?.into();
    let handle = u64::from_be_bytes(attributes.get(3)?.try_into().ok()?);
    let to = attributes.get_nest(4)?.find_map(|(_, expression)| {
        let data = Attributes::new(expression).get_nest(2)?;
        data.get_nest(2)?.get_nest(number::DATA_VERDICT)?.get_str(2).map(Name::from)
    })?;
    Some(Jump { chain, handle, to })
}

/// Takes rules and chains out of a table, all or nothing.
///
/// # Errors
/// When the kernel refuses: `ENOENT` when a rule is not there any more, `EBUSY` when a rule that stays leads into one of
/// the chains.
pub fn cut(socket: &mut Socket, family: TableFamily, table: &str, cut: &Cut) -> Result<(), Error> {
    if cut.is_empty() {
        return Ok(());
    }
    let header = number::header(family.number(), 0);
    let mut batch = Batch::new();
    batch.push(number::BATCH_BEGIN, 0, &number::header(0, 10), |_| ());
    for jump in &cut.jumps {
        batch.push(number::DELETE_RULE, ACK, &header, |w| {
            w.put_str(1, table);
            w.put_str(2, &jump.chain);
            w.put_be64(3, jump.handle);
        });
    }
    // Their rules first, of all of them: they lead into each other.
    for chain in &cut.chains {
        batch.push(number::DELETE_RULE, ACK, &header, |w| {
            w.put_str(1, table);
            w.put_str(2, chain);
        });
    }
    for chain in &cut.chains {
        batch.push(number::DELETE_CHAIN, ACK, &header, |w| {
            w.put_str(1, table);
            w.put_str(3, chain);
        });
    }
    batch.push(number::BATCH_END, 0, &number::header(0, 10), |_| ());
    socket.request(&mut batch)
}

/// Removes a whole table; false when there is none.
///
/// # Errors
/// When the kernel refuses.
pub fn delete_table(socket: &mut Socket, family: TableFamily, table: &str) -> Result<bool, Error> {
    let header = number::header(family.number(), 0);
    let mut batch = Batch::new();
    batch.push(number::BATCH_BEGIN, 0, &number::header(0, 10), |_| ());
    batch.push(number::DELETE_TABLE, ACK, &header, |w| w.put_str(1, table));
    batch.push(number::BATCH_END, 0, &number::header(0, 10), |_| ());
    match socket.request(&mut batch) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
