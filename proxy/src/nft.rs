//! The nft dataplane: frontends as elements of a few named maps.
//!
//! ```text
//! Frontends ──▶ plan ──▶ diff ──▶ apply ──▶ nf_tables
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`ruleset`] | our table: its names, its chains and sets, its keys |
//! | [`plan`] | frontends into the wanted table, with the edits since the last time |
//! | [`diff`] | edits, or two whole tables, into a transaction |
//! | [`apply`] | the dataplane: what was committed, what is in doubt; the door to the kernel and its fake |
//!
//! One table a family, with a constant number of chains for any number of Services: a first packet costs two hash
//! lookups, a changed endpoint one removed and one added element.

pub mod apply;
pub mod diff;
pub mod plan;
pub mod ruleset;

pub use apply::{FakeKernel, Kernel, Netlink, Nft};
