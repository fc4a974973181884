//! How a server is set up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnetwork::IpNetwork;

/// How to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// HTTP without TLS and without a token.
    pub plain: bool,
    /// The address that clients reach the listener at; needed where it listens on all.
    pub advertise: Option<IpAddr>,
    /// Where cluster IPs come from, the preferred family first; at most one range a family.
    pub service_networks: Vec<IpNetwork>,
    /// Where node ports come from.
    pub node_ports: RangeInclusive<u16>,
    /// How often watches that want bookmarks get one.
    pub bookmark_interval: Duration,
    /// How many changes are remembered before the oldest are compacted away.
    pub history_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        let ipv4 = IpNetwork::new(Ipv4Addr::new(10, 96, 0, 0).into(), 16);
        let ipv6 = IpNetwork::new(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0).into(), 112);
        Self {
            plain: false,
            advertise: None,
            service_networks: ipv4.into_iter().chain(ipv6).collect(),
            node_ports: 30_000..=32_767,
            bookmark_interval: Duration::from_secs(60),
            history_limit: 100_000,
        }
    }
}
