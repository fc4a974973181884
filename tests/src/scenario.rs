//! Scenario files: one text file is one Kubernetes situation, and everything that must follow from it.
//!
//! ```text
//! # What the situation is, as a sentence
//! proves: kp:C1 kp:C17
//!
//! --- topology
//! node-1
//!     client  10.244.1.10
//!     web-1   10.244.1.11   tcp:8080 udp:8080
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
//! ```
//!
//! Everything before the first section is prose for the reader, but for its first line and `proves:`. The expectations
//! that a program prints are rewritten under `BLESS=1` and reviewed like code; traffic is asserted and never blessed.
//! It is not a programming language: a situation that needs steps in time is a test in `integration/`.

mod attempt;
mod expect;
mod parse;
mod traffic;

pub use attempt::{Attempt, Expected, Source};
pub use expect::{Outcomes, Unexpected, same};
pub use parse::{Host, ParseError, Pod, Scenario};
pub use traffic::{Error, Mismatch, pass_traffic};
