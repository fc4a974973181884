//! Features of a link, by the names that `ethtool -k` has for them: reading one and switching one.
//!
//! Sockets here are those of [`Family::Generic`](crate::Family::Generic). Invariant: a feature that nobody named stays as it
//! is. Numbers are those of `linux/ethtool_netlink.h`.

use crate::generic;
use crate::link::{LinkIndex, Which};
use crate::message::{ACK, Attributes, Batch, Writer};
use crate::socket::{Error, Socket};
use rustix::io::Errno;

/// `ETHTOOL_MSG_FEATURES_GET` and `ETHTOOL_MSG_FEATURES_SET`, version 1.
const GET: [u8; generic::HEADER] = [11, 1, 0, 0];
const SET: [u8; generic::HEADER] = [12, 1, 0, 0];
const FEATURES_HEADER: u16 = 1;
const FEATURES_HW: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const HEADER_DEV_INDEX: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;
const BITSET_BITS: u16 = 3;
const BITSET_BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// Says whether a link does a thing, such as `tx-checksum-ip-generic`; `None` when the kernel knows no feature of this name,
/// or does not speak of features over netlink (before Linux 5.7).
///
/// # Errors
/// `ENODEV` when there is no such link.
pub fn is_on(socket: &mut Socket, link: Which<'_>, name: &str) -> Result<Option<bool>, Error> {
    ask(socket, &GET, link, name, |_| ())
}

/// Switches a feature, and says whether the link does it now, as [`is_on`]: a link that does not let it be switched stays as
/// it is, and that is no error. Other features go with one that they need.
///
/// # Errors
/// As [`is_on`], and when the process may not do that.
pub fn set(socket: &mut Socket, link: Which<'_>, name: &str, on: bool) -> Result<Option<bool>, Error> {
    let wanted = |w: &mut Writer<'_>| put_bit(w, name, on);
    ask(socket, &SET, link, name, wanted)?;
    is_on(socket, link, name)
}

/// What the answer to a request says of a feature.
fn ask(
    socket: &mut Socket,
    command: &[u8; generic::HEADER],
    link: Which<'_>,
    name: &str,
    write: impl FnOnce(&mut Writer<'_>),
) -> Result<Option<bool>, Error> {
    let Some(family) = generic::family(socket, "ethtool")? else { return Ok(None) };
    let mut batch = Batch::new();
    batch.push(family, ACK, command, |w| {
        w.nest(FEATURES_HEADER, |w| match link {
            Which::Index(LinkIndex(index)) => w.put_u32(HEADER_DEV_INDEX, index),
            Which::Name(name) => w.put_str(HEADER_DEV_NAME, name),
        });
        write(w);
    });
    let mut found = None;
    match socket.transact(&mut batch, |reply| found = read(reply.attributes(generic::HEADER), name)) {
        Ok(()) => Ok(found),
        // A name of a bit, or the whole command, that this kernel does not have.
        Err(e) if e.errno() == Some(Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A bitset that names one bit, and so says nothing of the others.
fn put_bit(w: &mut Writer<'_>, name: &str, on: bool) {
    w.nest(FEATURES_WANTED, |w| {
        w.nest(BITSET_BITS, |w| {
            w.nest(BITSET_BITS_BIT, |w| {
                w.put_str(BIT_NAME, name);
                if on {
                    w.put_flag(BIT_VALUE);
                }
            });
        });
    });
}

/// The first bitset lists all features that the kernel has names for, the other those that the link has on.
fn read(features: Attributes<'_>, name: &str) -> Option<bool> {
    let has = |set: u16| {
        let bits = features.get_nest(set)?.get_nest(BITSET_BITS)?;
        Some({ bits }.any(|(_, bit)| Attributes::new(bit).get_str(BIT_NAME) == Some(name)))
    };
    has(FEATURES_HW)?.then(|| has(FEATURES_ACTIVE) == Some(true))
}
