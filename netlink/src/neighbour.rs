//! Neighbours: which Ethernet address an IP address has on a link.
//!
//! Only entries that are set by hand and never asked for on the wire (`NUD_PERMANENT`). Numbers are those of
//! `linux/neighbour.h`.

use crate::address::{family, put_ip, read_ip};
use crate::link::{LinkIndex, Mac};
use crate::message::{ACK, Attributes, Batch, CREATE, DUMP, REPLACE, Reply};
use crate::socket::{Error, Socket};
use rustix::io::Errno;
use std::net::IpAddr;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
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

    /// Asks for the removal of what the link knows of this address, whatever its Ethernet address; it fails with `ENOENT`
    /// when that is nothing.
    pub fn delete(&self, batch: &mut Batch) -> u32 {
        let header = header(self.address, self.link, 0);
        batch.push(RTM_DELNEIGH, ACK, &header, |w| put_ip(w, NDA_DST, self.address))
    }

    /// Reads an `RTM_NEWNEIGH` message; `None` when it is something else, or an entry that is not known for good.
    pub fn read(reply: Reply<'_>) -> Option<Self> {
        let header: [u8; NDMSG] = *reply.body.first_chunk()?;
        let [_, _, _, _, a, b, c, d, state, more, ..] = header;
        if reply.kind != RTM_NEWNEIGH || u16::from_ne_bytes([state, more]) & NUD_PERMANENT == 0 {
            return None;
        }
        let attributes = reply.attributes(NDMSG);
        let address = read_ip(attributes.get(NDA_DST)?)?;
        Some(Self { link: LinkIndex(u32::from_ne_bytes([a, b, c, d])), address, mac: read_mac(attributes)? })
    }
}

fn read_mac(attributes: Attributes<'_>) -> Option<Mac> {
    attributes.get(NDA_LLADDR)?.try_into().ok().map(Mac)
}

fn header(address: IpAddr, LinkIndex(link): LinkIndex, state: u16) -> [u8; NDMSG] {
    let mut bytes = [0; NDMSG];
    bytes[0] = family(address);
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes
}

/// Lists what a link knows for good, of both families.
///
/// # Errors
/// As [`Socket::dump`].
pub fn list(socket: &mut Socket, link: LinkIndex) -> Result<Vec<Neighbour>, Error> {
    let mut batch = Batch::new();
    batch.push(RTM_GETNEIGH, DUMP, &[0; NDMSG], |w| w.put_u32(NDA_IFINDEX, link.0));
    let all =
        socket.dump(&mut batch, |found: &mut Vec<Neighbour>, reply| found.extend(Neighbour::read(reply)))?;
    // A kernel may send more than was asked for.
    Ok(all.into_iter().filter(|neighbour| neighbour.link == link).collect())
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
            found = read_mac(reply.attributes(NDMSG));
        }
    });
    match asked {
        Err(e) if e.errno() != Some(Errno::NOENT) => Err(e),
        _ => Ok(found),
    }
}
