//! The first packet of a connection, and what may become of it.

use crate::model::Protocol;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The first packet of a connection, as it reaches our node's IP layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its source address.
    pub source: IpAddr,
    /// The interface by which it came in; `None` when the node made it itself.
    pub in_interface: Option<Arc<str>>,
    /// Its destination address.
    pub destination: IpAddr,
    /// Its destination port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = SocketAddr::new(self.destination, self.port);
        write!(f, "{} from {}", self.protocol, self.source)?;
        match &self.in_interface {
            Some(interface) => write!(f, " in by {interface}")?,
            None => f.write_str(" made on the node")?,
        }
        write!(f, " -> {destination}")
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is sent on with another destination, or another source, than it had.
    Endpoint {
        /// Where it goes.
        address: IpAddr,
        /// The port there.
        port: u16,
        /// The receiver sees the client's address.
        source_kept: bool,
    },
    /// The client is told that nobody listens.
    Reject,
    /// It vanishes.
    Drop,
    /// It goes where it was going, as if there were no Services.
    Untouched,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Endpoint { address, port, source_kept } => {
                let source = if source_kept { "source kept" } else { "source of the node" };
                write!(f, "{} ({source})", SocketAddr::new(address, port))
            }
            Self::Reject => f.write_str("reject"),
            Self::Drop => f.write_str("drop"),
            Self::Untouched => f.write_str("untouched"),
        }
    }
}
