//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A unicast address from the locally administered space, with the low 46 bits taken from `bits`.
    pub fn local(bits: u64) -> Self {
        let [_, _, mut first, b, c, d, e, f] = bits.to_be_bytes();
        first = (first & 0xfc) | 0x02;
        Self([first, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// The text is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not six hexadecimal bytes with colons between")]
pub struct BadMac {
    /// What was read.
    pub text: String,
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_mac_is_unicast_and_locally_administered() {
        for bits in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(Mac::local(bits).0[0] & 0b11, 0b10);
        }
        assert_eq!(Mac::local(0x1122_3344_5566).to_string(), "12:22:33:44:55:66");
    }

    #[test]
    fn a_mac_is_read_as_it_is_printed() {
        let mac = Mac([2, 0, 0xab, 4, 5, 0xff]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in ["", "02:00:ab:04:05", "02:00:ab:04:05:ff:00", "2:0:ab:4:5:ff", "02:00:ab:04:05:fg"] {
            assert_eq!(bad.parse::<Mac>(), Err(BadMac { text: bad.to_owned() }));
        }
    }
}
