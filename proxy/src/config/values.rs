//! How single values of the file are written.
//!
//! Not which field may have which: that is [`validate`](super::validate). Pure.

use crate::convert::{parse_address, parse_prefix};
use ipnetwork::IpNetwork;
use std::net::SocketAddr;

/// The word that stands for the node's own addresses in `nodePortAddresses`.
pub(super) const PRIMARY: &str = "primary";

/// What a quantity may end with.
const UNITS: [&str; 16] =
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The networks of `clusterCIDR`, which [`validate`](super::validate::validate) has found to be some.
pub(super) fn cluster_cidrs(text: &str) -> impl Iterator<Item = Option<IpNetwork>> {
    text.split(',').filter(move |_| !text.is_empty()).map(|cidr| parse_prefix(cidr.trim()))
}

/// Reads the address of a server.
///
/// # Errors
/// What it must be.
pub fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("must be IP:port")?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').ok_or("must be IP:port")?,
        None if host.contains(':') => return Err("must be IP:port"),
        None => host,
    };
    let ip = parse_address(host).ok_or("must be a valid IP")?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or("must be a valid port")?;
    Ok(SocketAddr::new(ip, port))
}

/// Whether it is one of Kubernetes' quantities: a decimal number, and what it is multiplied by.
pub(super) fn is_quantity(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, unit) = digits.split_at(end);
    let exponent = unit.strip_prefix(['e', 'E']).is_some_and(|power| power.parse::<i16>().is_ok());
    let is_number = number.contains(|c: char| c.is_ascii_digit()) && number.matches('.').count() <= 1;
    is_number && (exponent || UNITS.contains(&unit))
}

/// Whether it is a range of ports, or none: `N`, `N-M` or `N+COUNT`.
pub(super) fn is_port_range(range: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u16>().ok();
    if range.is_empty() {
        return true;
    }
    match (range.split_once('-'), range.split_once('+')) {
        (Some((low, high)), _) => number(low).zip(number(high)).is_some_and(|(low, high)| low <= high),
        (_, Some((base, count))) => {
            number(base).zip(number(count)).is_some_and(|(base, count)| base.checked_add(count).is_some())
        }
        _ => number(range).is_some(),
    }
}
