//! nf_tables: tables as data, transactions, and their way to the kernel and back.
//!
//! | module | what it is |
//! |---|---|
//! | [`value`] | the cells of keys and data in sets and maps |
//! | [`statement`] | what a rule says, in nft's words, and the kernel expressions that mean it |
//! | [`elements`] | the elements of a set or map, packed |
//! | [`table`] | [`table::Table`]: one table as data; prints itself, and says what a transaction makes of it |
//! | [`transaction`] | [`transaction::Transaction`]: operations; encodes itself to netlink, prints itself as nft text |
//! | [`read`] | the kernel's table read back, and the notifications of others' changes |
//! | [`noted`] | elements that say whose they are, and edits that fail when anybody was faster |
//! | [`shared`] | other programs' chains in tables that several share, and their removal |
//! | [`userdata`] | what nft keeps beside sets so that it can print them |
//!
//! It covers the expressions that heddle's tables use, not the language. Rules that it cannot read stay visible as
//! [`statement::Statement::Foreign`], so that a comparison finds them.

mod compile;
pub mod elements;
mod expression;
pub mod noted;
mod print;
pub mod read;
mod recognise;
pub mod shared;
pub mod statement;
pub mod table;
pub mod transaction;
pub mod userdata;
pub mod value;

pub use elements::Elements;
pub use read::{
    CommitError, Ears, Heard, Listener, RefusedOps, commit, load, load_counts, load_dynamic, load_rules,
};
pub use statement::{End, Field, Rule, Sense, Statement};
pub use table::{Chain, DataType, Hook, HookKind, HookPoint, Policy, Set, SetType, Table};
pub use transaction::{Op, Transaction};
pub use value::{Cells, Data, Name, Type};

/// The address family of a table (`NFPROTO_IPV4`, `NFPROTO_IPV6`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFamily {
    /// `ip`
    Ip,
    /// `ip6`
    Ip6,
}

impl TableFamily {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Ip, Self::Ip6];

    /// The family's number in an `nfgenmsg`.
    pub fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }

    /// The family's name in nft.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }

    /// The family of an address.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::Ip } else { Self::Ip6 }
    }
}

impl std::fmt::Display for TableFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.keyword())
    }
}

/// Numbers of `linux/netfilter/nf_tables.h` and `nfnetlink.h` that more than one module needs.
pub(crate) mod number {
    const SUBSYSTEM: u16 = 10 << 8;
    pub(crate) const BATCH_BEGIN: u16 = 16;
    pub(crate) const BATCH_END: u16 = 17;
    pub(crate) const NEW_TABLE: u16 = SUBSYSTEM;
    pub(crate) const GET_TABLE: u16 = SUBSYSTEM | 1;
    pub(crate) const DELETE_TABLE: u16 = SUBSYSTEM | 2;
    pub(crate) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
    pub(crate) const GET_CHAIN: u16 = SUBSYSTEM | 4;
    pub(crate) const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
    pub(crate) const NEW_RULE: u16 = SUBSYSTEM | 6;
    pub(crate) const GET_RULE: u16 = SUBSYSTEM | 7;
    pub(crate) const DELETE_RULE: u16 = SUBSYSTEM | 8;
    pub(crate) const NEW_SET: u16 = SUBSYSTEM | 9;
    pub(crate) const GET_SET: u16 = SUBSYSTEM | 10;
    pub(crate) const DELETE_SET: u16 = SUBSYSTEM | 11;
    pub(crate) const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
    pub(crate) const GET_ELEMENT: u16 = SUBSYSTEM | 13;
    pub(crate) const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
    pub(crate) const NEW_GENERATION: u16 = SUBSYSTEM | 15;
    pub(crate) const GET_GENERATION: u16 = SUBSYSTEM | 16;
    /// `NFTA_SET_ELEM_USERDATA`
    pub(crate) const ELEMENT_USERDATA: u16 = 6;
    /// `NFT_GOTO`, as a verdict's code.
    pub(crate) const GOTO: u32 = (-4_i32).cast_unsigned();
    /// `NFTA_LIST_ELEM`
    pub(crate) const LIST_ELEMENT: u16 = 1;
    /// `NFTA_DATA_VALUE`
    pub(crate) const DATA_VALUE: u16 = 1;
    /// `NFTA_DATA_VERDICT`
    pub(crate) const DATA_VERDICT: u16 = 2;

    /// An `nfgenmsg`: family, version 0, resource id (big endian).
    pub(crate) fn header(family: u8, resource: u16) -> [u8; 4] {
        let [high, low] = resource.to_be_bytes();
        [family, 0, high, low]
    }
}
