//! Services at the socket, as far as both sides know them: the BPF programs and the daemon that fills their maps.
//!
//! | module | what it is |
//! |---|---|
//! | [`abi`] | every key and value of every map, with its size |
//! | [`select`](mod@select) | where a connection goes; pure, over a trait for what it reads |
//!
//! `main.rs` has the programs: thin, since nothing of them can run in a test without a kernel. This library is built for the
//! host too, and what it decides is tested there.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod select;

#[cfg(not(target_arch = "bpf"))]
mod object;

#[cfg(not(target_arch = "bpf"))]
pub use object::OBJECT;
