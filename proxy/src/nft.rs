//! The nft dataplane: frontends as elements of a few named maps.
//!
//! ```text
//! Frontends ──▶ plan ──▶ diff ──▶ apply ──▶ nf_tables
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`ruleset`] | our table: its names, its sets, its keys |
//! | [`chains`] | its chains, given what it holds |
//! | [`shape`] | which chain a frontend goes through |
//! | [`affinity`] | which clients keep their endpoint |
//! | [`slots`] | which endpoint stands in which slot |
//! | [`settings`] | what an operator decides |
//! | [`plan`] | frontends into the wanted table, with the edits since the last time |
//! | [`diff`] | edits, or two whole tables, into transactions |
//! | [`family`] | one family's table: what is in doubt, and what the kernel refuses |
//! | [`retired`] | what the kernel still has for packets that are on their way |
//! | [`blame`] | from a refused operation to the frontends that want it |
//! | [`probe`] | which families the kernel can route, tried before anything is written |
//! | [`apply`] | the dataplane, and the door to the kernel |
//! | [`fake`] | the other side of the door: a kernel in memory |
//! | [`attended`] | a door that tells of each answer of the kernel |
//! | [`evaluate`](mod@evaluate) | what a table does to a packet |
//!
//! One table a family, with chains for the shapes of frontends and not for frontends: a first packet costs two hash
//! lookups, a changed endpoint one removed and one added element.

pub mod affinity;
pub mod apply;
pub mod attended;
pub mod blame;
pub mod chains;
pub mod diff;
pub mod evaluate;
pub mod fake;
pub mod family;
pub mod plan;
pub mod probe;
pub mod retired;
pub mod ruleset;
pub mod settings;
pub mod shape;
pub mod slots;

pub use apply::{Kernel, Netlink, Nft};
pub use attended::Attended;
pub use fake::FakeKernel;
pub use probe::{Abilities, Unable};
pub use settings::Settings;
