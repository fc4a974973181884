//! Scenario files: one text file is one Kubernetes situation, and everything that must follow from it.
//!
//! ```text
//! # What the situation is, as a sentence
//! proves: kp:… cni:…
//!
//! --- topology
//! node-1
//!     client  10.244.1.10
//!     web-1   10.244.1.11   tcp:8080 udp:8080
//! node-2  192.0.2.7  tcp:80
//! --- proxy
//! --cluster-cidr 10.244.0.0/16
//! --- objects
//! apiVersion: v1
//! kind: Service
//! …
//! --- frontends
//! 10.96.0.10:80/tcp cluster-ip of default/web
//!   10.244.1.11:8080 local
//! --- nft
//! table ip heddle-proxy {
//! …
//! --- traffic
//! client tcp -> 10.96.0.10:80 = web-1, source kept
//! client tcp x300 -> 10.96.0.20:80 = web-1 | web-2 | web-3, spread 100±40
//! node-1 udp -> 10.96.0.30:53 = refused
//! outside tcp+udp x40 -> node-1:30080 [node-1]:30080 203.0.113.10:80 via node-1
//!     = web-1 | web-2, source node-1
//! ```
//!
//! `[node-1]` is the node's IPv6 address. `via` is the node to which the host outside sends what is for the targets, as a
//! load balancer or a router does. A line tries each of its transports with each of its targets. `source node-1` is the
//! address that this node gives to what it masquerades. An address on a node's line is one more of its own, on `lo`.
//!
//! Everything before the first section is prose for the reader, but for its first line and `proves:`. The expectations
//! that a program prints are rewritten under `BLESS=1` and reviewed like code; traffic is asserted and never blessed.
//! It is not a programming language: a situation that needs steps in time is a test in `integration/`.

mod attempt;
mod coverage;
mod expect;
mod expected;
mod parse;
mod sockets;
mod traffic;

pub use attempt::{Attempt, Target};
pub use coverage::{Origin, Way};
pub use expect::{Outcomes, Unexpected, same};
pub use expected::{Expected, Source};
pub use parse::{Host, ParseError, Pod, Scenario};
pub use traffic::{Error, Mismatch, Served, pass_traffic};
