//! What the bytes of a lease table mean: where each unit is, and its form.
//!
//! It reads and writes no file. A unit is the head, a slot, or a bucket of the index, and is written as a whole.
//! Invariant: every unit carries a checksum of its content and its place, so that zeros, old bytes and bytes from
//! elsewhere are told from what was written.
//!
//! ```text
//! 0         head      format, boot, what the ranges were, how many slots
//! 4096      redo      the change that is being made (draft.rs)
//! 32768     index     buckets: the first slot of each chain of leases and addresses with the same hash
//! then      slots     pools, leases, addresses; 128 bytes each, numbered from one
//! ```

use super::disk::Error;
use crate::ipam::{Owner, number};
use crate::names::checksum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

/// Bytes of the head and of each slot: one never crosses a page.
pub(super) const BLOCK: usize = 128;
/// Bytes of a bucket.
pub(super) const BUCKET: usize = 8;
/// Where the redo record is.
pub(super) const REDO: u64 = 4096;
/// Where the index is; the redo record ends before.
pub(super) const INDEX: u64 = 32768;
/// The head's first words; the number changes with the format.
const FORMAT: &[u8; 16] = b"heddle-leases 2\n";
const BOOT: usize = 40;
const SUM: usize = 8;

/// A head or a slot as bytes.
pub(super) type Block = [u8; BLOCK];

/// The number of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(NonZeroU32);

impl Id {
    pub(super) fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    pub(super) fn number(self) -> u32 {
        self.0.get()
    }
}

/// What the whole table has one of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The boot of the machine that the leases belong to.
    pub(super) boot: String,
    /// What tells the ranges that the pools were made for from others.
    pub(super) ranges: u64,
    /// Buckets of the index.
    pub(super) buckets: u32,
    /// Slots that were ever used; the pools are the first of them.
    pub(super) used: u32,
    /// The first slot of those that are used no more.
    pub(super) free: Option<Id>,
}

/// Addresses of one range that can be handed out.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Pool {
    /// The lowest number that was never handed out; `None` when all were.
    pub(super) next: Option<u128>,
    /// The address that has been resting longest.
    pub(super) oldest: Option<Id>,
    /// The one that was given back last.
    pub(super) newest: Option<Id>,
    /// How many have an owner.
    pub(super) held: u32,
    /// How many rest.
    pub(super) resting: u32,
}

/// An owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// The next slot with the same bucket.
    pub(super) chain: Option<Id>,
    /// The address from the first range set; the others follow from it.
    pub(super) first: Option<Id>,
    /// Who.
    pub(super) owner: Owner,
    /// As [`Held::foreign`](crate::ipam::Held::foreign).
    pub(super) foreign: bool,
}

/// An address that has an owner, or had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The next slot with the same bucket.
    pub(super) chain: Option<Id>,
    /// The address.
    pub(super) ip: IpAddr,
    /// The pool that it goes back to; `None` when no present range can hand it out.
    pub(super) pool: Option<Id>,
    /// Whose it is; `None` while it rests.
    pub(super) lease: Option<Id>,
    /// The owner's next address; of one that rests, the one that was given back after it.
    pub(super) next: Option<Id>,
    /// Of one that rests, the one that was given back before it.
    pub(super) previous: Option<Id>,
    /// When it was given back, in milliseconds since the boot.
    pub(super) since: u64,
}

/// A slot's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Not in use.
    Free {
        /// The next such slot.
        next: Option<Id>,
    },
    Pool(Pool),
    Lease(Lease),
    Address(Address),
}

impl Head {
    /// Where a slot is.
    pub(super) fn slot(&self, id: Id) -> u64 {
        self.end(id.number() - 1)
    }

    /// Where the slots end when there are so many.
    pub(super) fn end(&self, slots: u32) -> u64 {
        INDEX + u64::from(self.buckets) * BUCKET as u64 + u64::from(slots) * BLOCK as u64
    }

    /// Where the bucket for this hash is.
    pub(super) fn bucket(&self, hash: u64) -> u64 {
        INDEX + hash % u64::from(self.buckets) * BUCKET as u64
    }

    pub(super) fn encode(&self) -> Block {
        let mut out = Writer::default();
        out.bytes(FORMAT);
        let boot = &self.boot.as_bytes()[..self.boot.len().min(BOOT)];
        out.bytes(boot);
        out.bytes(&[0; BOOT][boot.len()..]);
        out.bytes(&self.ranges.to_le_bytes());
        out.u32(self.buckets);
        out.u32(self.used);
        out.ids(&[self.free]);
        out.seal(0)
    }

    pub(super) fn decode(block: &Block) -> Result<Self, Error> {
        let what = "the head of a lease table";
        let mut input = Reader::open(block, 0, what)?;
        if input.take(FORMAT.len()) != FORMAT {
            return Err(Error::Damaged { at: 0, what });
        }
        let boot = String::from_utf8_lossy(input.take(BOOT)).trim_end_matches('\0').to_owned();
        let (ranges, buckets) = (input.u64(), input.u32());
        let head = Self { boot, ranges, buckets, used: input.u32(), free: input.id() };
        if head.buckets == 0 { Err(Error::Damaged { at: 0, what }) } else { Ok(head) }
    }

    /// True when the leases belong to this boot.
    pub(super) fn is_of(&self, boot: &str) -> bool {
        self.boot.as_bytes() == &boot.as_bytes()[..boot.len().min(BOOT)]
    }
}

impl Slot {
    pub(super) fn encode(&self, at: u64) -> Block {
        let mut out = Writer::default();
        match self {
            Self::Free { next } => {
                out.bytes(b"f");
                out.ids(&[*next]);
            }
            Self::Pool(pool) => {
                out.bytes(&[b'p', pool.next.is_some().into()]);
                out.bytes(&pool.next.unwrap_or_default().to_le_bytes());
                out.ids(&[pool.oldest, pool.newest]);
                out.u32(pool.held);
                out.u32(pool.resting);
            }
            Self::Lease(lease) => {
                out.bytes(b"l");
                out.ids(&[lease.chain, lease.first]);
                out.text(&lease.owner.container);
                out.text(&lease.owner.ifname);
                out.bytes(&[lease.foreign.into()]);
            }
            Self::Address(address) => {
                out.bytes(&[b'a', address.ip.is_ipv4().into()]);
                out.bytes(&number(address.ip).to_le_bytes());
                let Address { chain, pool, lease, next, previous, .. } = *address;
                out.ids(&[chain, pool, lease, next, previous]);
                out.bytes(&address.since.to_le_bytes());
            }
        }
        out.seal(at)
    }

    pub(super) fn decode(block: &Block, at: u64) -> Result<Self, Error> {
        let what = "a slot of a lease table";
        let mut input = Reader::open(block, at, what)?;
        match input.take(1) {
            b"f" => Ok(Self::Free { next: input.id() }),
            b"p" => {
                let (some, next) = (input.take(1) == [1], input.u128());
                let (oldest, newest) = (input.id(), input.id());
                let next = Some(next).filter(|_| some);
                Ok(Self::Pool(Pool { next, oldest, newest, held: input.u32(), resting: input.u32() }))
            }
            b"l" => {
                let (chain, first) = (input.id(), input.id());
                let (container, ifname) = (input.text(), input.text());
                // A program that did not know it left a zero here.
                let foreign = input.take(1) == [1];
                Ok(Self::Lease(Lease { chain, first, owner: Owner { container, ifname }, foreign }))
            }
            b"a" => {
                let v4 = input.take(1) == [1];
                let ip = address(v4, input.u128());
                let (chain, pool, lease) = (input.id(), input.id(), input.id());
                let (next, previous, since) = (input.id(), input.id(), input.u64());
                Ok(Self::Address(Address { chain, ip, pool, lease, next, previous, since }))
            }
            _ => Err(Error::Damaged { at, what }),
        }
    }

    /// The next slot with the same bucket.
    pub(super) fn chain(&mut self) -> Option<&mut Option<Id>> {
        match self {
            Self::Lease(lease) => Some(&mut lease.chain),
            Self::Address(address) => Some(&mut address.chain),
            Self::Free { .. } | Self::Pool(_) => None,
        }
    }
}

/// The first slot of a chain, as a bucket.
pub(super) fn encode_bucket(first: Option<Id>, at: u64) -> [u8; BUCKET] {
    let id = first.map_or(0, Id::number);
    (u64::from(id) | checksum(at, &id.to_le_bytes()) << 32).to_le_bytes()
}

/// As [`encode_bucket`], back.
pub(super) fn decode_bucket(bytes: [u8; BUCKET], at: u64) -> Result<Option<Id>, Error> {
    let [a, b, c, d, ..] = bytes;
    let id = Id::new(u32::from_le_bytes([a, b, c, d]));
    let what = "a bucket of a lease table";
    if encode_bucket(id, at) == bytes { Ok(id) } else { Err(Error::Damaged { at, what }) }
}

/// Where an owner is found.
pub(super) fn owner_hash(owner: &Owner) -> u64 {
    checksum(0, format!("{} {}", owner.container, owner.ifname).as_bytes())
}

/// Where an address is found.
pub(super) fn address_hash(ip: IpAddr) -> u64 {
    checksum(if ip.is_ipv4() { 4 } else { 6 }, &number(ip).to_le_bytes())
}

fn address(v4: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

/// Fills a block from behind its checksum on.
struct Writer {
    block: Block,
    at: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { block: [0; BLOCK], at: SUM }
    }
}

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.block[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u32(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }

    fn ids(&mut self, ids: &[Option<Id>]) {
        ids.iter().for_each(|id| self.u32(id.map_or(0, Id::number)));
    }

    fn text(&mut self, text: &str) {
        let length = u8::try_from(text.len()).expect("an owner's names are short (names::short, IFNAMSIZ)");
        self.bytes(&[length]);
        self.bytes(text.as_bytes());
    }

    fn seal(mut self, at: u64) -> Block {
        let sum = checksum(at, &self.block[SUM..]);
        self.block[..SUM].copy_from_slice(&sum.to_le_bytes());
        self.block
    }
}

/// Reads a block that its checksum says is whole.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn open(block: &'a Block, at: u64, what: &'static str) -> Result<Self, Error> {
        let (sum, rest) = block.split_at(SUM);
        if sum == checksum(at, rest).to_le_bytes() {
            Ok(Self { rest })
        } else {
            Err(Error::Damaged { at, what })
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.array())
    }

    fn id(&mut self) -> Option<Id> {
        Id::new(self.u32())
    }

    fn text(&mut self) -> String {
        let [length] = self.array();
        String::from_utf8_lossy(self.take(length.into())).into_owned()
    }
}
