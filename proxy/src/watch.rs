//! Where objects come from: the API server, or a folder of manifests.
//!
//! Not where they are understood (that is [`convert`](crate::convert)) or kept (that is [`model`](crate::model)): both
//! sources only say, as [`Change`](crate::model::Change) values, what is different. Invariant: a source never takes back
//! what it said because it cannot see; only because it saw that the object is gone.

pub mod documents;
mod folder;
mod manifests;
pub mod roster;
mod yaml;

pub use self::manifests::{Manifests, ManifestsError, run_manifests};
