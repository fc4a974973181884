//! What a pod claims of the node: a port, of one address or of all. Pure.
//!
//! Invariant: two claims conflict exactly when some packet is for both.

use super::Error;
use crate::config::runtime::PortMapping;
use heddle_netlink::Protocol;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A port of the node that leads to a pod. Its family is that of the pod's address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The IP protocol's number.
    pub protocol: u8,
    /// The node's port.
    pub port: u16,
    /// The node's address; all of the family when absent.
    pub address: Option<IpAddr>,
    /// The pod's address and port.
    pub to: SocketAddr,
}

impl Claim {
    /// Whether some packet would be for both, as the scheduler of Kubernetes has it: all addresses conflict with every one.
    pub fn conflicts(&self, other: &Self) -> bool {
        let same = |a: IpAddr, b: IpAddr| a == b;
        (self.protocol, self.port, self.to.is_ipv4()) == (other.protocol, other.port, other.to.is_ipv4())
            && self.address.zip(other.address).is_none_or(|(mine, theirs)| same(mine, theirs))
    }

    /// Whether the node itself reaches the port by a loopback address.
    pub fn is_on_loopback(&self) -> bool {
        self.to.is_ipv4() && self.address.is_none_or(|address| address.is_loopback())
    }
}

/// `tcp port 8080`, with the address where there is one.
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == self.protocol);
        match protocol {
            Some(protocol) => write!(f, "{protocol} port {}", self.port)?,
            None => write!(f, "port {} of protocol {}", self.port, self.protocol)?,
        }
        self.address.map_or(Ok(()), |address| write!(f, " of {address}"))
    }
}

/// What a pod with these addresses claims: by its first address of each family.
///
/// # Errors
/// When a mapping can lead nowhere, or contradicts another one of the same pod.
pub fn claims(mappings: &[PortMapping], pod: &[IpAddr]) -> Result<Vec<Claim>, Error> {
    let mut claims: Vec<Claim> = Vec::new();
    for mapping in mappings {
        let found = claims_of(mapping, pod)?;
        for claim in found {
            match claims.iter().find(|other| other.conflicts(&claim)) {
                Some(same) if *same == claim => {}
                Some(_) => return Err(Error::Twice { claim: claim.to_string() }),
                None => claims.push(claim),
            }
        }
    }
    Ok(claims)
}

fn claims_of(mapping: &PortMapping, pod: &[IpAddr]) -> Result<Vec<Claim>, Error> {
    let wanted = mapping.address.map(|address| address.to_canonical());
    if wanted == Some(Ipv6Addr::LOCALHOST.into()) {
        return Err(Error::Loopback { port: mapping.host });
    }
    let first = |v4: bool| pod.iter().find(|address| address.is_ipv4() == v4);
    let fits = |address: &&IpAddr| wanted.is_none_or(|wanted| wanted.is_ipv4() == address.is_ipv4());
    let claim = |address: &IpAddr| Claim {
        protocol: mapping.protocol.number(),
        port: mapping.host,
        address: wanted.filter(|wanted| !wanted.is_unspecified()),
        to: SocketAddr::new(*address, mapping.container),
    };
    let found: Vec<_> = [true, false].into_iter().filter_map(first).filter(fits).map(claim).collect();
    match wanted {
        Some(address) if found.is_empty() => Err(Error::Family { address, port: mapping.host }),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(protocol: Protocol, address: Option<&str>) -> PortMapping {
        let address = address.map(|address| address.parse().unwrap());
        PortMapping { host: 8080, container: 80, protocol, address }
    }

    fn claim(protocol: Protocol, address: Option<&str>) -> Vec<Claim> {
        claims(&[mapping(protocol, address)], &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()])
            .unwrap()
    }

    /// cni:#17: as Kubernetes' HostPort conformance test and its scheduler have it.
    #[test]
    fn a_port_conflicts_with_itself_but_not_on_another_address_or_protocol() {
        let conflict = |a: &[Claim], b: &[Claim]| {
            let found = a.iter().any(|a| b.iter().any(|b| a.conflicts(b)));
            assert_eq!(found, b.iter().any(|b| a.iter().any(|a| b.conflicts(a))), "either way");
            found
        };
        let (everywhere, one) = (claim(Protocol::Tcp, None), claim(Protocol::Tcp, Some("192.0.2.1")));
        assert!(conflict(&everywhere, &everywhere) && conflict(&one, &one));
        assert!(conflict(&everywhere, &one));
        assert!(conflict(&everywhere, &claim(Protocol::Tcp, Some("2001:db8::1"))));
        assert!(conflict(&everywhere, &claim(Protocol::Tcp, Some("0.0.0.0"))));
        assert!(!conflict(&one, &claim(Protocol::Tcp, Some("192.0.2.2"))));
        assert!(!conflict(&one, &claim(Protocol::Udp, Some("192.0.2.1"))));
        assert!(!conflict(&everywhere, &claim(Protocol::Udp, None)));
        assert!(!conflict(&one, &claim(Protocol::Tcp, Some("::"))));
    }

    #[test]
    fn an_address_chooses_the_family_and_none_takes_both() {
        let to = |address| claim(Protocol::Tcp, address).iter().map(|c| c.to.to_string()).collect::<Vec<_>>();
        assert_eq!(to(None), ["10.0.0.2:80", "[fd00::2]:80"]);
        assert_eq!(to(Some("192.0.2.1")), ["10.0.0.2:80"]);
        assert_eq!(to(Some("::ffff:192.0.2.1")), ["10.0.0.2:80"]);
        assert_eq!(to(Some("::")), ["[fd00::2]:80"]);
        assert_eq!(claim(Protocol::Tcp, Some("::"))[0].address, None);
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let four = ["10.0.0.2".parse().unwrap()];
        let error = |mappings: &[PortMapping]| claims(mappings, &four).unwrap_err().to_string();
        assert!(error(&[mapping(Protocol::Tcp, Some("2001:db8::1"))]).contains("2001:db8::1"));
        assert!(error(&[mapping(Protocol::Tcp, Some("::1"))]).contains("::1"));
        let (one, other) =
            (mapping(Protocol::Tcp, None), PortMapping { container: 81, ..mapping(Protocol::Tcp, None) });
        assert!(error(&[one, other]).contains("tcp port 8080"));
        assert_eq!(claims(&[one, one], &four).unwrap().len(), 1);
    }
}
