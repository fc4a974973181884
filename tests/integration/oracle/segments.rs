//! The first segment of a TCP connection as bytes, and what may come back or go on because of it.
//!
//! A segment is known by its sequence number: that stays when addresses and ports are translated.

use heddle_tests::oracle::Packet;
use std::net::{IpAddr, SocketAddr};

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const SYN: u8 = 0x02;
const RESET: u8 = 0x04;
const HEADER: usize = 20;

/// A packet that the node has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The segment itself, on its way.
    Segment { number: u32, source: IpAddr, destination: SocketAddr },
    /// An ICMP message: port unreachable.
    Unreachable { number: u32 },
    /// An answer of the node's own TCP, which has no listener.
    Reset { number: u32 },
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().into(),
        IpAddr::V6(a) => a.octets().into(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).unwrap()).to_be_bytes()
}

/// The segment that opens a connection for the packet, from a source port of its own.
pub(crate) fn open(packet: &Packet, number: u32) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend((10_000 + u16::try_from(number % 50_000).unwrap()).to_be_bytes());
    segment.extend(packet.port.to_be_bytes());
    segment.extend(number.to_be_bytes());
    segment.extend([0, 0, 0, 0, 5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    let ends = [octets(packet.source), octets(packet.destination)].concat();
    let length = u8::try_from(HEADER).unwrap();
    let pseudo = [&ends[..], &[0, TCP, 0, length], &segment].concat();
    segment[16..18].copy_from_slice(&checksum(&pseudo));
    let mut header = if packet.destination.is_ipv4() {
        vec![0x45, 0, 0, length + 20, 0, 0, 0, 0, 64, TCP, 0, 0]
    } else {
        vec![0x60, 0, 0, 0, 0, length, TCP, 64]
    };
    header.extend(ends);
    if packet.destination.is_ipv4() {
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
    }
    [header, segment].concat()
}

/// Protocol, source, destination and content of an IP packet without options.
fn parse(bytes: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    match bytes.first()? >> 4 {
        4 => {
            let (header, content) = bytes.split_first_chunk::<20>()?;
            let address = |at: usize| <[u8; 4]>::try_from(&header[at..at + 4]).map(IpAddr::from);
            Some((header[9], address(12).ok()?, address(16).ok()?, content))
        }
        _ => {
            let (header, content) = bytes.split_first_chunk::<40>()?;
            let address = |at: usize| <[u8; 16]>::try_from(&header[at..at + 16]).map(IpAddr::from);
            Some((header[6], address(8).ok()?, address(24).ok()?, content))
        }
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// What a packet of the node says; `None` for what has nothing to do with our segments.
pub(crate) fn read(bytes: &[u8]) -> Option<Sent> {
    let (protocol, source, destination, content) = parse(bytes)?;
    match (protocol, content.first()?, content.get(1)?) {
        (ICMP, 3, 3) | (ICMP6, 1, 4) => {
            let (_, _, _, segment) = parse(content.get(8..)?)?;
            Some(Sent::Unreachable { number: number_at(segment, 4)? })
        }
        (TCP, ..) if content.get(13)? & RESET != 0 => {
            Some(Sent::Reset { number: number_at(content, 8)?.wrapping_sub(1) })
        }
        (TCP, ..) => {
            let port = u16::from_be_bytes([*content.get(2)?, *content.get(3)?]);
            let destination = SocketAddr::new(destination, port);
            Some(Sent::Segment { number: number_at(content, 4)?, source, destination })
        }
        _ => None,
    }
}
