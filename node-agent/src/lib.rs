//! heddle-node: pods of one node reach those of the others, and what leaves the cluster has the node's address.
//!
//! ```text
//! Nodes ──▶ Cluster ──▶ plan ──▶ diff ──▶ kernel
//! watch     cluster     plan     diff     apply
//!                        ▲                  │
//!                        └───── Seen ◀──────┘
//! ```
//!
//! Everything between the first and the last arrow is a pure function over values. What the kernel has is read before
//! each plan, so that a start, a change, an outside edit and a failure are one path.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | the command line, validated |
//! | [`run`] | the threads, connected; the clean-up |
//! | [`cluster`] | what the cluster says of its nodes |
//! | [`seen`] | what the kernel has |
//! | [`plan`](mod@plan) | what it is to have: routes and tables, and what cannot be |
//! | [`claims`] | whose pods have which addresses |
//! | [`problem`] | what is wrong, one sentence each |
//! | [`overlay`] | the device that carries packets to nodes that no link leads to |
//! | [`ruleset`] | the table that masquerades |
//! | [`diff`](mod@diff) | the steps from what the kernel has to what it is to have |
//! | [`kernel`] | the door: look, forward, apply |
//! | [`forwarding`] | the kernel settings without which a node is no router |
//! | [`listen`] | hears what others change |
//! | [`view`] | what the agent believes after a turn, for everybody else |
//! | [`board`] | where it shows it, and where others wait for news |
//! | [`supply`] | the plugin and its configuration, kept where the container runtime finds them |
//! | [`look`] | what the running agent answers to `heddle-node status` |
//! | [`web`] | what is answered over HTTP |
//! | [`metrics`] | what is counted |
//! | [`health`] | whether the agent works, for probes |
//! | [`pulse`] | whether its thread goes on |
//! | [`doctor`] | whether a node is in order, step by step |
//! | [`events`] | what is wrong, as Events of our own Node |
//! | [`condition`] | the condition `NetworkUnavailable` of our own Node |
//! | [`agent`] | the loop: gather, look, plan, apply, retry |

pub mod agent;
pub mod board;
pub mod claims;
pub mod cluster;
pub mod condition;
pub mod config;
pub mod diff;
pub mod doctor;
pub mod events;
pub mod forwarding;
pub mod health;
pub mod kernel;
pub mod listen;
pub mod look;
pub mod metrics;
pub mod overlay;
pub mod plan;
pub mod problem;
pub mod pulse;
pub mod ruleset;
pub mod run;
pub mod seen;
pub mod supply;
pub mod view;
pub mod web;
