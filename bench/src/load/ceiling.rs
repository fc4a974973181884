//! What the load reaches where nothing is in its way: both sides on the loopback of a namespace of its own.
//!
//! No subject can be faster than this. A figure close to it tells more of the load generator than of the subject.

use crate::Failure;
use crate::load::server::Server;
use heddle_tests::namespace::Namespace;
use heddle_tests::wire::Wire;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The port that is asked.
const PORT: u16 = 8080;

/// A namespace that talks to itself.
#[derive(Debug)]
pub struct Alone {
    /// The namespace.
    pub namespace: Namespace,
    /// What answers in it.
    pub server: Server,
    /// Where it does.
    pub to: SocketAddr,
}

impl Alone {
    /// Makes it.
    ///
    /// # Errors
    /// Mostly when the process is not root.
    pub fn build() -> Result<Self, Failure> {
        let namespace = Namespace::new("generator")?;
        namespace.enter(|| Wire::open()?.up("lo"))??;
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let server = Server::open(&namespace, PORT, &[here])?;
        Ok(Self { namespace, server, to: SocketAddr::new(here, PORT) })
    }
}
