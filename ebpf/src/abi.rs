//! Every key and value of every map: the one definition, used by both sides.
//!
//! Addresses are four words and ports one half, as they are on the wire (network byte order); an IPv4 address is the
//! IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), so that one map serves both families and every kind of socket.
//!
//! Rows and slots lie in chunks of one size, inner arrays of an array of maps, so that there can be more of them without
//! moving one. Invariant: everything that a reader may see half written is behind [`Row::list`], one aligned word.

use core::mem::offset_of;

/// An address on the wire; IPv4 as `::ffff:a.b.c.d`.
pub type Address = [u32; 4];

/// The third word of an IPv4-mapped address.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// An IPv4 address, on the wire, as an [`Address`].
#[must_use]
#[inline(always)]
pub const fn mapped(ip4: u32) -> Address {
    [0, 0, MAPPED, ip4]
}

/// Whether it is an IPv4 address.
#[must_use]
#[inline(always)]
pub const fn is_mapped(address: &Address) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == MAPPED
}

/// `IPPROTO_TCP`
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`
pub const UDP: u8 = 17;

/// The frontend is this address.
pub const HERE: u8 = 0;
/// The frontend is every address of the node that serves node ports, of IPv4; the address is zero.
pub const NODE_V4: u8 = 1;
/// The same of IPv6.
pub const NODE_V6: u8 = 2;

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Frontend {
    /// The address, or zero.
    pub address: Address,
    /// The port.
    pub port: u16,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// [`HERE`], [`NODE_V4`] or [`NODE_V6`].
    pub scope: u8,
}

/// Where a list of endpoints lies: what must change at once, in one word.
///
/// ```text
/// 63        48 47      32 31            0
/// generation   count      first slot
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct List(pub u64);

impl List {
    /// One of so many slots from the first on.
    #[must_use]
    #[inline(always)]
    pub const fn new(first: u32, count: u16, generation: u16) -> Self {
        Self(first as u64 | (count as u64) << 32 | (generation as u64) << 48)
    }

    /// Its first slot.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the half that is meant")]
    pub const fn first(self) -> u32 {
        self.0 as u32
    }

    /// How many slots it has.
    #[must_use]
    #[inline(always)]
    pub const fn count(self) -> u32 {
        (self.0 >> 32) as u32 & 0xffff
    }

    /// Which list of its row it is; it counts up and begins anew.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// Without an endpoint, connections are refused.
pub const REFUSES: u32 = 1;
/// Only the node's own processes are served; pods' packets are left to the other dataplane.
pub const NOT_FOR_PODS: u32 = 2;

/// What a frontend leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Row {
    /// Its endpoints.
    pub list: List,
    /// The number of the Service's port, under which clients are remembered that keep their endpoint; 0 where none does.
    pub affinity: u64,
    /// For how many seconds they are.
    pub seconds: u32,
    /// [`REFUSES`] and [`NOT_FOR_PODS`].
    pub flags: u32,
}

/// One endpoint of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: u16,
    /// Zero.
    pub unused: u16,
    /// Where its connections are counted.
    pub counter: u32,
}

/// What a choice was made from: as long as the row has the same, the choice stands. Else it stands if the list has the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stamp {
    /// Which maps: rows of others mean something else.
    pub epoch: u32,
    /// The row.
    pub row: u32,
    /// Its list.
    pub list: List,
}

/// A client that keeps its endpoint: a network namespace, which is a pod or the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Client {
    /// The namespace's cookie (`SO_NETNS_COOKIE`, Linux 5.14).
    pub namespace: u64,
    /// [`Row::affinity`].
    pub affinity: u64,
}

/// The endpoint that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Kept {
    /// The endpoint's address.
    pub address: Address,
    /// The endpoint's port.
    pub port: u16,
    /// Zero.
    pub unused: u16,
    /// Its counter, if the stamp holds.
    pub counter: u32,
    /// What it was chosen from.
    pub stamp: Stamp,
    /// When the client last connected (nanoseconds of `CLOCK_MONOTONIC`, which stands still in sleep).
    pub last: u64,
}

/// What an unconnected UDP socket was told of one frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The frontend's address, as the program knows it.
    pub asked: Address,
    /// The endpoint's.
    pub told: Address,
    /// The frontend's port.
    pub asked_port: u16,
    /// The endpoint's port.
    pub told_port: u16,
    /// The endpoint's counter, if the stamp holds.
    pub counter: u32,
    /// What it was chosen from.
    pub stamp: Stamp,
}

/// What a connected socket was told, and what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Told {
    /// The frontend's address, as the program knows it.
    pub asked: Address,
    /// The endpoint's.
    pub told: Address,
    /// The frontend's port.
    pub asked_port: u16,
    /// The endpoint's port.
    pub told_port: u16,
    /// Zero.
    pub unused: u32,
    /// The socket's network namespace.
    pub namespace: u64,
}

/// How many connected sockets of a protocol may be remembered in a map, unless the loader makes it larger; what more there are is kept with
/// the socket.
pub const CONNECTIONS: u32 = 1 << 16;

/// How many Services an unconnected UDP socket may talk to at the same time without forgetting one.
pub const FLOWS: usize = 8;

/// What an unconnected UDP socket was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flows {
    /// One for each frontend that it sent to; the address it was told is zero where there is none.
    pub flows: [Flow; FLOWS],
    /// Which is forgotten next.
    pub next: u32,
    /// Zero.
    pub unused: u32,
}

/// What happened to connections to a frontend. Each only goes up, by programs of all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// Those that were led to an endpoint.
    pub connections: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those among the first that went where the client had been before.
    pub kept: u64,
}

/// A row as it lies in its chunk. Who reads the one half counts in the other, so that one line of the cache serves both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counted {
    /// What is written by us alone.
    pub row: Row,
    /// What is written by programs alone.
    pub counts: Counts,
}

/// Rows in a chunk.
pub const ROWS: u32 = 1 << 12;
/// Slots in a chunk.
pub const SLOTS: u32 = 1 << 13;
/// Chunks of rows: four million of them.
pub const ROW_CHUNKS: u32 = 1 << 10;
/// Chunks of slots: 33 million of them.
pub const SLOT_CHUNKS: u32 = 1 << 12;
/// Words of the set of node ports: a bit for each port of TCP, then of UDP.
pub const PORT_WORDS: u32 = 2 * 65_536 / 64;
/// How many addresses of the node may serve node ports.
pub const NODE_ADDRESSES: u32 = 1 << 14;
/// How many network namespaces may be left out.
pub const LEFT_OUT: u32 = 1 << 13;
/// How many clients are remembered at most; beyond, those that were not seen for longest are forgotten.
pub const CLIENTS: u32 = 1 << 16;

/// The word and the bit of a node port.
#[must_use]
#[inline(always)]
pub const fn port_bit(protocol: u8, port: u16) -> (u32, u64) {
    let number = u16::from_be(port) as u32 + if protocol == UDP { 65_536 } else { 0 };
    (number / 64, 1 << (number % 64))
}

const _: () = {
    assert!(size_of::<Frontend>() == 20);
    assert!(size_of::<Row>() == 24 && align_of::<Row>() == 8);
    assert!(size_of::<Slot>() == 24);
    assert!(size_of::<Stamp>() == 16);
    assert!(size_of::<Client>() == 16);
    assert!(size_of::<Kept>() == 48);
    assert!(size_of::<Flow>() == 56);
    assert!(size_of::<Told>() == 48);
    assert!(size_of::<Flows>() == 56 * FLOWS + 8);
    assert!(size_of::<Counts>() == 24);
    assert!(size_of::<Counted>() == 48 && offset_of!(Counted, row) == 0);
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_list_is_one_word_and_none_of_its_parts_reaches_into_another() {
        for (first, count, generation) in [(u32::MAX, 0, 0), (0, u16::MAX, 0), (0, 0, u16::MAX), (1, 2, 3)] {
            let list = List::new(first, count, generation);
            assert_eq!((list.first(), list.count(), list.generation()), (first, count.into(), generation));
        }
    }

    #[test]
    fn every_node_port_has_a_bit_of_its_own() {
        let mut seen = BTreeSet::new();
        for protocol in [TCP, UDP] {
            for port in 0..=u16::MAX {
                let (word, bit) = port_bit(protocol, port.to_be());
                assert!(word < PORT_WORDS && bit.is_power_of_two() && seen.insert((word, bit)));
            }
        }
    }

    #[test]
    fn an_ipv4_address_is_the_mapped_one() {
        let octets: Vec<u8> =
            mapped(u32::from_ne_bytes([10, 0, 0, 1])).iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(octets, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    }
}
