//! A list of operations on one table, applied by the kernel all or nothing.
//!
//! It encodes itself to netlink and prints itself as the commands that nft would be given. It decides nothing: the order
//! of the operations is the caller's, and the kernel works through them in that order.

use super::compile;
use super::statement::{self, Rule};
use super::table::{DataType, Hook, Policy, SetType};
use super::value::{Cells, Data, Name};
use super::{TableFamily, number, userdata};
use crate::message::{ACK, APPEND, Batch, CREATE, Writer};
use std::fmt;
use std::ops::Range;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes the table; nothing happens when it exists.
    AddTable,
    /// Removes the table with all that is in it.
    DeleteTable,
    /// Makes a chain; nothing happens when it exists with the same hook.
    AddChain(Name, Option<Hook>),
    /// Removes a chain's rules.
    FlushChain(Name),
    /// Removes a chain with its rules; refused while an element refers to it.
    DeleteChain(Name),
    /// Adds a rule at the end of a chain.
    AddRule(Name, Rule),
    /// Makes a set or map; nothing happens when it exists with the same types.
    AddSet(Name, SetType),
    /// Removes a set or map; refused while a rule looks into it.
    DeleteSet(Name),
    /// Adds an element; refused when the key exists with other data.
    AddElement(Name, Cells, Data),
    /// Removes an element, whose data was this; refused when the key is not there.
    DeleteElement(Name, Cells, Data),
}

/// Operations on one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The table's family.
    pub family: TableFamily,
    /// The table's name.
    pub table: Name,
    /// For people who list the table.
    pub comment: &'static str,
    /// What to do, in order.
    pub ops: Vec<Op>,
    /// Which operations have a message each, in order, so that a refusal names them; those on elements share one otherwise.
    pub singly: Vec<Range<usize>>,
}

/// Elements in one message: the list's length has 16 bits, and an IPv6 slot element takes below 100 bytes.
const ELEMENTS_PER_MESSAGE: usize = 500;
/// `NFT_SET_INTERVAL`, `_MAP`, `_TIMEOUT`, `_EVAL`, `_CONCAT`
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const EVALUATED: u32 = 0x20;
const CONCAT: u32 = 0x80;
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// `NFTA_SET_EXPR`: what each element has.
pub(super) const EACH: u16 = 17;
/// `NFTA_EXPR_NAME`
pub(super) const EXPRESSION_NAME: u16 = 1;
pub(super) const COUNTER: &str = "counter";
impl Transaction {
    /// A transaction that does nothing yet.
    pub fn new(family: TableFamily, table: Name, comment: &'static str) -> Self {
        Self { family, table, comment, ops: Vec::new(), singly: Vec::new() }
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The netlink messages, framed as one batch, and for each message its operations: none for the frame.
    pub fn encode(&self) -> (Batch, Vec<Range<usize>>) {
        let mut batch = Batch::new();
        let frame = 0..0;
        let mut ops_of = Vec::from([frame.clone()]);
        batch.push(number::BATCH_BEGIN, 0, &number::header(0, 10), |_| ());
        for run in self.messages() {
            // Asking for an ack on the end of the batch needs kernel 6.10; on the last operation, none.
            let ack = if run.end == self.ops.len() { ACK } else { 0 };
            self.encode_op(&mut batch, &run, ack);
            ops_of.push(run);
        }
        ops_of.push(frame);
        batch.push(number::BATCH_END, 0, &number::header(0, 10), |_| ());
        (batch, ops_of)
    }

    /// Which operations each message has: more than one only for elements of one set.
    pub fn messages(&self) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            next += self.run_length(start);
            (start < next).then_some(start..next)
        })
    }

    fn run_length(&self, at: usize) -> usize {
        let Some(first) = self.ops.get(at) else { return 0 };
        let same = |op: &&Op| match (first, op) {
            (Op::AddElement(set, ..), Op::AddElement(other, ..))
            | (Op::DeleteElement(set, ..), Op::DeleteElement(other, ..)) => set == other,
            _ => false,
        };
        let single = self.singly.iter().find(|range| range.end > at);
        let most = match single {
            Some(range) if range.start <= at => 1,
            Some(range) => (range.start - at).min(ELEMENTS_PER_MESSAGE),
            None => ELEMENTS_PER_MESSAGE,
        };
        self.ops[at..].iter().take(most).take_while(same).count().max(1)
    }

    fn encode_op(&self, batch: &mut Batch, run: &Range<usize>, ack: u16) {
        let header = number::header(self.family.number(), 0);
        let table = &*self.table;
        let mut push = |kind: u16, flags: u16, write: &dyn Fn(&mut Writer<'_>)| {
            batch.push(kind, flags | ack, &header, |w| {
                w.put_str(1, table);
                write(w);
            });
        };
        match &self.ops[run.start] {
            Op::AddTable => {
                push(number::NEW_TABLE, CREATE, &|w| w.put(6, &userdata::table(self.comment)));
            }
            Op::DeleteTable => push(number::DELETE_TABLE, 0, &|_| ()),
            Op::AddChain(name, hook) => push(number::NEW_CHAIN, CREATE, &|w| encode_chain(w, name, *hook)),
            Op::FlushChain(name) => push(number::DELETE_RULE, 0, &|w| w.put_str(2, name)),
            Op::DeleteChain(name) => push(number::DELETE_CHAIN, 0, &|w| w.put_str(3, name)),
            Op::AddRule(chain, rule) => push(number::NEW_RULE, CREATE | APPEND, &|w| {
                w.put_str(2, chain);
                w.nest(4, |w| compile::encode(rule, self.family, w));
            }),
            Op::AddSet(name, kind) => push(number::NEW_SET, CREATE, &|w| {
                // Only has to differ between the new sets of one batch.
                let id = u32::try_from(run.start).expect("a transaction has fewer than 2^32 operations");
                encode_set(w, (name, id), kind, self.family);
            }),
            Op::DeleteSet(name) => push(number::DELETE_SET, 0, &|w| w.put_str(2, name)),
            Op::AddElement(set, ..) => push(number::NEW_ELEMENT, CREATE, &|w| {
                w.put_str(2, set);
                w.nest(3, |w| self.ops[run.clone()].iter().for_each(|op| encode_element(w, op)));
            }),
            Op::DeleteElement(set, ..) => push(number::DELETE_ELEMENT, 0, &|w| {
                w.put_str(2, set);
                w.nest(3, |w| self.ops[run.clone()].iter().for_each(|op| encode_element(w, op)));
            }),
        }
    }
}

fn encode_chain(w: &mut Writer<'_>, name: &str, hook: Option<Hook>) {
    w.put_str(3, name);
    let Some(hook) = hook else { return };
    w.nest(4, |w| {
        w.put_be32(1, hook.point as u32);
        w.put(2, &hook.priority.to_be_bytes());
    });
    w.put_be32(5, u32::from(hook.policy == Policy::Accept));
    w.put_str(7, hook.kind.keyword());
}

fn encode_set(w: &mut Writer<'_>, (name, id): (&str, u32), kind: &SetType, family: TableFamily) {
    let (code, width) = types_code(&kind.key);
    w.put_str(2, name);
    w.put_be32(3, set_flags(kind));
    w.put_be32(4, code);
    w.put_be32(5, width);
    let mut data_types: &[super::Type] = &[];
    match &kind.data {
        DataType::None => {}
        DataType::Ranges => w.nest(9, |w| {
            w.nest(2, |w| {
                for cell in &kind.key {
                    w.nest(number::LIST_ELEMENT, |w| w.put_be32(1, cell.significant()));
                }
            });
        }),
        DataType::Verdict => {
            w.put_be32(6, TYPE_VERDICT);
            w.put_be32(7, 0);
        }
        DataType::Cells(types) => {
            let (code, width) = types_code(types);
            w.put_be32(6, code);
            w.put_be32(7, width);
            data_types = types;
        }
    }
    if let Some(size) = kind.dynamic {
        w.nest(9, |w| w.put_be32(1, size));
    }
    if kind.counted {
        w.nest(EACH, |w| w.put_str(EXPRESSION_NAME, COUNTER));
    }
    w.put_be32(10, id);
    w.put(13, &userdata::set(family, &kind.key, data_types, &kind.comment));
}

/// The flags of a set of this type (`enum nft_set_flags`).
pub(super) fn set_flags(kind: &SetType) -> u32 {
    let data = match kind.data {
        DataType::None => 0,
        DataType::Ranges => INTERVAL | CONCAT,
        DataType::Verdict | DataType::Cells(_) => MAP,
    };
    data | if kind.dynamic.is_some() { TIMEOUT | EVALUATED } else { 0 }
}

/// nft's number for a concatenation (6 bits a type), and its width in bytes.
fn types_code(types: &[super::Type]) -> (u32, u32) {
    types.iter().fold((0, 0), |(code, width), kind| {
        (code << 6 | kind.code(), width + u32::try_from(kind.width()).expect("a cell has at most 16 bytes"))
    })
}

fn encode_element(w: &mut Writer<'_>, op: &Op) {
    let (key, data) = match op {
        Op::AddElement(_, key, data) => (key, data),
        // What a key maps to does not name the element; where its range ends does.
        Op::DeleteElement(_, key, data @ Data::Until(_)) => (key, data),
        Op::DeleteElement(_, key, _) => (key, &Data::None),
        _ => return,
    };
    put_element(w, (key, data), "");
}

/// An element, with a comment when it is not empty.
pub(super) fn put_element(w: &mut Writer<'_>, (key, data): (&Cells, &Data), comment: &str) {
    w.nest(number::LIST_ELEMENT, |w| {
        w.nest(1, |w| w.put(number::DATA_VALUE, key.as_bytes()));
        if !comment.is_empty() {
            w.put(number::ELEMENT_USERDATA, &userdata::element(comment));
        }
        match data {
            Data::None => {}
            Data::Until(end) => w.nest(10, |w| w.put(number::DATA_VALUE, end.as_bytes())),
            Data::Cells(cells) => w.nest(2, |w| w.put(number::DATA_VALUE, cells.as_bytes())),
            Data::Goto(chain) => w.nest(2, |w| {
                w.nest(number::DATA_VERDICT, |w| {
                    w.put_be32(1, number::GOTO);
                    w.put_str(2, chain);
                });
            }),
        }
    });
}

/// The commands that `nft -f` would be given. Elements print their keys as bytes: only the table knows their types.
impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = format_args!("{} {}", self.family, self.table);
        for op in &self.ops {
            match op {
                Op::AddTable => writeln!(f, "add table {table}")?,
                Op::DeleteTable => writeln!(f, "delete table {table}")?,
                Op::AddChain(name, None) => writeln!(f, "add chain {table} {name}")?,
                Op::AddChain(name, Some(hook)) => writeln!(
                    f,
                    "add chain {table} {name} {{ type {} hook {} priority {}; }}",
                    hook.kind.keyword(),
                    hook.point.keyword(),
                    hook.priority
                )?,
                Op::FlushChain(name) => writeln!(f, "flush chain {table} {name}")?,
                Op::DeleteChain(name) => writeln!(f, "delete chain {table} {name}")?,
                Op::AddRule(chain, rule) => {
                    writeln!(f, "add rule {table} {chain} {}", statement::show(rule, self.family))?;
                }
                Op::AddSet(name, kind) => {
                    writeln!(f, "add {} {table} {name} {{ {}; }}", kind.keyword(), kind.show(self.family))?;
                }
                Op::DeleteSet(name) => writeln!(f, "delete set {table} {name}")?,
                Op::AddElement(set, key, data) => {
                    writeln!(f, "add element {table} {set} {{ {key:?} {data:?} }}")?;
                }
                Op::DeleteElement(set, key, _) => writeln!(f, "delete element {table} {set} {{ {key:?} }}")?,
            }
        }
        Ok(())
    }
}
