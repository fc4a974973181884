//! Connected sockets whose endpoint is gone: they are closed for whoever has them.
//!
//! The kernel asks no program where a connected socket's packets go; its endpoint is chosen for good. What each was told is in a map,
//! so one pass over it finds all of them, in whatever network namespace they are, and only namespaces with stale
//! ones are entered. It is the flow table of a [`Forgetter`](crate::conntrack::Forgetter): which flow is stale is decided there, the same for
//! flows that packets made. Invariant: a socket that reached an address without a Service is not touched.

use super::kernel::{TCP_TOLD, UDP_TOLD};
use super::namespaces::Namespaces;
use super::pins::Pins;
use super::{plan, sys};
use crate::conntrack::FlowTable;
use crate::model::Protocol;
use heddle_ebpf::abi;
use heddle_netlink::conntrack::{Filter, Flow, Tuple};
use heddle_netlink::diagnosis::{self, Open};
use heddle_netlink::{Error, Family, Socket, address};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

/// Words of what a socket was told.
const TOLD_WORDS: usize = size_of::<abi::Told>() / 8;

/// Sockets of clients of this node, as flows: what was asked for is where they go, and what was told is who answers.
#[derive(Debug)]
pub struct Bound {
    protocol: Protocol,
    pins: Pins,
    namespaces: Namespaces,
    addresses: Socket,
    /// What the last listing found; flows have their places in it as numbers.
    listed: Vec<Connected>,
}

/// A connected socket, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connected {
    /// Its cookie.
    socket: u64,
    told: abi::Told,
}

impl Bound {
    /// Those of a protocol that the programs with these names know.
    ///
    /// # Errors
    /// When the node's addresses cannot be asked for.
    pub fn open(protocol: Protocol, pins: Pins, namespaces: Namespaces) -> Result<Self, Error> {
        Ok(Self { protocol, pins, namespaces, addresses: Socket::open(Family::Route)?, listed: Vec::new() })
    }

    /// What every connected socket was told; nothing where no programs run.
    fn read(&self) -> io::Result<Vec<Connected>> {
        let name = match self.protocol {
            Protocol::Tcp => TCP_TOLD,
            Protocol::Udp => UDP_TOLD,
            Protocol::Sctp => return Ok(Vec::new()),
        };
        let map = match sys::get(&self.pins.session(name)) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            opened => opened?,
        };
        Ok(sys::read_pairs::<1, TOLD_WORDS>(map.as_fd())?.iter().map(connected).collect())
    }

    /// Closes these sockets of one namespace, as far as they are still connected to what they were told; returns how many there were.
    fn close(&mut self, namespace: u64, sockets: &BTreeMap<u64, SocketAddr>) -> Result<usize, Error> {
        let Some(mut inside) = self.namespaces.diagnosis(namespace)? else { return Ok(0) };
        let is_stale = |open: &Open| sockets.get(&open.cookie) == Some(&open.remote);
        let open = diagnosis::list(&mut inside, self.protocol, is_stale)?;
        open.iter().try_fold(0, |closed, open| Ok(closed + usize::from(open.close(&mut inside)?)))
    }
}

/// The file system may not be there either.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl FlowTable for Bound {
    const WHAT: &'static str = "sockets";

    fn own_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        let all = address::list_all(&mut self.addresses)?;
        Ok(all.into_iter().map(|one| one.address.ip()).collect())
    }

    fn list(&mut self, filter: &Filter, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, Error> {
        self.listed = self.read().map_err(Error::Receive)?;
        let protocol = self.protocol.number();
        let all = (0..).zip(&self.listed).map(|(number, one)| as_flow((number, protocol), &one.told));
        Ok(all.filter(|flow| filter.matches(flow) && wanted(flow)).collect())
    }

    fn forget(&mut self, flows: &[Flow]) -> Result<usize, Error> {
        let mut stale: BTreeMap<u64, BTreeMap<u64, SocketAddr>> = BTreeMap::new();
        for flow in flows {
            let Some(socket) = self.listed.get(flow.id as usize) else { continue };
            stale.entry(socket.told.namespace).or_default().insert(socket.socket, flow.reply.source);
        }
        stale.iter().try_fold(0, |closed, (namespace, sockets)| Ok(closed + self.close(*namespace, sockets)?))
    }
}

fn connected((key, value): &([u64; 1], [u64; TOLD_WORDS])) -> Connected {
    let [asked_1, asked_2, told_1, told_2, ports, namespace] = *value;
    let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).expect("a half");
    let port = |bits: u64| u16::try_from(bits & 0xffff).expect("a quarter");
    let address =
        |first: u64, second: u64| [half(first), half(first >> 32), half(second), half(second >> 32)];
    let told = abi::Told {
        asked: address(asked_1, asked_2),
        told: address(told_1, told_2),
        asked_port: port(ports),
        told_port: port(ports >> 16),
        unused: 0,
        namespace,
    };
    Connected { socket: key[0], told }
}

fn as_flow((number, protocol): (u32, u8), told: &abi::Told) -> Flow {
    let at = |address, port| SocketAddr::new(plan::ip(address), u16::from_be(port));
    let (asked, endpoint) = (at(told.asked, told.asked_port), at(told.told, told.told_port));
    // Where the client itself is does not count, and is not kept.
    let client = SocketAddr::new(endpoint.ip(), 0);
    Flow {
        protocol,
        original: Tuple { source: client, destination: asked },
        reply: Tuple { source: endpoint, destination: client },
        id: number,
        zone: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_socket_was_told_is_read_word_by_word() {
        let word = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32;
        let [asked, told] = [1, 2].map(|last| plan::address([10, 0, 0, last].into()));
        let ports = word(u32::from(80_u16.to_be()) | u32::from(8080_u16.to_be()) << 16, 0);
        let [a, b, c, d] = [
            word(asked[0], asked[1]),
            word(asked[2], asked[3]),
            word(told[0], told[1]),
            word(told[2], told[3]),
        ];
        let read = connected(&([7], [a, b, c, d, ports, 1 << 40]));
        assert_eq!((read.told.namespace, read.socket), (1 << 40, 7));
        let flow = as_flow((4, abi::UDP), &read.told);
        assert_eq!(flow.original.destination, "10.0.0.1:80".parse().unwrap());
        assert_eq!(flow.reply.source, "10.0.0.2:8080".parse().unwrap());
        assert_eq!((flow.protocol, flow.id), (abi::UDP, 4));
    }
}
