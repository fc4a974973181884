//! heddle-proxy: Services and `EndpointSlice`s into the kernel.
//!
//! ```text
//! Kubernetes objects ──▶ Model ──▶ Frontends ──▶ plan ──▶ delta ──▶ kernel
//!       watch            model      resolve        nft     diff      apply
//! ```
//!
//! Everything between the first and the last arrow is a pure function over values.

pub mod convert;
pub mod model;
pub mod watch;
