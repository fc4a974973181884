//! What the kernel of a node holds: objects of nf_tables, whoever made them, and rules of ip_tables.
//!
//! They are counted, not read: an object of any program counts. Numbers are those of `linux/netfilter/nf_tables.h`.

use crate::Failure;
use heddle_netlink::message::DUMP;
use heddle_netlink::{Batch, Family, Reply, Socket};
use heddle_tests::lab::Node;
use heddle_tests::process::Invocation;
use std::collections::BTreeSet;

/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_SET: u16 = SUBSYSTEM | 10;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
/// The table, and the set or the list of a set's elements, among an object's attributes.
const TABLE: u16 = 1;
const NAME: u16 = 2;
const ELEMENTS: u16 = 3;
/// `nfgenmsg`
const HEADER: usize = 4;
/// Whatever lists rules of ip_tables, which are no objects of nf_tables.
const LEGACY: [&str; 2] = ["iptables-legacy-save", "ip6tables-legacy-save"];

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Tables.
    pub tables: usize,
    /// Chains.
    pub chains: usize,
    /// Rules.
    pub rules: usize,
    /// Sets and maps, those without a name among them.
    pub sets: usize,
    /// Their elements.
    pub elements: usize,
}

impl Holding {
    /// Counts what a node has.
    ///
    /// # Errors
    /// When the kernel refuses, or its objects keep changing.
    pub fn of(node: &Node) -> Result<Self, Failure> {
        let mut socket = node.namespace().enter(|| Socket::open(Family::Netfilter))??;
        let sets = sets(&mut socket)?;
        let mut held = Self {
            tables: count(&mut socket, GET_TABLE)?,
            chains: count(&mut socket, GET_CHAIN)?,
            rules: count(&mut socket, GET_RULE)?,
            sets: sets.len(),
            elements: 0,
        };
        for (family, table, name) in &sets {
            held.elements += elements(&mut socket, (*family, table, name))?;
        }
        held.rules += LEGACY.iter().map(|program| legacy_rules(node, program)).sum::<usize>();
        Ok(held)
    }
}

/// Counts objects of all families.
fn count(socket: &mut Socket, kind: u16) -> Result<usize, Failure> {
    let mut batch = Batch::new();
    batch.push(kind, DUMP, &[0; HEADER], |_| ());
    Ok(socket.dump(&mut batch, |count: &mut usize, _| *count += 1)?)
}

/// All sets, by family and table.
fn sets(socket: &mut Socket) -> Result<BTreeSet<(u8, String, String)>, Failure> {
    let mut batch = Batch::new();
    batch.push(GET_SET, DUMP, &[0; HEADER], |_| ());
    Ok(socket.dump(&mut batch, |found: &mut BTreeSet<_>, reply: Reply<'_>| {
        let attributes = reply.attributes(HEADER);
        let names = (attributes.get_str(TABLE), attributes.get_str(NAME));
        if let (Some(&family), (Some(table), Some(name))) = (reply.body.first(), names) {
            found.insert((family, table.to_owned(), name.to_owned()));
        }
    })?)
}

fn elements(socket: &mut Socket, (family, table, name): (u8, &str, &str)) -> Result<usize, Failure> {
    let mut batch = Batch::new();
    batch.push(GET_ELEMENT, DUMP, &[family, 0, 0, 0], |message| {
        message.put_str(TABLE, table);
        message.put_str(NAME, name);
    });
    Ok(socket.dump(&mut batch, |count: &mut usize, reply| {
        *count += reply.attributes(HEADER).get_nest(ELEMENTS).map_or(0, Iterator::count);
    })?)
}

/// None where there is no such program: nobody has made rules without it then.
fn legacy_rules(node: &Node, program: &str) -> usize {
    let listed = Invocation::foreign(program).run(node.namespace());
    listed.map_or(0, |listed| listed.stdout.lines().filter(|line| line.starts_with("-A ")).count())
}
