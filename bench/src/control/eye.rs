//! When the tables of a node change: seen from beside the proxy.

use crate::Failure;
use heddle_netlink::nft::{self, Listener, Op, TableFamily, Transaction};
use heddle_netlink::{Family, Socket};
use heddle_tests::namespace::Namespace;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The proxy's table.
const TABLE: &str = "heddle-proxy";

/// An eye on one node.
#[derive(Debug)]
pub struct Eye {
    socket: Socket,
    notices: Receiver<Instant>,
}

impl Eye {
    /// Begins to look at a node's nf_tables.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(node: &Namespace) -> Result<Self, Failure> {
        let opened =
            node.enter(|| Listener::open().and_then(|l| Ok((l, Socket::open(Family::Netfilter)?))))?;
        let (mut listener, socket) = opened?;
        let (tell, notices) = channel();
        // It ends with the next notification after the eye is closed; the tables' removal is one.
        thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || while listener.hear().is_ok() && tell.send(Instant::now()).is_ok() {})?;
        Ok(Self { socket, notices })
    }

    /// Forgets what changed until now.
    pub fn blink(&self) {
        self.notices.try_iter().for_each(drop);
    }

    /// Waits until something changes and says when that was.
    ///
    /// # Errors
    /// When nothing does within `limit`.
    pub fn next_change(&self, limit: Duration) -> Result<Instant, Failure> {
        Ok(self
            .notices
            .recv_timeout(limit)
            .map_err(|_| format!("the kernel's tables did not change in {limit:?}"))?)
    }

    /// Removes the IPv4 table, as somebody might who does not know what it is.
    ///
    /// # Errors
    /// When there is none.
    pub fn wipe(&mut self) -> Result<(), Failure> {
        let mut transaction = Transaction::new(TableFamily::Ip, TABLE.into(), "");
        transaction.ops.push(Op::DeleteTable);
        Ok(nft::commit(&mut self.socket, &transaction)?)
    }
}
