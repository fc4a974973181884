//! The load: connections, requests, bulk data and packets between two namespaces.
//!
//! | module | what it is |
//! |---|---|
//! | [`turns`] | both sides on one processor, and their CPU time |
//! | [`server`] | the sockets of the side that answers |
//! | [`connections`] | new connections, and how long the first packet takes |
//! | [`requests`] | requests and answers over what is connected already |
//! | [`bulk`] | many bytes, in one flow and in several |
//! | [`packets`] | datagrams without answers: each a flow of its own, or all of one |
//! | [`ceiling`] | what all this reaches where nothing is in its way |
//!
//! It knows addresses and namespaces, neither Services nor rules. Invariant: a socket belongs to the namespace that it was opened in, and
//! is closed when its part ends.

pub mod bulk;
pub mod ceiling;
pub mod connections;
pub mod packets;
pub mod requests;
pub mod server;
pub mod turns;

use std::time::Duration;

/// An attempt that takes longer has failed: no Service answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams that are on their way at once: a socket keeps some hundreds by default, and none may be lost.
const BATCH: u32 = 32;
