//! The CNI plugin: gives a pod its address and connects it to the node's bridge.
//!
//! ```text
//! stdin + env ──▶ Request ──▶ Steps ──▶ kernel ──▶ Result on stdout
//!     spec          ipam       plan      apply
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`spec`] | what the runtime says: environment and configuration → a [`spec::Request`] |
//! | [`config`] | the keys of the configuration, checked |
//! | [`dns`] | name servers that a result reports |
//! | [`ranges`] | which addresses there are to hand out; pure |
//! | [`ipam`] | who holds which address; pure |
//! | [`store`] | the same on disk, locked and safe against a crash at any instruction |
//! | [`names`] | names and Ethernet addresses that follow from the attachment alone |
//! | [`plan`] | a request and its addresses → [`plan::Step`]s, each with its undo; pure |
//! | [`apply`] | steps → kernel, undone in reverse when one fails |
//! | [`node`] | the node's side of the kernel: bridge and uplink |
//! | `setting` | kernel settings |
//! | [`namespace`] | the pod's network namespace, entered and left |
//! | [`verbs`] | ADD and DEL: the order of the above |
//! | [`result`] | what the runtime hears on success |
//! | [`failure`] | what it hears otherwise, and the table of error codes |
//!
//! It is a program that starts, works a millisecond and ends: no threads, no async, no other program. What it knows
//! from one start to the next is in the kernel and in the lease file. Invariant: whatever happens, one JSON document
//! goes to stdout (none for a DEL that succeeds), and at every instruction at which it may be killed, a DEL of the same
//! attachment finds all that was made.

pub mod apply;
pub mod config;
pub mod dns;
pub mod failure;
pub mod ipam;
pub mod names;
pub mod namespace;
pub mod node;
pub mod plan;
pub mod ranges;
pub mod result;
mod setting;
pub mod spec;
pub mod store;
pub mod verbs;

use failure::Failure;
use spec::{Environment, Request};

/// What the program ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The one document for stdout, with its line end; empty for a DEL that succeeded.
    pub stdout: String,
    /// Whether the exit code is zero.
    pub success: bool,
}

/// Does what the runtime asks.
pub fn run(environment: &Environment, stdin: &[u8]) -> Output {
    let document = spec::decode(stdin);
    let asked = document.as_ref().ok().and_then(spec::asked_version).map(str::to_owned);
    match answer(environment, document) {
        Ok(stdout) => Output { stdout, success: true },
        Err(failure) => Output { stdout: failure.to_json(asked.as_deref()), success: false },
    }
}

fn answer(
    environment: &Environment,
    document: Result<spec::Document, spec::Error>,
) -> Result<String, Failure> {
    match Request::read(environment, document)? {
        Request::Version { asked } => Ok(result::versions(asked.as_deref())),
        Request::Add(request) => verbs::add(&request),
        Request::Del(request) => verbs::del(&request).map(|()| String::new()),
    }
}
