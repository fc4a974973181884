//! Where objects come from: the API server, or a folder of manifests. And the watch of the one file that is no manifest,
//! the configuration.
//!
//! Not where they are understood (that is [`convert`](crate::convert)) or kept (that is [`model`](crate::model)): both
//! sources only say, as [`Change`](crate::model::Change) values, what is different. Invariant: a source never takes back
//! what it said because it cannot see; only because it saw that the object is gone.

mod api;
mod census;
mod certificate;
mod connect;
mod credentials;
pub mod documents;
mod file;
mod folder;
mod inotify;
mod lean;
mod manifests;
mod pace;
mod reasons;
mod record;
pub mod roster;
mod scope;
mod servers;
mod shape;
mod yaml;

pub use self::api::{run_api, run_nodes};
pub use self::connect::{ConnectError, Limits, connect, connect_counted, connect_within};
pub use self::file::{FileError, WatchedFile};
pub use self::inotify::follow_folder;
pub use self::manifests::{Manifests, ManifestsError, follow_manifests, run_manifests};
pub use self::scope::Scope;
