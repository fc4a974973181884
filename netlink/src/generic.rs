//! Families of generic netlink: they are known by a name, and their number is asked for.
//!
//! Not what is said to them. Numbers are those of `linux/genetlink.h`.

use crate::Errno;
use crate::message::{ACK, Batch, Reply};
use crate::socket::{Error, Socket};

/// `GENL_ID_CTRL`, the family that knows the numbers of the others.
const CONTROL: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`, version 1.
const GET_FAMILY: [u8; HEADER] = [3, 1, 0, 0];
const ATTR_FAMILY_ID: u16 = 1;
const ATTR_FAMILY_NAME: u16 = 2;
/// `struct genlmsghdr`: command, version, two unused bytes.
pub(crate) const HEADER: usize = 4;

/// The number of a family; `None` when the kernel does not have it. The socket is one of
/// [`Family::Generic`](crate::Family::Generic).
pub(crate) fn family(socket: &mut Socket, name: &str) -> Result<Option<u16>, Error> {
    let mut batch = Batch::new();
    batch.push(CONTROL, ACK, &GET_FAMILY, |w| w.put_str(ATTR_FAMILY_NAME, name));
    let mut found = None;
    let visit = |reply: Reply<'_>| {
        let id = reply.attributes(HEADER).get(ATTR_FAMILY_ID);
        found = id.and_then(|id| id.try_into().ok()).map(u16::from_ne_bytes);
    };
    match socket.transact(&mut batch, visit) {
        Ok(()) => Ok(found),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    #[test]
    fn a_family_is_known_by_its_name_or_is_not_there() {
        let mut socket = Socket::open(Family::Generic).unwrap();
        assert_eq!(family(&mut socket, "nlctrl").unwrap(), Some(CONTROL));
        assert_eq!(family(&mut socket, "heddle-has-none").unwrap(), None);
    }
}
