//! IPVS, the load balancer in the kernel: emptying it.
//!
//! Not its services one by one. Numbers are those of `linux/ip_vs.h`.

use crate::generic;
use crate::message::{ACK, Batch};
use crate::socket::{Error, Socket};

/// `IPVS_CMD_FLUSH`, version 1.
const FLUSH: [u8; generic::HEADER] = [17, 1, 0, 0];

/// Removes every virtual server; false when the kernel has no IPVS. The socket is one of
/// [`Family::Generic`](crate::Family::Generic).
///
/// # Errors
/// When the process may not do that.
pub fn flush(socket: &mut Socket) -> Result<bool, Error> {
    let Some(family) = generic::family(socket, "IPVS")? else { return Ok(false) };
    let mut batch = Batch::new();
    batch.push(family, ACK, &FLUSH, |_| ());
    socket.request(&mut batch).map(|()| true)
}
