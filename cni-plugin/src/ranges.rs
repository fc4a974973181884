//! Which addresses there are to hand out: ranges and sets of ranges, with the meaning that `host-local` gives them.
//!
//! A pod gets one address from each set; the ranges of a set stand in for each other. It does not know what is taken.
//! Invariant: network, broadcast (IPv4), gateway and excluded addresses are never handed out; the ranges of one configuration
//! do not overlap, and those of one set are of one family.

use crate::ipam::{Assigned, number};
use ipnetwork::IpNetwork;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most addresses that one attachment has; what one change of the lease table must hold follows from it.
pub const SETS_MAX: usize = 16;

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
    /// More sets than a pod can have addresses.
    #[error("{sets} range sets; a pod gets an address from each, and at most 16")]
    TooMany {
        /// How many there are.
        sets: usize,
    },
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
    /// Addresses and networks that are not handed out, though they lie in the range.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// Addresses to hand out, from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    subnet: IpNetwork,
    first: u128,
    last: u128,
    gateway: IpAddr,
    /// First and last of what is not handed out, the gateway among it; in order, and apart.
    reserved: Vec<(u128, u128)>,
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
        let gateway = gateway.unwrap_or_else(|| address(subnet, lowest));
        let mut reserved =
            written.exclude.iter().map(|text| read_excluded(text, subnet)).collect::<Result<Vec<_>, _>>()?;
        reserved.extend((gateway.is_ipv4() == subnet.is_ipv4()).then(|| (number(gateway), number(gateway))));
        let range = Self { subnet, first, last, gateway, reserved: join(reserved) };
        if first > last { Err(Error::Empty(range.to_string())) } else { Ok(range) }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.subnet.is_ipv4() && (self.first..=self.last).contains(&number(address))
    }

    /// The reserved addresses around this one.
    fn reserved_at(&self, number: u128) -> Option<(u128, u128)> {
        let from = self.reserved.partition_point(|(_, last)| *last < number);
        self.reserved.get(from).copied().filter(|(first, _)| *first <= number)
    }

    /// The first address from this number on that can be handed out.
    pub fn usable_from(&self, from: u128) -> Option<IpAddr> {
        let mut at = from.max(self.first);
        while let Some((_, last)) = self.reserved_at(at) {
            at = last.checked_add(1)?;
        }
        (at <= self.last).then(|| address(self.subnet, at))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.subnet.is_ipv4() == other.subnet.is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }

    /// How many addresses can be handed out.
    fn capacity(&self) -> u128 {
        let inside = |(first, last): &(u128, u128)| {
            let (first, last) = ((*first).max(self.first), (*last).min(self.last));
            if first <= last { last - first + 1 } else { 0 }
        };
        let reserved = self.reserved.iter().map(inside).fold(0, u128::saturating_add);
        (self.last - self.first).saturating_add(1).saturating_sub(reserved)
    }

    /// The address with its prefix and gateway, when this range can hand it out.
    pub fn assign(&self, ip: IpAddr) -> Option<Assigned> {
        let usable = self.contains(ip) && self.reserved_at(number(ip)).is_none();
        let address = IpNetwork::new(ip, self.subnet.prefix()).ok()?;
        usable.then_some(Assigned { address, gateway: self.gateway })
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
        if written.len() > SETS_MAX {
            return Err(Error::TooMany { sets: written.len() });
        }
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

    /// The ranges, in their order.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// The address with its prefix and gateway, when this set can hand it out.
    pub fn assign(&self, address: IpAddr) -> Option<Assigned> {
        self.0.iter().find_map(|range| range.assign(address))
    }

    /// How many addresses the set can hand out.
    pub fn capacity(&self) -> u128 {
        self.0.iter().map(Range::capacity).fold(0, u128::saturating_add)
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

/// First and last of what a text excludes.
fn read_excluded(text: &str, subnet: IpNetwork) -> Result<(u128, u128), Error> {
    let bad = || Error::Text { key: "exclude", text: text.to_owned(), wanted: "an address or network" };
    let excluded = text.parse::<IpNetwork>().map_err(|_| bad())?;
    let (first, last) = (excluded.network(), excluded.broadcast());
    if excluded.is_ipv4() != subnet.is_ipv4() || !(subnet.contains(first) || excluded.contains(subnet.ip())) {
        return Err(Error::Outside { key: "exclude", address: first, subnet });
    }
    Ok((number(first), number(last)))
}

/// The same spans in order, those that touch or overlap as one.
fn join(mut spans: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    spans.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
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
            exclude: Vec::new(),
        }
    }

    fn all(set: &RangeSet) -> Vec<String> {
        let from = |range: &Range, from| range.usable_from(from).map(|ip| (ip.to_string(), number(ip) + 1));
        let each = |range: &Range| {
            let steps = std::iter::successors(from(range, 0), |(_, next)| from(range, *next));
            steps.map(|(ip, _)| ip).collect::<Vec<_>>()
        };
        set.ranges().iter().flat_map(each).collect()
    }

    fn set(ranges: &[Written]) -> RangeSet {
        RangeSet::read_all(&[ranges.to_vec()]).unwrap().remove(0)
    }

    #[test]
    fn network_broadcast_and_gateway_are_never_handed_out() {
        assert_eq!(
            all(&set(&[written("10.0.0.0/29", "", "", "")])),
            ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
        );
        let with_gateway = set(&[written("10.0.0.0/29", "10.0.0.0", "10.0.0.7", "10.0.0.5")]);
        assert_eq!(all(&with_gateway), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6"]);
        assert_eq!(with_gateway.assign("10.0.0.5".parse().unwrap()), None);
        assert_eq!(all(&set(&[written("fd00::/126", "", "", "")])), ["fd00::2", "fd00::3"]);
    }

    #[test]
    fn excluded_addresses_are_not_handed_out_and_not_counted() {
        let exclude = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let written = |list: &[&str]| Written {
            exclude: exclude(list),
            ..written("10.0.0.0/28", "10.0.0.4", "10.0.0.14", "")
        };
        let set = set(&[written(&["10.0.0.0/29", "10.0.0.9", "10.0.0.10/32", "10.0.0.14"])]);
        assert_eq!(all(&set), ["10.0.0.8", "10.0.0.11", "10.0.0.12", "10.0.0.13"]);
        assert_eq!(set.capacity(), 4);
        assert_eq!(set.assign("10.0.0.9".parse().unwrap()), None);
        let whole = RangeSet::read_all(&[vec![written(&["10.0.0.0/8"])]]).unwrap();
        assert_eq!((whole[0].capacity(), all(&whole[0]).len()), (0, 0));
        for (wrong, says) in [
            ("10.0.1.0/29", "exclude 10.0.1.0 is not in subnet 10.0.0.0/28"),
            ("fd00::1", "exclude fd00::1 is not in subnet 10.0.0.0/28"),
            ("10.0.0", "exclude \"10.0.0\" is not an address or network"),
        ] {
            assert_eq!(Range::read(&written(&[wrong])).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn sparse_ranges_cost_nothing_by_their_size() {
        let set = set(&[written("fd00::/64", "", "", ""), written("fe00::/7", "fe00::", "", "")]);
        assert_eq!(set.capacity(), u128::from(u64::MAX) - 1 + ((1 << 121) - 1) - 1);
        assert_eq!(
            set.ranges()[1].usable_from(number("ffff::".parse().unwrap())),
            Some("ffff::".parse().unwrap())
        );
        assert_eq!(set.ranges()[0].usable_from(u128::MAX), None);
    }

    #[test]
    fn more_sets_than_a_pod_can_have_addresses_are_refused() {
        let sets: Vec<_> = (0..17).map(|i| vec![written(&format!("10.{i}.0.0/24"), "", "", "")]).collect();
        assert_eq!(RangeSet::read_all(&sets), Err(Error::TooMany { sets: 17 }));
        assert_eq!(RangeSet::read_all(&sets[1..]).unwrap().len(), 16);
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
