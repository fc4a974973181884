//! heddle-proxy: Services and `EndpointSlice`s into the kernel.
//!
//! ```text
//! Kubernetes objects ──▶ Model ──▶ Frontends ──▶ plan ──▶ delta ──▶ kernel
//!       watch            model      resolve        nft     diff      apply
//! ```
//!
//! Everything between the first and the last arrow is a pure function over values.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | flags and configuration file, validated |
//! | [`program`] | the program from its start to its exit code |
//! | [`run`] | the threads, connected |
//! | [`watch`] | where objects come from: the API server, or a folder of manifests |
//! | [`convert`] | Kubernetes' objects into the model's |
//! | [`model`] | what the cluster says, nothing derived |
//! | [`frontends`] | what it means: which address and port is served by which endpoints |
//! | [`delta`] | the difference between two ordered maps |
//! | [`agent`] | the loop: gather, resolve, sync, retry |
//! | [`dataplane`] | the door to whatever routes packets |
//! | [`nft`] | the dataplane that speaks nf_tables |
//! | [`ebpf`](mod@ebpf) | the dataplane at the socket, over that for packets |
//! | [`doubts`] | when to look whether others edited our tables |
//! | [`backoff`] | how long to wait before a next try |
//! | [`memory`] | gives back what a start took for a moment |
//! | [`conntrack`] | forgets UDP flows whose endpoint is gone |
//! | [`tuning`] | the kernel's connection tracking, and our place when memory runs out |
//! | [`cleanup`] | removes what a proxy left in the kernel: ours, or kube-proxy's |
//! | [`health`] | whether the proxy works, for probes and load balancers |
//! | [`http`] | a small HTTP server: a listener, and a function from request to response |
//! | [`problems`] | what is wrong with the cluster's objects, as one account |
//! | [`events`] | problems as Events of the cluster |
//! | [`requests`] | single requests to the API server |
//! | [`metrics`] | what is counted, and the port where it is read |
//! | [`status`] | what the parts tell of themselves, kept in one place |
//! | [`history`] | what the agent did and heard |
//! | [`look`] | looking inside: status, trace, dump |
//! | [`door`] | the socket on which a process is asked: one side and the other |
//! | [`packet`] | a packet, and what may become of it |
//! | [`process`] | threads with names, and the signals that stop a daemon |
//! | [`causes`] | an error and what caused it, in one line |
//! | [`logging`] | what is logged, and how |

pub mod agent;
pub mod backoff;
pub mod causes;
pub mod cleanup;
pub mod config;
pub mod conntrack;
pub mod convert;
pub mod dataplane;
pub mod delta;
pub mod door;
pub mod doubts;
pub mod ebpf;
pub mod events;
pub mod frontends;
pub mod health;
pub mod history;
pub mod http;
pub mod logging;
pub mod look;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod nft;
pub mod packet;
pub mod problems;
pub mod process;
pub mod program;
pub mod requests;
pub mod run;
pub mod status;
pub mod tuning;
pub mod watch;
