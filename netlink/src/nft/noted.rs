//! Elements that say whose they are, in tables that several processes edit at the same time.
//!
//! The note is the element's comment, which nft lists behind it. An edit is made from what was read before, so it is
//! committed only if nothing was committed since: the kernel counts the commits of a namespace, and refuses a batch that
//! names another count than its own (`NFNL_BATCH_GENID`, kernel 4.12). Whoever was overtaken reads again. Invariant: of two
//! edits that were made from the same reading, one is refused.

use super::read::dump;
use super::transaction::put_element;
use super::{Cells, Data, Name, Table, TableFamily, number, userdata};
use crate::Errno;
use crate::message::{ACK, Batch, CREATE, EXCL};
use crate::socket::{Error, Socket};

/// `NFTA_GEN_ID`
const GENERATION_ID: u16 = 1;
/// `NFNL_BATCH_GENID`
const BATCH_GENERATION: u16 = 1;
/// `ERESTART`, which the C library has no text for.
const OVERTAKEN: Errno = Errno::from_raw_os_error(85);
const HEADER: usize = 4;

/// The number of commits that a ruleset has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u32);

impl Generation {
    /// The one after the next commit (`nf_tables_commit`: 0 is left out).
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(1))
    }
}

/// An element and its note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The set or map.
    pub set: Name,
    /// The key.
    pub key: Cells,
    /// What it maps to: nothing or cells.
    pub data: Data,
    /// Whose it is; at most 127 bytes, so that nft takes its own listing back.
    pub note: String,
}

/// What becomes of the elements of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The table's family.
    pub family: TableFamily,
    /// The table's name.
    pub table: Name,
    /// Elements that go.
    pub gone: Vec<Noted>,
    /// Elements that come, after that; one whose key is there is refused.
    pub new: Vec<Noted>,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All edits are made.
    Yes,
    /// Somebody committed since the reading; nothing is made.
    Overtaken,
}

/// The count of commits now: to be asked for before anything is read.
///
/// # Errors
/// When the kernel has no nf_tables or the process may not use it.
pub fn generation(socket: &mut Socket) -> Result<Generation, Error> {
    let mut batch = Batch::new();
    batch.push(number::GET_GENERATION, ACK, &number::header(0, 0), |_| ());
    let mut found = None;
    socket.transact(&mut batch, |reply| {
        found = reply.attributes(HEADER).get_be32(GENERATION_ID).or(found);
    })?;
    found.map(Generation).ok_or(Error::Malformed { what: "a generation of the ruleset" })
}

/// Reads the elements of a set or map; none when it, or its table, is missing.
///
/// # Errors
/// When the kernel refuses, or the ruleset keeps changing under the dump.
pub fn load(
    socket: &mut Socket,
    family: TableFamily,
    (table, set): (&str, &str),
) -> Result<Vec<Noted>, Error> {
    let (table, name) = (Table::new(family, table), Name::from(set));
    let listed =
        dump(socket, number::GET_ELEMENT, (&table, Some(set)), |all: &mut Vec<Noted>, attributes| {
            let list = attributes.get_nest(3).into_iter().flatten();
            all.extend(list.filter_map(|(_, element)| read(&name, element)));
        });
    match listed {
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(Vec::new()),
        listed => listed,
    }
}

fn read(set: &Name, element: &[u8]) -> Option<Noted> {
    let element = crate::Attributes::new(element);
    let cells = |kind| element.get_nest(kind)?.get(number::DATA_VALUE).and_then(Cells::from_bytes);
    let note = element.get(number::ELEMENT_USERDATA).and_then(userdata::element_comment);
    let (set, note) = (set.clone(), note.unwrap_or_default().to_owned());
    Some(Noted { set, key: cells(1)?, data: cells(2).map_or(Data::None, Data::Cells), note })
}

/// Makes all edits or none, if no commit came since that generation.
///
/// # Errors
/// When the kernel refuses: `ENOENT` when a set or an element that goes is missing, `EEXIST` when a key is there.
pub fn commit(
    socket: &mut Socket,
    Generation(generation): Generation,
    edits: &[Edit],
) -> Result<Committed, Error> {
    let mut batch = Batch::new();
    batch.push(number::BATCH_BEGIN, 0, &number::header(0, 10), |w| w.put_be32(BATCH_GENERATION, generation));
    let before = batch.len();
    for edit in edits {
        edit.push(&mut batch);
    }
    if batch.len() == before {
        return Ok(Committed::Yes);
    }
    batch.push(number::BATCH_END, 0, &number::header(0, 10), |_| ());
    match socket.request(&mut batch) {
        Ok(()) => Ok(Committed::Yes),
        Err(e) if e.errno() == Some(OVERTAKEN) => Ok(Committed::Overtaken),
        Err(e) => Err(e),
    }
}

impl Edit {
    fn push(&self, batch: &mut Batch) {
        let header = number::header(self.family.number(), 0);
        let mut push = |kind, flags, element: &Noted, data: &Data, note: &str| {
            batch.push(kind, flags | ACK, &header, |w| {
                w.put_str(1, &self.table);
                w.put_str(2, &element.set);
                w.nest(3, |w| put_element(w, (&element.key, data), note));
            });
        };
        for gone in &self.gone {
            push(number::DELETE_ELEMENT, 0, gone, &Data::None, "");
        }
        for new in &self.new {
            push(number::NEW_ELEMENT, CREATE | EXCL, new, &new.data, &new.note);
        }
    }
}
