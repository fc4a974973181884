//! Servers and clients inside namespaces: which endpoint answered, and which source address it saw.
//!
//! It is not a load generator. A server answers every connection or datagram with one line, its own name and the
//! address that it saw; a client makes one attempt and says how it ended. Sockets are opened inside a namespace and
//! belong to it for ever, so the threads that use them need not.

mod client;
mod server;
mod steady;

pub use client::{Outcome, PATIENT, attempt, attempt_here, spread, tcp, udp};
pub use server::{Error, Server};
pub use steady::{Failure, Report, Steady, repeated_syns};

use std::fmt;

/// A transport that the lab has servers and clients for. There is none for SCTP: most kernels load its module on
/// demand, which a test must not do to the machine (row C15), so SCTP is checked in the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// A connection of its own for each attempt.
    Tcp,
    /// One datagram there and one back, from a fresh socket.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
