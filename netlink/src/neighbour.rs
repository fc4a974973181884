//! Neighbours: which Ethernet address an IP address has on a link.
//!
//! Only entries that are set by hand and never asked for on the wire (`NUD_PERMANENT`). Numbers are those of
//! `linux/neighbour.h`.

use crate::address::{family, put_ip};
use crate::link::{LinkIndex, Mac};
use crate::message::{ACK, Batch, CREATE, REPLACE};
use crate::socket::{Error, Socket};
use rustix::io::Errno;
use std::net::IpAddr;

const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NDMSG: usize = 12;

/// A neighbour that is known for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link that leads to it.
    pub link: LinkIndex,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

impl Neighbour {
    /// Asks for the entry, in the place of what the link knew of this address.
    pub fn replace(&self, batch: &mut Batch) -> u32 {
        let header = header(self.address, self.link, NUD_PERMANENT);
        batch.push(RTM_NEWNEIGH, CREATE | REPLACE | ACK, &header, |w| {
            put_ip(w, NDA_DST, self.address);
            w.put(NDA_LLADDR, &self.mac.0);
        })
    }
}

fn header(address: IpAddr, LinkIndex(link): LinkIndex, state: u16) -> [u8; NDMSG] {
    let mut bytes = [0; NDMSG];
    bytes[0] = family(address);
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes
}

/// Asks which Ethernet address a link knows for an address; `None` when it knows none.
///
/// # Errors
/// When the kernel refuses for another reason than that there is no entry (kernels before 5.0 do).
pub fn fetch(socket: &mut Socket, link: LinkIndex, address: IpAddr) -> Result<Option<Mac>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETNEIGH, ACK, &header(address, link, 0), |w| put_ip(w, NDA_DST, address));
    let mut found = None;
    let asked = socket.transact(&mut batch, |reply| {
        if reply.kind == RTM_NEWNEIGH {
            found = reply.attributes(NDMSG).get(NDA_LLADDR).and_then(|mac| mac.try_into().ok()).map(Mac);
        }
    });
    match asked {
        Err(e) if e.errno() != Some(Errno::NOENT) => Err(e),
        _ => Ok(found),
    }
}
