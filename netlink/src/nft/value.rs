//! The cells of keys and data in sets and maps.
//!
//! A key or a datum is a row of cells, each padded to 4 bytes as the kernel's registers are. Addresses and ports are in
//! network byte order, slots in the machine's, since `numgen` writes them so.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The name of a chain, set or map. Cheap to clone: ten thousand elements share one chain's name.
pub type Name = Arc<str>;

/// What one cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// An IPv4 address.
    Ipv4Addr,
    /// An IPv6 address.
    Ipv6Addr,
    /// An IP protocol number.
    InetProto,
    /// A port.
    InetService,
    /// The number of an endpoint among its equals, as `numgen` draws it.
    Slot,
    /// A connection's mark.
    Mark,
}

impl Type {
    /// Bytes in the kernel's registers.
    pub fn width(self) -> usize {
        if self == Self::Ipv6Addr { 16 } else { 4 }
    }

    /// Bytes that mean something, which interval sets are told.
    pub(crate) fn significant(self) -> u32 {
        match self {
            Self::Ipv4Addr | Self::Slot | Self::Mark => 4,
            Self::Ipv6Addr => 16,
            Self::InetProto => 1,
            Self::InetService => 2,
        }
    }

    /// nft's own number for the type (`enum datatypes`); the kernel only stores it.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Slot => 4,
            Self::Mark => 19,
        }
    }

    /// nft's name for the type; a slot has one only as `typeof`.
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Slot => "integer",
            Self::Mark => "mark",
        }
    }

    fn write(self, cell: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let four = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        match self {
            Self::Ipv4Addr => write!(f, "{}", Ipv4Addr::from(four(cell))),
            Self::Ipv6Addr => match <[u8; 16]>::try_from(cell) {
                Ok(bytes) => write!(f, "{}", Ipv6Addr::from(bytes)),
                Err(_) => f.write_str("?"),
            },
            Self::InetProto => match cell[0] {
                6 => f.write_str("tcp"),
                17 => f.write_str("udp"),
                132 => f.write_str("sctp"),
                other => write!(f, "{other}"),
            },
            Self::InetService => write!(f, "{}", u16::from_be_bytes([cell[0], cell[1]])),
            Self::Slot => write!(f, "{}", u32::from_ne_bytes(four(cell))),
            Self::Mark => write!(f, "0x{:08x}", u32::from_ne_bytes(four(cell))),
        }
    }
}

/// Room for the widest key that heddle uses: two IPv6 addresses, a protocol and a port.
const ROOM: usize = 40;

/// A row of cells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cells {
    bytes: [u8; ROOM],
    len: u8,
}

impl Default for Cells {
    fn default() -> Self {
        Self { bytes: [0; ROOM], len: 0 }
    }
}

impl Cells {
    /// The bytes as the kernel has them; `None` when they are more than a key can be.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut cells = Self::default();
        cells.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        cells.len = u8::try_from(bytes.len()).ok()?;
        Some(cells)
    }

    /// The bytes as the kernel wants them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn push(mut self, cell: &[u8]) -> Self {
        let start = usize::from(self.len);
        let end = start + cell.len().next_multiple_of(4);
        assert!(end <= ROOM, "a key has at most {ROOM} bytes");
        self.bytes[start..start + cell.len()].copy_from_slice(cell);
        self.len = u8::try_from(end).expect("bounded by the line above");
        self
    }

    /// Adds an address.
    pub fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => self.push(&a.octets()),
            IpAddr::V6(a) => self.push(&a.octets()),
        }
    }

    /// Adds an IP protocol number.
    pub fn protocol(self, number: u8) -> Self {
        self.push(&[number])
    }

    /// Adds a port.
    pub fn port(self, port: u16) -> Self {
        self.push(&port.to_be_bytes())
    }

    /// Adds a slot number.
    pub fn slot(self, slot: u32) -> Self {
        self.push(&slot.to_ne_bytes())
    }

    /// Adds a connection's mark.
    pub fn mark(self, mark: u32) -> Self {
        self.push(&mark.to_ne_bytes())
    }

    /// In nft's words, given what the cells hold.
    pub fn show<'a>(&'a self, types: &'a [Type]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            let mut rest = self.as_bytes();
            for (i, kind) in types.iter().enumerate() {
                if i > 0 {
                    f.write_str(" . ")?;
                }
                let Some((cell, after)) = rest.split_at_checked(kind.width()) else {
                    return f.write_str("?");
                };
                kind.write(cell, f)?;
                rest = after;
            }
            Ok(())
        })
    }

    /// All keys from this one to another, in nft's words: a range for each cell in which they differ.
    pub fn show_range<'a>(&'a self, end: &'a Self, types: &'a [Type]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            for (i, (kind, first, last)) in self.pairs(end, types).enumerate() {
                f.write_str(if i > 0 { " . " } else { "" })?;
                kind.write(first, f)?;
                if first != last {
                    f.write_str("-")?;
                    kind.write(last, f)?;
                }
            }
            Ok(())
        })
    }

    /// The cells of two keys of these types, side by side.
    pub(super) fn pairs<'a>(
        &'a self,
        other: &'a Self,
        types: &'a [Type],
    ) -> impl Iterator<Item = (Type, &'a [u8], &'a [u8])> {
        let mut at = 0;
        types.iter().map_while(move |kind| {
            let cell = at..at + kind.width();
            at = cell.end;
            Some((*kind, self.as_bytes().get(cell.clone())?, other.as_bytes().get(cell)?))
        })
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// What an element maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: the element of a set.
    None,
    /// Cells: the element of a map.
    Cells(Cells),
    /// `goto` that chain: the element of a verdict map.
    Goto(Name),
    /// Nothing, and the element is all keys each of whose cells lies between that of its own key and that of this one.
    Until(Cells),
}

impl Data {
    /// The chain that a verdict goes to.
    pub fn into_target(self) -> Option<Name> {
        if let Self::Goto(chain) = self { Some(chain) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_padded_and_print_as_nft_does() {
        let key = Cells::default().address("10.96.0.10".parse().unwrap()).protocol(6).port(80).slot(2);
        assert_eq!(key.as_bytes().len(), 16);
        let types = [Type::Ipv4Addr, Type::InetProto, Type::InetService, Type::Slot];
        assert_eq!(key.show(&types).to_string(), "10.96.0.10 . tcp . 80 . 2");
    }

    #[test]
    fn cells_of_another_shape_print_without_a_panic() {
        let key = Cells::from_bytes(&[1, 2]).unwrap();
        assert_eq!(key.show(&[Type::Ipv6Addr]).to_string(), "?");
        assert_eq!(Cells::from_bytes(&[0; 41]), None);
    }
}
