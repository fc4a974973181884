//! The eBPF dataplane: Services at the socket.
//!
//! ```text
//! Frontends ──▶ plan ──▶ maps ──▶ apply ──▶ BPF maps, and programs on the node's cgroups
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | which frontends sockets serve, and with which endpoints |
//! | [`maps`] | rows, slots and ids, kept up frontend by frontend |
//! | [`tables`] | the door to the maps |
//! | [`blocks`] | which slots each list of endpoints lies in |
//! | [`counters`] | which counter each endpoint has |
//! | [`kernel`] | the maps in the kernel |
//! | [`memory`](mod@memory) | the other side of the door: maps in memory |
//! | `needs` | what the kernel and the process lack, in words |
//! | [`between`] | whether connections between pods need tracking |
//! | [`passing`] | bridges whose frames pass by rules |
//! | [`attach`] | which sockets are seen |
//! | [`pins`] | what outlives the process |
//! | [`probe`] | proof that sockets are served |
//! | [`fake`] | the other side of the dataplane's door: sockets in memory |
//! | [`apply`] | the dataplane, over the one for packets |
//! | [`door`](mod@door) | the door to the kernel's sockets |
//! | [`bound`] | connected sockets whose endpoint is gone |
//! | [`namespaces`] | those of pods |
//! | [`left_out`] | pods whose sockets are not served |
//! | [`live`] | maps with what is counted in them |
//! | [`report`] | what is told of it |
//! | [`tally`] | what was counted, whatever became of the counters |
//! | [`view`] | what there is to see of it between two syncs |
//! | `sys` | the system call |
//!
//! A connection of a pod or of the node to a Service is rewritten when the socket connects or sends: its packets are those of
//! a connection from pod to pod. The programs are in the crate `heddle_ebpf`.

pub mod apply;
pub mod attach;
pub mod between;
pub mod blocks;
pub mod bound;
pub mod counters;
pub mod door;
pub mod error;
pub mod fake;
pub mod kernel;
pub mod left_out;
pub mod live;
pub mod maps;
pub mod memory;
pub mod namespaces;
mod needs;
pub mod passing;
pub mod pins;
pub mod plan;
pub mod probe;
pub mod report;
mod sys;
pub mod tables;
pub mod tally;
pub mod view;

pub use apply::Ebpf;
pub use door::{Door, KernelDoor, Places};
pub use error::Unable;
pub use probe::Probe;
pub use report::{Sockets, State, Told};
pub use view::View;
