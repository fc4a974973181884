//! Sets of ipset: which there are, and their removal.
//!
//! Not what is in them. Numbers are those of `linux/netfilter/ipset/ip_set.h`; protocol 6 is what every kernel since 2.6.39
//! understands.

use crate::message::{ACK, Batch, DUMP};
use crate::socket::{Error, Socket};
use std::collections::BTreeSet;

const SUBSYSTEM: u16 = 6 << 8;
const DESTROY: u16 = SUBSYSTEM | 3;
const LIST: u16 = SUBSYSTEM | 7;
const PROTOCOL: u8 = 6;
const ATTR_PROTOCOL: u16 = 1;
const ATTR_SETNAME: u16 = 2;
const ATTR_FLAGS: u16 = 6;
/// `IPSET_FLAG_LIST_SETNAME`: names, without what is in the sets.
const ONLY_NAMES: u32 = 1 << 1;
/// An `nfgenmsg` of IPv4; for these commands the family means nothing.
const HEADER: [u8; 4] = [2, 0, 0, 0];

/// The names of all sets.
///
/// # Errors
/// When the kernel has no ipset (`EINVAL`), or the process may not use it.
pub fn names(socket: &mut Socket) -> Result<BTreeSet<String>, Error> {
    let mut batch = Batch::new();
    batch.push(LIST, DUMP, &HEADER, |w| {
        w.put_u8(ATTR_PROTOCOL, PROTOCOL);
        w.put_be32(ATTR_FLAGS, ONLY_NAMES);
    });
    socket.dump(&mut batch, |names: &mut BTreeSet<String>, reply| {
        names.extend(reply.attributes(HEADER.len()).get_str(ATTR_SETNAME).map(str::to_owned));
    })
}

/// Destroys a set.
///
/// # Errors
/// When it is not there (`ENOENT`), or a rule or another set refers to it (`EPROTO`).
pub fn destroy(socket: &mut Socket, name: &str) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.push(DESTROY, ACK, &HEADER, |w| {
        w.put_u8(ATTR_PROTOCOL, PROTOCOL);
        w.put_str(ATTR_SETNAME, name);
    });
    socket.request(&mut batch)
}
