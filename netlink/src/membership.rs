//! A socket's place among those that hear of a kind of change, which another thread may give up for a while.

use crate::socket::Error;
use std::fmt;
use std::sync::Arc;

/// A socket's membership in a multicast group.
#[derive(Clone)]
pub(crate) struct Membership {
    socket: Arc<netlink_sys::Socket>,
    group: u32,
}

impl Membership {
    /// That of this socket, which has it.
    pub(crate) fn new(socket: Arc<netlink_sys::Socket>, group: u32) -> Self {
        Self { socket, group }
    }

    /// Takes it again.
    pub(crate) fn join(&self) -> Result<(), Error> {
        self.socket.add_membership(self.group).map_err(Error::Open)
    }

    /// Gives it up.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        self.socket.drop_membership(self.group).map_err(Error::Open)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("group", &self.group).finish_non_exhaustive()
    }
}
