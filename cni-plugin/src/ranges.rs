//! Which addresses there are to hand out: ranges and sets of ranges, with the meaning that `host-local` gives them.
//!
//! A pod gets one address from each set; the ranges of a set stand in for each other. It does not know what is taken.
//! Invariant: network, broadcast (IPv4) and gateway addresses are never handed out; the ranges of one configuration
//! do not overlap, and those of one set are of one family.

use crate::ipam::Assigned;
use ipnetwork::IpNetwork;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a range is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A text is no address or network.
    #[error("{key} {text:?} is not {wanted}")]
    Text {
        /// The key that holds it.
        key: &'static str,
        /// The text.
        text: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The network's address has bits set that belong to hosts.
    #[error("subnet {subnet} has host bits set")]
    HostBits {
        /// The network as written.
        subnet: IpNetwork,
    },
    /// Without network, broadcast and gateway address nothing is left.
    #[error("subnet {subnet} is too small to hand out addresses")]
    TooSmall {
        /// The network.
        subnet: IpNetwork,
    },
    /// The start or end lies elsewhere.
    #[error("{key} {address} is not in subnet {subnet}")]
    Outside {
        /// The key that holds it.
        key: &'static str,
        /// The address.
        address: IpAddr,
        /// The network.
        subnet: IpNetwork,
    },
    /// The start comes after the end.
    #[error("range {0} is empty")]
    Empty(String),
    /// A set has no range, or ranges of both families.
    #[error("a range set needs at least one range, and all of one address family")]
    Set,
    /// Two ranges share addresses.
    #[error("ranges {0} and {1} overlap")]
    Overlap(String, String),
}

/// A range as the configuration writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// The network in CIDR notation.
    pub subnet: Option<String>,
    /// The first address to hand out; the network's first when absent.
    pub range_start: Option<String>,
    /// The last address to hand out; the network's last when absent.
    pub range_end: Option<String>,
    /// The gateway's address; the network's first when absent.
    pub gateway: Option<String>,
}

/// Addresses to hand out, from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    subnet: IpNetwork,
    first: u128,
    last: u128,
    gateway: IpAddr,
}

impl Range {
    /// Checks a range and fills in what it leaves out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(written: &Written) -> Result<Self, Error> {
        let subnet = read_subnet(written.subnet.as_deref().unwrap_or_default())?;
        let (lowest, highest) = usable(subnet)?;
        let inside = |key, text: &Option<String>, default| match read_address(key, text.as_deref())? {
            None => Ok(default),
            Some(address) if subnet.contains(address) => Ok(number(address)),
            Some(address) => Err(Error::Outside { key, address, subnet }),
        };
        let first = inside("rangeStart", &written.range_start, lowest)?.max(lowest);
        let last = inside("rangeEnd", &written.range_end, highest)?.min(highest);
        let gateway = read_address("gateway", written.gateway.as_deref())?;
        let range = Self { subnet, first, last, gateway: gateway.unwrap_or_else(|| address(subnet, lowest)) };
        if first > last { Err(Error::Empty(range.to_string())) } else { Ok(range) }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.subnet.is_ipv4() && (self.first..=self.last).contains(&number(address))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.subnet.is_ipv4() == other.subnet.is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }

    /// Addresses that can be handed out.
    fn capacity(&self) -> u128 {
        (self.last - self.first).saturating_add(1).saturating_sub(u128::from(self.contains(self.gateway)))
    }

    fn assigned(&self, ip: IpAddr) -> Option<Assigned> {
        let address = IpNetwork::new(ip, self.subnet.prefix()).ok()?;
        (ip != self.gateway).then_some(Assigned { address, gateway: self.gateway })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", address(self.subnet, self.first), address(self.subnet, self.last))
    }
}

/// Ranges that stand in for each other: a pod gets one address from the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Checks all sets of a configuration.
    ///
    /// # Errors
    /// What is wrong with the first bad one.
    pub fn read_all(written: &[Vec<Written>]) -> Result<Vec<Self>, Error> {
        let mut sets: Vec<Self> = Vec::with_capacity(written.len());
        let mut all: Vec<Range> = Vec::new();
        for set in written {
            let ranges = set.iter().map(Range::read).collect::<Result<Vec<_>, _>>()?;
            let family = ranges.first().ok_or(Error::Set)?.subnet.is_ipv4();
            if ranges.iter().any(|range| range.subnet.is_ipv4() != family) {
                return Err(Error::Set);
            }
            for range in &ranges {
                if let Some(other) = all.iter().find(|other| other.overlaps(range)) {
                    return Err(Error::Overlap(other.to_string(), range.to_string()));
                }
                all.push(range.clone());
            }
            sets.push(Self(ranges));
        }
        Ok(sets)
    }

    /// The address with its prefix and gateway, when this set can hand it out.
    pub fn assign(&self, address: IpAddr) -> Option<Assigned> {
        self.0.iter().find(|range| range.contains(address))?.assigned(address)
    }

    /// How many addresses the set can hand out.
    pub fn capacity(&self) -> u128 {
        self.0.iter().map(Range::capacity).fold(0, u128::saturating_add)
    }

    /// All addresses of the set, each once, beginning after this one and going round.
    pub fn addresses_after(&self, after: Option<IpAddr>) -> impl Iterator<Item = Assigned> {
        let found = after.and_then(|a| Some((self.0.iter().position(|range| range.contains(a))?, number(a))));
        let (at, position) = found.unwrap_or((0, self.0[0].first.saturating_sub(1)));
        let (before, from) = self.0.split_at(at);
        let (here, behind) =
            from.split_first().expect("a set has at least one range, and `at` is one of them");
        let whole = |range: &Range| (range.clone(), range.first, range.last);
        let rest = [(here.clone(), position.saturating_add(1), here.last)];
        let start = [(here.clone(), here.first, position)];
        let spans =
            rest.into_iter().chain(behind.iter().map(whole)).chain(before.iter().map(whole)).chain(start);
        let spans: Vec<_> = spans.collect();
        spans.into_iter().flat_map(|(range, first, last)| {
            (first..=last).filter_map(move |n| range.assigned(address(range.subnet, n)))
        })
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ranges.join(","))
    }
}

fn read_subnet(text: &str) -> Result<IpNetwork, Error> {
    // Without a slash, `IpNetwork` reads a single address.
    let network = text.contains('/').then(|| text.parse::<IpNetwork>().ok()).flatten();
    let wanted = "a network in CIDR notation";
    let subnet = network.ok_or_else(|| Error::Text { key: "subnet", text: text.to_owned(), wanted })?;
    if subnet.ip() == subnet.network() { Ok(subnet) } else { Err(Error::HostBits { subnet }) }
}

fn read_address(key: &'static str, text: Option<&str>) -> Result<Option<IpAddr>, Error> {
    let bad = |text: &str| Error::Text { key, text: text.to_owned(), wanted: "an IP address" };
    text.filter(|text| !text.is_empty()).map(|text| text.parse().map_err(|_| bad(text))).transpose()
}

/// The first and last address that a host can have: not the network's own, and not IPv4's broadcast.
fn usable(subnet: IpNetwork) -> Result<(u128, u128), Error> {
    let width = if subnet.is_ipv4() { 32 } else { 128 };
    if width - subnet.prefix() < 2 {
        return Err(Error::TooSmall { subnet });
    }
    let network = number(subnet.network());
    let end = number(subnet.broadcast());
    Ok((network + 1, if subnet.is_ipv4() { end - 1 } else { end }))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The address with this number in the subnet's family.
fn address(subnet: IpNetwork, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(v4) if subnet.is_ipv4() => Ipv4Addr::from(v4).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(subnet: &str, start: &str, end: &str, gateway: &str) -> Written {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Written {
            subnet: some(subnet),
            range_start: some(start),
            range_end: some(end),
            gateway: some(gateway),
        }
    }

    fn all(set: &RangeSet, after: Option<&str>) -> Vec<String> {
        set.addresses_after(after.map(|a| a.parse().unwrap())).map(|a| a.address.ip().to_string()).collect()
    }

    fn set(ranges: &[Written]) -> RangeSet {
        RangeSet::read_all(&[ranges.to_vec()]).unwrap().remove(0)
    }

    #[test]
    fn network_broadcast_and_gateway_are_never_handed_out() {
        assert_eq!(
            all(&set(&[written("10.0.0.0/29", "", "", "")]), None),
            ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
        );
        let with_gateway = set(&[written("10.0.0.0/29", "10.0.0.0", "10.0.0.7", "10.0.0.5")]);
        assert_eq!(all(&with_gateway, None), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6"]);
        assert_eq!(with_gateway.assign("10.0.0.5".parse().unwrap()), None);
        assert_eq!(all(&set(&[written("fd00::/126", "", "", "")]), None), ["fd00::2", "fd00::3"]);
    }

    #[test]
    fn the_search_goes_round_from_any_address() {
        let set = set(&[
            written("10.0.0.0/29", "10.0.0.2", "10.0.0.4", ""),
            written("10.1.0.0/24", "10.1.0.7", "10.1.0.8", ""),
        ]);
        assert_eq!(all(&set, Some("10.0.0.3")), ["10.0.0.4", "10.1.0.7", "10.1.0.8", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(all(&set, Some("10.1.0.8")), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.1.0.7", "10.1.0.8"]);
        assert_eq!(all(&set, Some("192.0.2.1")).len(), 5, "an address of an older configuration");
        assert_eq!(all(&set, Some("fd00::1")).len(), 5);
    }

    #[test]
    fn bad_ranges_are_named() {
        let error = |w: Written| Range::read(&w).unwrap_err().to_string();
        assert_eq!(error(written("", "", "", "")), "subnet \"\" is not a network in CIDR notation");
        assert_eq!(
            error(written("10.0.0.1", "", "", "")),
            "subnet \"10.0.0.1\" is not a network in CIDR notation"
        );
        assert_eq!(error(written("10.0.0.1/24", "", "", "")), "subnet 10.0.0.1/24 has host bits set");
        assert_eq!(
            error(written("10.0.0.0/31", "", "", "")),
            "subnet 10.0.0.0/31 is too small to hand out addresses"
        );
        assert_eq!(
            error(written("10.0.0.0/24", "10.0.1.1", "", "")),
            "rangeStart 10.0.1.1 is not in subnet 10.0.0.0/24"
        );
        assert_eq!(
            error(written("10.0.0.0/24", "", "fd00::1", "")),
            "rangeEnd fd00::1 is not in subnet 10.0.0.0/24"
        );
        assert_eq!(
            error(written("10.0.0.0/24", "10.0.0.9", "10.0.0.8", "")),
            "range 10.0.0.9-10.0.0.8 is empty"
        );
        assert_eq!(error(written("10.0.0.0/24", "", "", "x")), "gateway \"x\" is not an IP address");
    }

    #[test]
    fn sets_of_both_families_or_with_common_addresses_are_refused() {
        let (four, six) = (written("10.0.0.0/24", "", "", ""), written("fd00::/64", "", "", ""));
        assert_eq!(RangeSet::read_all(&[vec![]]), Err(Error::Set));
        assert_eq!(RangeSet::read_all(&[vec![four.clone(), six.clone()]]), Err(Error::Set));
        assert_eq!(RangeSet::read_all(&[vec![four.clone()], vec![six]]).unwrap().len(), 2);
        let overlap =
            RangeSet::read_all(&[vec![four.clone()], vec![written("10.0.0.0/16", "", "10.0.0.1", "")]]);
        assert_eq!(
            overlap.unwrap_err().to_string(),
            "ranges 10.0.0.1-10.0.0.254 and 10.0.0.1-10.0.0.1 overlap"
        );
    }
}
