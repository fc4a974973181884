//! What may become of the first packet of a connection.
//!
//! | module | what it is |
//! |---|---|
//! | `packet` | a packet and its outcome |

mod packet;

pub use packet::{Outcome, Packet};
