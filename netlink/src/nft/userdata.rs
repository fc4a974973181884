//! What nft keeps beside sets so that it can print them: comments, and the `typeof` of a map with a slot in its key.
//!
//! The kernel stores these bytes and never reads them. The layout is libnftnl's `udata`: type, length, value, nested
//! where a value is itself a list. The numbers are nft's own (`enum expr_types`, `enum proto_desc_id`), read off what
//! nft 1.0.6 writes; without them the slot map is listed in a form that nft cannot load again.

use super::{TableFamily, Type};

const KEY_BYTE_ORDER: u8 = 0;
const DATA_BYTE_ORDER: u8 = 1;
const KEY_TYPEOF: u8 = 3;
const DATA_TYPEOF: u8 = 4;
const COMMENT: u8 = 7;
/// The same number for tables and elements.
const ELEMENT_COMMENT: u8 = 0;

const EXPR_PAYLOAD: u32 = 7;
const EXPR_META: u32 = 9;
const EXPR_CONCAT: u32 = 13;
const EXPR_NUMGEN: u32 = 23;

/// The modulus that a listing shows in `typeof … numgen random mod N`; it says nothing about the number of slots.
pub const TYPEOF_MODULUS: u32 = 16;

fn item(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.push(u8::try_from(value.len()).expect("user data values are below 256 bytes"));
    out.extend_from_slice(value);
}

fn number(out: &mut Vec<u8>, kind: u8, value: u32) {
    item(out, kind, &value.to_ne_bytes());
}

/// A table's comment (`NFTNL_UDATA_TABLE_COMMENT`).
pub fn table(comment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    item(&mut out, ELEMENT_COMMENT, &zero_terminated(comment));
    out
}

/// An element's comment (`NFTNL_UDATA_SET_ELEM_COMMENT`).
pub fn element(comment: &str) -> Vec<u8> {
    table(comment)
}

/// The comment in an element's user data.
pub fn element_comment(bytes: &[u8]) -> Option<&str> {
    find(bytes, ELEMENT_COMMENT)
}

/// nft's number for how a value is to be read: as the machine has it, as the network has it, or each cell in its own way.
fn byte_order(types: &[Type]) -> u32 {
    match types {
        [Type::Mark | Type::Slot] => 1,
        [_] => 2,
        _ => 0,
    }
}

/// A set's or map's user data. `data` is empty for sets and verdict maps.
pub fn set(family: TableFamily, key: &[Type], data: &[Type], comment: &str) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, KEY_BYTE_ORDER, byte_order(key));
    if !data.is_empty() {
        number(&mut out, DATA_BYTE_ORDER, byte_order(data));
    }
    if key.contains(&Type::Slot) {
        item(&mut out, KEY_TYPEOF, &concatenation(family, key));
        item(&mut out, DATA_TYPEOF, &concatenation(family, data));
    }
    if !comment.is_empty() {
        item(&mut out, COMMENT, &zero_terminated(comment));
    }
    out
}

/// The comment in a set's user data.
pub fn comment(bytes: &[u8]) -> Option<&str> {
    find(bytes, COMMENT)
}

/// The text of the first item of this kind.
fn find(mut bytes: &[u8], wanted: u8) -> Option<&str> {
    while let [kind, len, rest @ ..] = bytes {
        let (value, after) = rest.split_at_checked(usize::from(*len))?;
        if *kind == wanted {
            return std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok();
        }
        bytes = after;
    }
    None
}

fn zero_terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn concatenation(family: TableFamily, types: &[Type]) -> Vec<u8> {
    let mut parts = Vec::new();
    for (i, kind) in types.iter().enumerate() {
        let index = u8::try_from(i).expect("a key has a handful of cells");
        item(&mut parts, index, &expression(family, *kind));
    }
    typed(EXPR_CONCAT, &parts)
}

fn typed(kind: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 0, kind);
    item(&mut out, 1, inner);
    out
}

fn expression(family: TableFamily, kind: Type) -> Vec<u8> {
    let mut inner = Vec::new();
    match kind {
        Type::Ipv4Addr | Type::Ipv6Addr => {
            // `ip daddr` (description 12, field 12) or `ip6 daddr` (13, 9).
            let (description, field) = if family == TableFamily::Ip { (12, 12) } else { (13, 9) };
            number(&mut inner, 0, description);
            number(&mut inner, 1, field);
            typed(EXPR_PAYLOAD, &inner)
        }
        Type::InetProto => {
            number(&mut inner, 0, super::expression::META_L4PROTO);
            typed(EXPR_META, &inner)
        }
        Type::InetService => {
            // `th dport`: description 11, field 2.
            number(&mut inner, 0, 11);
            number(&mut inner, 1, 2);
            typed(EXPR_PAYLOAD, &inner)
        }
        // Only maps with slots in their keys have a `typeof`, and no mark.
        Type::Mark => inner,
        Type::Slot => {
            number(&mut inner, 0, super::expression::NUMGEN_RANDOM);
            number(&mut inner, 1, TYPEOF_MODULUS);
            number(&mut inner, 2, 0);
            typed(EXPR_NUMGEN, &inner)
        }
    }
}
