//! Which host ports a pod has, as further names of the link that leads to it. Pure.
//!
//! The table's elements are what counts. But `nft flush ruleset` takes those of all pods, and who flushes asks nobody: so the
//! link says it, too, in words that go with it, and whoever finds the table broken can write it anew
//! (docs/decisions/host-ports.md). `hdl0123456789ab:10.244.1.2=t8080-80,u53-5353@192.0.2.1`: the link's own name, since the kernel
//! gives a name to one link only; the pod's address; protocol, the node's port, the pod's port, and the node's address where it
//! is one alone. Invariant: what is written is read back as the same claims.

use super::claim::Claim;
use heddle_netlink::Protocol;
use heddle_netlink::link::FURTHER_NAME_MAX;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The kernel takes about 490 further names for a link (64 KiB, counted at their longest). That is for more than two thousand
/// ports; those beyond come back with their pod.
const NAMES_MAX: usize = 400;

/// The names that say a pod's claims.
pub fn write(link: &str, claims: &[Claim]) -> Vec<String> {
    let mut by_pod = BTreeMap::<IpAddr, Vec<String>>::new();
    for claim in claims {
        by_pod.entry(claim.to.ip()).or_default().extend(write_claim(claim));
    }
    let mut names = Vec::new();
    for (pod, words) in by_pod {
        let mut name = String::new();
        for word in words {
            if !name.is_empty() && name.len() + 1 + word.len() > FURTHER_NAME_MAX {
                names.push(std::mem::take(&mut name));
            }
            let before = if name.is_empty() { format!("{link}:{pod}=") } else { ",".to_owned() };
            name += &(before + &word);
        }
        names.push(name);
    }
    names.truncate(NAMES_MAX);
    names
}

/// The claims that a link's further names say; other names say none.
pub fn read<'a>(link: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<Claim> {
    let claims = |name: &'a str| {
        let (pod, words) = name.strip_prefix(link)?.strip_prefix(':')?.split_once('=')?;
        let pod: IpAddr = pod.parse().ok()?;
        Some(words.split(',').filter_map(move |word| read_claim(pod, word)))
    };
    names.into_iter().filter_map(claims).flatten().collect()
}

fn letter(protocol: Protocol) -> char {
    match protocol {
        Protocol::Tcp => 't',
        Protocol::Udp => 'u',
        Protocol::Sctp => 's',
    }
}

fn write_claim(claim: &Claim) -> Option<String> {
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == claim.protocol)?;
    let address = claim.address.map(|address| format!("@{address}")).unwrap_or_default();
    Some(format!("{}{}-{}{address}", letter(protocol), claim.port, claim.to.port()))
}

fn read_claim(pod: IpAddr, word: &str) -> Option<Claim> {
    let protocol = Protocol::ALL.into_iter().find(|protocol| word.starts_with(letter(*protocol)))?;
    let (ports, address) = match word[1..].split_once('@') {
        Some((ports, address)) => (ports, Some(address.parse().ok()?)),
        None => (&word[1..], None),
    };
    let (port, to) = ports.split_once('-')?;
    let to = SocketAddr::new(pod, to.parse().ok()?);
    Some(Claim { protocol: protocol.number(), port: port.parse().ok()?, address, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINK: &str = "hdl0123456789ab";

    fn claim(protocol: Protocol, port: u16, address: Option<&str>, to: &str) -> Claim {
        let address = address.map(|address| address.parse().unwrap());
        Claim { protocol: protocol.number(), port, address, to: to.parse().unwrap() }
    }

    #[test]
    fn a_name_says_ports_and_pod() {
        let claims = [
            claim(Protocol::Tcp, 8080, None, "10.244.1.2:80"),
            claim(Protocol::Udp, 53, Some("192.0.2.1"), "10.244.1.2:5353"),
            claim(Protocol::Tcp, 8080, None, "[fd00::2]:80"),
        ];
        let names = write(LINK, &claims);
        assert_eq!(
            names,
            ["hdl0123456789ab:10.244.1.2=t8080-80,u53-5353@192.0.2.1", "hdl0123456789ab:fd00::2=t8080-80"]
        );
        assert_eq!(read(LINK, names.iter().map(String::as_str)), claims);
    }

    #[test]
    fn names_that_say_something_else_say_no_ports() {
        for name in
            ["pods:10.244.1.2", "hdl0123456789ab", "hdl0123456789ab:x=t1-1", "hdl0123456789ab:10.0.0.1=t1"]
        {
            assert_eq!(read(LINK, [name]), []);
        }
        assert_eq!(read("hdl0123456789ac", ["hdl0123456789ab:10.0.0.1=t1-1"]), []);
    }

    proptest! {
        #[test]
        fn any_ports_are_read_back_from_names_that_the_kernel_takes(
            all in proptest::collection::vec((0..3_usize, any::<[u16; 2]>(), any::<Option<[u8; 4]>>(), any::<bool>()), 1..200),
        ) {
            let pods = ["10.244.1.2", "fd00:1111:2222:3333:4444:5555:6666:7777"].map(|pod| pod.parse::<IpAddr>().unwrap());
            let address = |bytes: [u8; 4], v4: bool| match v4 {
                true => IpAddr::from(bytes),
                false => IpAddr::from([bytes; 4].concat().try_into().unwrap_or([0_u8; 16])),
            };
            let claim = |(protocol, [port, to], bytes, v4): (usize, [u16; 2], Option<[u8; 4]>, bool)| Claim {
                protocol: Protocol::ALL[protocol].number(),
                port,
                address: bytes.map(|bytes| address(bytes, v4)),
                to: SocketAddr::new(pods[usize::from(!v4)], to),
            };
            let mut claims: Vec<Claim> = all.into_iter().map(claim).collect();
            let names = write(LINK, &claims);
            prop_assert!(names.iter().all(|name| name.len() <= FURTHER_NAME_MAX));
            claims.sort();
            let mut back = read(LINK, names.iter().map(String::as_str));
            back.sort();
            prop_assert_eq!(back, claims);
        }
    }
}
