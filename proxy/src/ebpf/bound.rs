//! Connected sockets whose endpoint is gone: they are closed for whoever has them.
//!
//! The kernel asks no program where a connected socket's packets go; its endpoint is chosen for good. What each was told is in maps,
//! so one pass over them finds all of them, in whatever network namespace they are, and only namespaces with stale
//! ones are entered. It is the flow table of a [`Forgetter`](crate::conntrack::Forgetter): which flow is stale is decided there, the same for
//! flows that packets made. Invariant: a socket that reached an address without a Service is not touched.

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

/// Words of what a TCP socket was told.
const TOLD_WORDS: usize = size_of::<abi::Told>() / 8;

/// Sockets of clients of this node, as flows: what was asked for is where they go, and what was told is who answers.
#[derive(Debug)]
pub struct Bound {
    protocol: Protocol,
    pins: Pins,
    namespaces: Namespaces,
    addresses: Socket,
    /// What the last listing found; flows have their places in it as numbers.
    listed: Vec<abi::Flow>,
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
    fn read(&self) -> io::Result<Vec<abi::Flow>> {
        let open = || -> io::Result<_> {
            let peers = (sys::get(&self.pins.reader())?, sys::get(&self.pins.session("peers"))?);
            Ok((peers, sys::get(&self.pins.session("told"))?))
        };
        let ((program, peers), connections) = match open() {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            opened => opened?,
        };
        let mut all = flows(&sys::visit(program.as_fd(), peers.as_fd())?);
        all.retain(|flow| flow.protocol == u64::from(self.protocol.number()));
        if self.protocol == Protocol::Tcp {
            all.extend(sys::read_pairs::<1, TOLD_WORDS>(connections.as_fd())?.iter().map(of_connection));
        }
        Ok(all)
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
        let all = (0..).zip(&self.listed).filter_map(|(number, flow)| as_flow(number, flow));
        Ok(all.filter(|flow| filter.matches(flow) && wanted(flow)).collect())
    }

    fn forget(&mut self, flows: &[Flow]) -> Result<usize, Error> {
        let mut stale: BTreeMap<u64, BTreeMap<u64, SocketAddr>> = BTreeMap::new();
        for flow in flows {
            let Some(socket) = self.listed.get(flow.id as usize) else { continue };
            stale.entry(socket.namespace).or_default().insert(socket.socket, flow.reply.source);
        }
        stale.iter().try_fold(0, |closed, (namespace, sockets)| Ok(closed + self.close(*namespace, sockets)?))
    }
}

/// What a TCP socket was told, as its own storage would have it.
fn of_connection((key, value): &([u64; 1], [u64; TOLD_WORDS])) -> abi::Flow {
    let [asked_1, asked_2, told_1, told_2, ports, namespace] = *value;
    let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).expect("a half");
    let port = |bits: u64| u16::try_from(bits & 0xffff).expect("a quarter");
    let address =
        |first: u64, second: u64| [half(first), half(first >> 32), half(second), half(second >> 32)];
    abi::Flow {
        asked: address(asked_1, asked_2),
        told: address(told_1, told_2),
        asked_port: port(ports),
        told_port: port(ports >> 16),
        counter: 0,
        stamp: abi::Stamp::default(),
        namespace,
        socket: key[0],
        protocol: u64::from(abi::TCP),
    }
}

fn as_flow(number: u32, flow: &abi::Flow) -> Option<Flow> {
    let at = |address, port| SocketAddr::new(plan::ip(address), u16::from_be(port));
    let (asked, told) = (at(flow.asked, flow.asked_port), at(flow.told, flow.told_port));
    // Where the client itself is does not count, and is not kept.
    let client = SocketAddr::new(told.ip(), 0);
    Some(Flow {
        protocol: u8::try_from(flow.protocol).ok()?,
        original: Tuple { source: client, destination: asked },
        reply: Tuple { source: told, destination: client },
        id: number,
        zone: 0,
    })
}

/// Reads what the program wrote, one value after the other.
fn flows(bytes: &[u8]) -> Vec<abi::Flow> {
    bytes.chunks_exact(size_of::<abi::Flow>()).filter_map(flow).collect()
}

fn flow(bytes: &[u8]) -> Option<abi::Flow> {
    let mut words = bytes.chunks_exact(4).map(word);
    let mut next = || words.next().flatten();
    let mut address = || Some([next()?, next()?, next()?, next()?]);
    let (asked, told) = (address()?, address()?);
    let mut long = || Some(u64::from(next()?) | u64::from(next()?) << 32);
    let ports = long()?;
    let row = long()?;
    let list = abi::List(long()?);
    let (namespace, socket, protocol) = (long()?, long()?, long()?);
    let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).expect("a half");
    let port = |bits: u64| u16::try_from(bits & 0xffff).expect("a quarter");
    Some(abi::Flow {
        asked,
        told,
        asked_port: port(ports),
        told_port: port(ports >> 16),
        counter: half(ports >> 32),
        stamp: abi::Stamp { epoch: half(row), row: half(row >> 32), list },
        namespace,
        socket,
        protocol,
    })
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_was_told_is_read_word_by_word() {
        let word = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32;
        let [asked, told] = [1, 2].map(|last| plan::address([10, 0, 0, last].into()));
        let ports = word(u32::from(80_u16.to_be()) | u32::from(8080_u16.to_be()) << 16, 0);
        let [a, b, c, d] = [
            word(asked[0], asked[1]),
            word(asked[2], asked[3]),
            word(told[0], told[1]),
            word(told[2], told[3]),
        ];
        let read = of_connection(&([7], [a, b, c, d, ports, 1 << 40]));
        assert_eq!((read.namespace, read.socket), (1 << 40, 7));
        let flow = as_flow(0, &read).unwrap();
        assert_eq!(flow.original.destination, "10.0.0.1:80".parse().unwrap());
        assert_eq!((flow.reply.source, flow.protocol), ("10.0.0.2:8080".parse().unwrap(), abi::TCP));
    }

    #[test]
    fn what_the_program_writes_is_read_as_it_was() {
        let address = |last: u8| plan::address([10, 0, 0, last].into());
        let told = abi::Flow {
            asked: address(1),
            told: address(2),
            asked_port: 53_u16.to_be(),
            told_port: 5353_u16.to_be(),
            counter: 7,
            stamp: abi::Stamp { epoch: 8, row: 9, list: abi::List::new(10, 11, 12) },
            namespace: 1 << 40,
            socket: 3 << 33,
            protocol: 17,
        };
        let mut bytes: Vec<u8> =
            told.asked.iter().chain(&told.told).flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(told.asked_port.to_ne_bytes());
        bytes.extend(told.told_port.to_ne_bytes());
        bytes.extend(
            [told.counter, told.stamp.epoch, told.stamp.row].iter().flat_map(|word| word.to_ne_bytes()),
        );
        for long in [told.stamp.list.0, told.namespace, told.socket, told.protocol] {
            bytes.extend(long.to_ne_bytes());
        }
        assert_eq!(flows(&[&bytes[..], &bytes[..], &[0; 5]].concat()), [told, told]);
        let flow = as_flow(4, &told).unwrap();
        assert_eq!(flow.original.destination, "10.0.0.1:53".parse().unwrap());
        assert_eq!((flow.reply.source, flow.id), ("10.0.0.2:5353".parse().unwrap(), 4));
    }
}
