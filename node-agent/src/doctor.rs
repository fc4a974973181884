//! `heddle-node doctor`: checks a node step by step and says what to do.
//!
//! ```text
//! node ──▶ Facts ──▶ Checks ──▶ text or JSON
//!    look      judge      check
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`command`] | the flags, the answer, the exit code |
//! | [`look`] | reads everything |
//! | [`sources`] | hears of Nodes, and asks the agent |
//! | [`running`] | what the agent says |
//! | [`probe`] | sends packets of full size |
//! | [`facts`] | what was read |
//! | [`abilities`] | rights, kernel |
//! | [`nodes`] | the agent, the Nodes |
//! | [`settings`] | kernel settings |
//! | [`routes`] | routes, addresses that mean two things |
//! | [`cni`] | the folder of a runtime's configurations |
//! | [`programs`] | the folder of its plugins |
//! | [`leases`] | what pods hold |
//! | [`others`] | other proxies and networks |
//! | [`mtu`] | which packets are sent, and what the answers mean |
//! | [`check`] | what a step comes to |
//!
//! It is not the agent: nothing is changed, and nothing of an agent is needed. Everything but the three doors is pure.
//! Invariant: every step is in every answer, whatever could be read.

pub mod abilities;
pub mod check;
pub mod cni;
pub mod command;
pub mod facts;
pub mod leases;
pub mod look;
pub mod mtu;
pub mod nodes;
pub mod others;
pub mod probe;
pub mod programs;
pub mod routes;
pub mod running;
pub mod settings;
pub mod sources;

use check::{Check, Report};
use facts::Facts;

/// Judges a node.
pub fn examine(facts: &Facts) -> Report {
    Report(judge(facts))
}

fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = abilities::judge(facts);
    checks.extend(nodes::judge(facts));
    checks.extend(settings::judge(facts));
    checks.extend(routes::judge(facts));
    checks.extend(cni::judge(&facts.cni));
    checks.extend(leases::judge(facts));
    checks.extend(others::judge(facts));
    checks.extend(mtu::judge(facts));
    checks
}
