//! Netlink messages as bytes: writing requests, reading replies.
//!
//! It is not a model of any protocol: message kinds and attribute numbers come from the caller. Invariant: a
//! [`Batch`] is always a whole number of complete, 4-byte aligned messages (`linux/netlink.h`, `NLMSG_ALIGN`).

/// `NLM_F_REQUEST`: every message from user space carries it.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: the kernel answers even when the message succeeds.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP` (`NLM_F_ROOT | NLM_F_MATCH`): list all objects.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`: change an object that exists.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`: fail with `EEXIST` when the object exists.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: make the object when it is missing.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: add at the end of a list of rules.
pub const APPEND: u16 = 0x800;

/// `NLA_F_NESTED`, set on attributes that hold attributes.
const NESTED: u16 = 0x8000;
/// The two flag bits of an attribute's type (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;

fn aligned(len: usize) -> usize {
    (len + 3) & !3
}

/// Requests back to back, sent to the kernel in one system call.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
    acked: Option<u32>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one message: `kind` and `flags` of its `nlmsghdr` (`NLM_F_REQUEST` is added), the fixed header that
    /// the protocol wants after it (`ifinfomsg`, `nfgenmsg`, …), then what `write` adds. Returns its index.
    pub fn push(&mut self, kind: u16, flags: u16, header: &[u8], write: impl FnOnce(&mut Writer<'_>)) -> u32 {
        let start = self.bytes.len();
        let index = self.count;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        let mut writer = Writer { bytes: &mut self.bytes };
        writer.raw(header);
        write(&mut writer);
        let len = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.count += 1;
        if flags & ACK != 0 {
            self.acked = Some(index);
        }
        index
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True when nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Length of the whole batch in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Index of the message whose ack ends the answers: the last one pushed with [`ACK`], else the last one.
    pub(crate) fn final_index(&self) -> u32 {
        self.acked.unwrap_or(self.count.saturating_sub(1))
    }

    /// The bytes with sequence numbers `base + index`, and with [`ACK`] on the last message when no message asked for
    /// it. Errors come back for every message, whether or not it asked for an ack.
    pub(crate) fn seal(&mut self, base: u32) -> &[u8] {
        let (mut at, mut index) = (0, 0);
        while at < self.bytes.len() {
            let len = u32_at(&self.bytes, at) as usize;
            self.bytes[at + 8..at + 12].copy_from_slice(&base.wrapping_add(index).to_ne_bytes());
            let flags = u16_at(&self.bytes, at + 6);
            if self.acked.is_none() && index + 1 == self.count && flags & DUMP != DUMP {
                self.bytes[at + 6..at + 8].copy_from_slice(&(flags | ACK).to_ne_bytes());
            }
            at += aligned(len);
            index += 1;
        }
        &self.bytes
    }
}

/// Adds attributes to the message that is being built.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Bytes without an attribute header, padded to four.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    /// An attribute with a plain value.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(value.len() + 4).expect("one attribute value is below 64 KiB");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    /// An attribute that is only there, without a value (`NLA_FLAG`).
    pub fn put_flag(&mut self, kind: u16) {
        self.put(kind, &[]);
    }

    /// One byte.
    pub fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    /// A 16-bit number in the machine's byte order.
    pub fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A 32-bit number in the machine's byte order, as rtnetlink wants it.
    pub fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A 32-bit number in network byte order, as nf_tables wants it.
    pub fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A 64-bit number in network byte order.
    pub fn put_be64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A string with its terminating zero.
    pub fn put_str(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// An attribute that holds what `write` adds.
    ///
    /// The length field has 16 bits: the caller keeps one nest below 64 KiB (nf_tables elements are split for it).
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Writer<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        write(&mut Writer { bytes: self.bytes });
        let len = u16::try_from(self.bytes.len() - start).expect("one nest is below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub seq: u32,
    /// What follows the `nlmsghdr`.
    pub body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The attributes after a fixed header of `header` bytes; none when the message is too short.
    pub fn attributes(&self, header: usize) -> Attributes<'a> {
        Attributes { bytes: self.body.get(aligned(header)..).unwrap_or_default() }
    }

    /// Cuts the first message off a received buffer; `None` at its end or when it is malformed.
    pub fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        if bytes.len() < HEADER {
            return None;
        }
        let len = u32_at(bytes, 0) as usize;
        let body = bytes.get(HEADER..len)?;
        let reply = Self { kind: u16_at(bytes, 4), flags: u16_at(bytes, 6), seq: u32_at(bytes, 8), body };
        Some((reply, bytes.get(aligned(len)..).unwrap_or_default()))
    }
}

/// Iterates over attributes as (number without flag bits, value). It ends at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes inside a nested attribute's value.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The value of the first attribute with this number.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        { self }.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// As [`get`](Self::get), as a number in the machine's byte order.
    pub fn get_u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// As [`get`](Self::get), as a number in network byte order.
    pub fn get_be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// As [`get`](Self::get), as text without its terminating zero.
    pub fn get_str(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
    }

    /// The attributes nested in the first attribute with this number.
    pub fn get_nest(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes::new)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.len() < 4 {
            return None;
        }
        let len = usize::from(u16_at(self.bytes, 0));
        let kind = u16_at(self.bytes, 2) & TYPE_MASK;
        let value = self.bytes.get(4..len)?;
        self.bytes = self.bytes.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut batch = Batch::new();
        batch.push(7, CREATE, &[1, 2, 3], |w| {
            w.put_str(1, "eth0");
            w.nest(2, |w| w.put_be32(3, 0xdead_beef));
            w.put_flag(4);
        });
        batch.push(8, 0, &[], |w| w.put_u32(5, 6));
        let bytes = batch.seal(100).to_vec();
        let (first, rest) = Reply::split(&bytes).unwrap();
        assert_eq!((first.kind, first.flags, first.seq), (7, CREATE | REQUEST, 100));
        let attributes = first.attributes(3);
        assert_eq!(attributes.get_str(1), Some("eth0"));
        assert_eq!(attributes.get_nest(2).unwrap().get_be32(3), Some(0xdead_beef));
        assert_eq!(attributes.get(4), Some(&[][..]));
        let (second, rest) = Reply::split(rest).unwrap();
        assert_eq!((second.kind, second.flags, second.seq), (8, REQUEST | ACK, 101));
        assert_eq!(second.attributes(0).get_u32(5), Some(6));
        assert!(rest.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_from_the_kernel_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut rest = &bytes[..];
            while let Some((reply, after)) = Reply::split(rest) {
                for (_, value) in reply.attributes(4) {
                    let _ = Attributes::new(value).count();
                }
                if after.len() == rest.len() { break; }
                rest = after;
            }
        }
    }
}
