//! What heddle says to the Linux kernel over netlink, synchronously and without starting any program.
//!
//! | module | what it is |
//! |---|---|
//! | [`nft`] | nf_tables: tables as data, transactions, reading back, notifications |
//! | [`conntrack`] | tracked flows: listing them, forgetting some |
//! | [`diagnosis`] | sockets that are connected: listing them, closing some |
//! | [`ipset`] | sets of ipset, by name: listing them, destroying some |
//! | [`ipvs`] | IPVS: emptying it |
//! | [`message`] | requests as bytes: a [`message::Batch`] of messages, and the reading of attributes |
//! | [`features`] | what a link's driver does, by ethtool's names |
//! | `generic` | families of generic netlink, by name |
//! | [`link`] | links: veth pairs, and what is told of any link |
//! | [`bridge`] | bridges, and whether frames between their ports pass the rules |
//! | [`address`] | addresses on links |
//! | [`neighbour`] | neighbours that are known for good |
//! | [`qdisc`] | limits of what a link sends |
//! | `protocol` | transport protocols that have ports |
//! | [`route`] | routes, and the tunnels that they lead into |
//! | [`rule`] | rules of policy routing |
//! | [`tuning`] | what may be changed about any link |
//! | [`vlan`] | VLANs of a bridge and of its ports |
//! | [`vxlan`] | the device at this end of VXLAN tunnels |
//! | [`socket`] | one socket: send a batch, collect its acks and errors with the kernel's own text, dump, listen |
//!
//! This crate holds no policy: it neither knows Services nor pods, and it retries nothing but interrupted dumps.
//! Everything here works on the network namespace in which the socket was opened, whatever the thread does later.

pub mod address;
pub mod bridge;
pub mod conntrack;
pub mod diagnosis;
pub mod features;
mod filter;
mod generic;
pub mod ipset;
pub mod ipvs;
pub mod link;
mod mac;
mod membership;
pub mod message;
pub mod neighbour;
pub mod nft;
mod protocol;
pub mod qdisc;
pub mod route;
pub mod rule;
pub mod socket;
pub mod tuning;
pub mod vlan;
pub mod vxlan;

pub use message::{Attributes, Batch, Reply};
pub use protocol::Protocol;
pub use rustix::io::Errno;
pub use socket::{Error, Family, Refusal, Socket};
