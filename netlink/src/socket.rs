//! One netlink socket: send a batch, collect its answers, dump, listen.
//!
//! Requests are synchronous: the kernel works through a batch inside `send`, so all its answers are queued when
//! `send` returns. It is not shared between threads. Invariant: when a call returns, no answer to it is left unread,
//! or its sequence numbers are never used again.

use crate::filter;
use crate::membership::Membership;
use crate::message::{Attributes, Batch, Reply};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use socket2::SockRef;
use std::fmt;
use std::sync::Arc;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the objects changed while the kernel listed them.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`: the ack does not repeat the request.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: extended-ack attributes follow.
const ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// A dump's message is at most 32 KiB (`NLMSG_GOODSIZE` caps, kernel 4.x on); notifications of one commit are batched
/// up to the same size, and a single larger one would be truncated, which is reported as an error.
const RECEIVE: usize = 64 * 1024;
const DUMP_TRIES: u32 = 16;

/// Which part of the kernel the socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes, neighbours (`NETLINK_ROUTE`).
    Route,
    /// nf_tables, conntrack and ipset (`NETLINK_NETFILTER`).
    Netfilter,
    /// Everything that is known by a name and not by a number (`NETLINK_GENERIC`).
    Generic,
    /// Sockets (`NETLINK_SOCK_DIAG`).
    Diagnosis,
}

/// One request that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Index of the message in its batch.
    pub index: u32,
    /// The kernel's error number.
    pub errno: Errno,
    /// The kernel's extended error text, when it gave one.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = std::io::Error::from(self.errno);
        match &self.text {
            Some(text) => write!(f, "request {}: {text} ({reason})", self.index),
            None => write!(f, "request {}: {reason}", self.index),
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be opened or set up.
    #[error("open netlink socket")]
    Open(#[source] std::io::Error),
    /// The kernel did not take the bytes.
    #[error("send {bytes} bytes of netlink requests")]
    Send {
        /// Size of the batch.
        bytes: usize,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No answer could be read.
    #[error("receive from netlink")]
    Receive(#[source] std::io::Error),
    /// The kernel refused at least one request of the batch.
    #[error("kernel refused {}", list(refusals))]
    Refused {
        /// All refusals, in the order of the kernel's answers.
        refusals: Vec<Refusal>,
    },
    /// A dump kept changing under us.
    #[error("dump interrupted {tries} times by other changes")]
    Interrupted {
        /// How often it was started.
        tries: u32,
    },
    /// The kernel said something that this crate cannot read.
    #[error("malformed netlink answer: {what}")]
    Malformed {
        /// What was expected.
        what: &'static str,
    },
}

fn list(refusals: &[Refusal]) -> String {
    let mut text = refusals.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if refusals.len() > 3 {
        text.push_str(&format!("; and {} more", refusals.len() - 3));
    }
    text
}

impl Error {
    /// The error number when the kernel refused, whichever request it was.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { refusals } => refusals.first().map(|r| r.errno),
            _ => None,
        }
    }
}

/// An open netlink socket, bound to the network namespace in which it was opened.
pub struct Socket {
    inner: Arc<netlink_sys::Socket>,
    port: u32,
    next: u32,
    send_buffer: usize,
    receive: Vec<u8>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel has no such netlink family or the process may not open it.
    pub fn open(family: Family) -> Result<Self, Error> {
        let protocol = match family {
            Family::Route => netlink_sys::protocols::NETLINK_ROUTE,
            Family::Netfilter => netlink_sys::protocols::NETLINK_NETFILTER,
            Family::Generic => netlink_sys::protocols::NETLINK_GENERIC,
            Family::Diagnosis => netlink_sys::protocols::NETLINK_SOCK_DIAG,
        };
        let mut inner = netlink_sys::Socket::new(protocol).map_err(Error::Open)?;
        let address = inner.bind_auto().map_err(Error::Open)?;
        inner.set_ext_ack(true).map_err(Error::Open)?;
        inner.set_cap_ack(true).map_err(Error::Open)?;
        // Kernels before 4.20 have no strict checking; they only ignore dump filters.
        let _ = inner.set_netlink_get_strict_chk(true);
        let (inner, port) = (Arc::new(inner), address.port_number());
        Ok(Self { inner, port, next: 1, send_buffer: 0, receive: vec![0; RECEIVE] })
    }

    /// The socket's netlink port: notifications of our own changes carry it.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends all messages in one system call and waits for the kernel's verdict on each.
    ///
    /// rtnetlink goes on after a failed message; nf_tables rolls the whole transaction back.
    ///
    /// # Errors
    /// [`Error::Refused`] names every message that failed.
    pub fn request(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.transact(batch, |_| ())
    }

    /// As [`request`](Self::request), and hands every message that answers it (with `NLM_F_ECHO`, or a plain get) to
    /// `visit`.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn transact(&mut self, batch: &mut Batch, mut visit: impl FnMut(Reply<'_>)) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let base = self.send(batch)?;
        let (count, last) = (batch.len(), batch.final_index());
        let mut refusals = Vec::new();
        let mut done = false;
        while !done {
            // A batch refused as a whole (no permission, out of memory) is answered once, for its first message,
            // and the ack of the last one never comes: then an empty queue is the end.
            let flags = if refusals.is_empty() { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            let Some(len) = self.receive(flags)? else { break };
            let mut rest = &self.receive[..len];
            while let Some((reply, after)) = Reply::split(rest) {
                rest = after;
                let index = reply.seq.wrapping_sub(base);
                if index as usize >= count {
                    continue;
                }
                if reply.kind == NLMSG_ERROR {
                    refusals.extend(refusal(reply, index)?);
                    done |= index == last;
                } else if reply.kind != NLMSG_DONE {
                    visit(reply);
                }
            }
        }
        if refusals.is_empty() { Ok(()) } else { Err(Error::Refused { refusals }) }
    }

    /// Lists objects: the batch holds one message with [`DUMP`](crate::message::DUMP) set. `visit` sees every object; when the kernel says
    /// that they changed meanwhile, the state is made anew and all objects come again.
    ///
    /// # Errors
    /// As [`request`](Self::request), and [`Error::Interrupted`] after 16 restarts.
    pub fn dump<S: Default>(
        &mut self,
        batch: &mut Batch,
        mut visit: impl FnMut(&mut S, Reply<'_>),
    ) -> Result<S, Error> {
        for _ in 0..DUMP_TRIES {
            let mut state = S::default();
            if self.dump_once(batch, |reply| visit(&mut state, reply))? {
                return Ok(state);
            }
        }
        Err(Error::Interrupted { tries: DUMP_TRIES })
    }

    /// One pass; false when the kernel flagged it as inconsistent.
    fn dump_once(&mut self, batch: &mut Batch, mut visit: impl FnMut(Reply<'_>)) -> Result<bool, Error> {
        let base = self.send(batch)?;
        let mut consistent = true;
        loop {
            let len = self.receive(RecvFlags::empty())?.ok_or(Error::Malformed { what: "end of a dump" })?;
            let mut rest = &self.receive[..len];
            while let Some((reply, after)) = Reply::split(rest) {
                rest = after;
                if reply.seq != base {
                    continue;
                }
                consistent &= reply.flags & DUMP_INTERRUPTED == 0;
                match reply.kind {
                    NLMSG_DONE => return Ok(consistent),
                    NLMSG_ERROR => match refusal(reply, 0)? {
                        // nf_tables answers a dump that another commit overtook with EINTR.
                        Some(r) if r.errno == Errno::INTR => return Ok(false),
                        Some(r) => return Err(Error::Refused { refusals: vec![r] }),
                        None => return Ok(consistent),
                    },
                    _ => visit(reply),
                }
            }
        }
    }

    /// Joins a multicast group, so that [`listen`](Self::listen) hears its notifications.
    ///
    /// # Errors
    /// When the group does not exist or the process may not join it.
    pub fn subscribe(&mut self, group: u32) -> Result<(), Error> {
        // As large as the kernel lets us: a full queue loses notifications and costs one read-back.
        let _ = sockopt::set_socket_recv_buffer_size_force(&self.inner, 4 << 20);
        self.inner.add_membership(group).map_err(Error::Open)
    }

    /// Hears nothing from now on of what is changed through the socket with this port. A filter at this socket drops it (`netlink(7)`,
    /// `SO_ATTACH_FILTER`), so that it wakes nobody and takes no room in the queue.
    ///
    /// # Errors
    /// When the kernel takes no filter.
    pub fn ignore(&self, port: u32) -> Result<(), Error> {
        SockRef::from(&*self.inner).attach_filter(&filter::not_from(port)).map_err(Error::Open)
    }

    /// The same membership, to be given up and taken again from another thread.
    pub(crate) fn membership(&self, group: u32) -> Membership {
        Membership::new(Arc::clone(&self.inner), group)
    }

    /// Waits for notifications and hands them to `visit`. Returns false when the queue had overflowed, so that
    /// notifications are lost.
    ///
    /// # Errors
    /// When the socket cannot be read.
    pub fn listen(&mut self, mut visit: impl FnMut(Reply<'_>)) -> Result<bool, Error> {
        let len = match self.receive(RecvFlags::empty()) {
            Ok(len) => len.unwrap_or(0),
            Err(Error::Receive(e)) if e.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        let mut rest = &self.receive[..len];
        while let Some((reply, after)) = Reply::split(rest) {
            rest = after;
            visit(reply);
        }
        Ok(true)
    }

    /// Sends the batch under fresh sequence numbers and returns the first of them.
    fn send(&mut self, batch: &mut Batch) -> Result<u32, Error> {
        let count = u32::try_from(batch.len()).expect("a batch has fewer than 2^32 messages");
        let base = self.next;
        self.next = self.next.wrapping_add(count);
        self.make_room(batch.byte_len())?;
        let bytes = batch.seal(base);
        loop {
            match send(&self.inner, bytes, SendFlags::empty()) {
                Ok(_) => return Ok(base),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::Send { bytes: bytes.len(), source: e.into() }),
            }
        }
    }

    /// netlink refuses a send larger than the send buffer with EMSGSIZE, and a transaction cannot be cut.
    fn make_room(&mut self, bytes: usize) -> Result<(), Error> {
        const UNTOUCHED: usize = 64 * 1024;
        let needed = bytes + 4096;
        if needed <= self.send_buffer.max(UNTOUCHED) {
            return Ok(());
        }
        sockopt::set_socket_send_buffer_size_force(&self.inner, needed)
            .map_err(|e| Error::Send { bytes, source: e.into() })?;
        self.send_buffer = needed;
        Ok(())
    }

    /// Reads one datagram; `None` when `DONTWAIT` was given and nothing is queued.
    fn receive(&mut self, flags: RecvFlags) -> Result<Option<usize>, Error> {
        loop {
            match recv(&self.inner, &mut self.receive[..], flags | RecvFlags::TRUNC) {
                Ok((_, full)) if full > self.receive.len() => {
                    return Err(Error::Malformed { what: "an answer of at most 64 KiB" });
                }
                Ok((_, full)) => return Ok(Some(full)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(Error::Receive(e.into())),
            }
        }
    }
}

/// Reads an `nlmsgerr`: `None` when it is an ack.
fn refusal(reply: Reply<'_>, index: u32) -> Result<Option<Refusal>, Error> {
    let code = reply.body.get(..4).ok_or(Error::Malformed { what: "an nlmsgerr" })?;
    let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
    if code == 0 {
        return Ok(None);
    }
    let mut text = None;
    if reply.flags & ACK_TLVS != 0 {
        let repeated =
            reply.body.get(4..8).map_or(16, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as usize);
        let header = if reply.flags & CAPPED != 0 { 16 } else { repeated };
        let attributes = reply.body.get(4 + header..).map(Attributes::new);
        text = attributes.and_then(|a| a.get_str(NLMSGERR_ATTR_MSG)).map(str::to_owned);
    }
    Ok(Some(Refusal { index, errno: error_number(code), text }))
}

/// The error number of an answer. ipset has numbers of its own above those of the system (4096 on), which no system call
/// returns; they come out as `EPROTO`.
fn error_number(code: i32) -> Errno {
    match code.checked_neg() {
        Some(number @ 1..=4095) => Errno::from_raw_os_error(number),
        _ => Errno::PROTO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_number_that_no_system_call_has_is_no_panic() {
        assert_eq!(error_number(-2), Errno::NOENT);
        for code in [-4103, 7, i32::MIN] {
            assert_eq!(error_number(code), Errno::PROTO);
        }
    }
}
