//! IP addresses and prefixes as Kubernetes reads them.
//!
//! Not the strict parser of the standard library: Kubernetes has always accepted leading zeros and IPv4 addresses
//! mapped into IPv6, and objects that hold them are in clusters today. Invariant: what comes out is canonical, so two
//! spellings of one address are equal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// Reads an address: leading zeros are dropped, never octal, and an IPv4-mapped IPv6 address is the IPv4 address
/// (Kubernetes' `ParseIPSloppy`, which is Go's `net.ParseIP` of before Go 1.17).
pub(crate) fn parse(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        return parse_v4(text).map(IpAddr::V4);
    }
    let address = match text.rsplit_once(':') {
        Some((groups, dotted)) if dotted.contains('.') => format!("{groups}:{}", parse_v4(dotted)?).parse(),
        _ => text.parse::<Ipv6Addr>(),
    };
    address.ok().map(|address| IpAddr::V6(address).to_canonical())
}

/// Reads a prefix: its address as [`parse`] does, and without the bits behind its length.
pub(crate) fn parse_prefix(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.split_once('/')?;
    // The length of a mapped prefix counts bits that the IPv4 address does not have.
    let network = parse(address).filter(|found| found.is_ipv6() == address.contains(':'))?;
    let network = IpNetwork::new(network, parse_octet(length)?).ok()?;
    IpNetwork::new(network.network(), network.prefix()).ok()
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.').map(parse_octet);
    let octets = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

fn parse_octet(text: &str) -> Option<u8> {
    // `parse` alone would take a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// kp:A9
    #[test]
    fn leading_zeros_are_decimal_and_dropped() {
        assert_eq!(parse("010.000.0.08"), "10.0.0.8".parse().ok());
        assert_eq!(parse("00010.0.0.255"), "10.0.0.255".parse().ok());
        assert_eq!(parse("2001:0db8:0::001"), "2001:db8::1".parse().ok());
        assert_eq!(parse("::ffff:010.0.0.1"), "10.0.0.1".parse().ok());
        assert_eq!(parse("64:ff9b::192.000.2.1"), "64:ff9b::c000:201".parse().ok());
    }

    /// kp:A9
    #[test]
    fn a_prefix_is_canonical() {
        for (text, canonical) in [
            ("010.001.2.3/08", "10.0.0.0/8"),
            ("192.0.2.1/32", "192.0.2.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:0db8::00ff/64", "2001:db8::/64"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse_prefix(text), canonical.parse().ok(), "{text}");
        }
        for text in
            ["", "/8", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/8/8", "fd00::/129"]
        {
            assert_eq!(parse_prefix(text), None, "{text}");
        }
        assert_eq!(parse_prefix("::ffff:10.0.0.0/104"), None);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "None",
            "10.0.0",
            "10.0.0.0.1",
            "10.0.0.256",
            "+10.0.0.1",
            "10..0.1",
            "fe80::1%eth0",
            "::1.2.3",
            " ::1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_v4_address_is_read_back(bits: u32) {
            let address = Ipv4Addr::from(bits);
            prop_assert_eq!(parse(&address.to_string()), Some(IpAddr::V4(address)));
        }

        #[test]
        fn every_v6_address_is_read_back_in_canonical_form(bits: u128) {
            let address = IpAddr::V6(Ipv6Addr::from(bits));
            prop_assert_eq!(parse(&address.to_string()), Some(address.to_canonical()));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-f:.%+ -]{0,24}") {
            let _ = parse(&text);
            let _ = parse_prefix(&format!("{text}/{text}"));
        }
    }
}
