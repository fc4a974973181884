//! Events (events.k8s.io/v1): what is wrong with an object, said where its owner looks.
//!
//! Not on the way of a change: a task of its own talks to the API server, which may be away, slow or refuse. Invariant: a
//! problem is one Event in the cluster, however many nodes have it and however often it comes and goes.
//! heddle-node says what is wrong with its Node by the same.

mod pace;
mod post;
mod write;

pub use post::{post, post_failure};
pub use write::Reporter;
