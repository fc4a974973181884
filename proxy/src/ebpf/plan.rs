//! Frontends into what sockets are told: which of them sockets serve, and with which endpoints.
//!
//! A client that has a socket here is inside the cluster: a pod of this node, or the node. What is left out is served by the nft
//! tables, which have everything; so leaving out is always right, and only costs what packets cost.

use crate::frontends::{Affinity, Backends, Endpoint, Frontend, IpFamily, Place, Reach};
use crate::model::{Policy, Protocol};
use crate::nft::{Settings, settings::Locality};
use heddle_ebpf::abi;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;
use std::sync::Arc;

/// What sockets are told of a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leads {
    /// Where new connections go.
    pub endpoints: Arc<[Endpoint]>,
    /// Clients keep their endpoint: the number under which they are remembered, and for how many seconds.
    pub affinity: Option<(NonZeroU64, u32)>,
    /// Without endpoints, connections are refused.
    pub refuses: bool,
    /// It is for the node's own processes alone.
    pub not_for_pods: bool,
}

impl Leads {
    /// What sockets are told of a frontend; `None` where packets are to decide. `knows_pods` says whether a pod's packet
    /// could be told from one from outside.
    pub fn of(
        frontend: &Frontend,
        backends: &Backends,
        settings: &Settings,
        knows_pods: bool,
    ) -> Option<Self> {
        let is_cluster_ip = backends.reach == Reach::ClusterIp;
        let by_packets = frontend.protocol == Protocol::Sctp
            // A socket that is not bound has no source yet.
            || !backends.sources.is_empty()
            || is_cluster_ip && settings.masquerade_all;
        if by_packets {
            return None;
        }
        let internal = is_cluster_ip && backends.policy == Policy::Local;
        let endpoints = if internal { &backends.local } else { &backends.cluster };
        let refuses = backends.cluster.is_empty();
        if endpoints.is_empty() && !refuses || endpoints.len() > usize::from(u16::MAX) {
            return None;
        }
        let external_local = !is_cluster_ip && backends.policy == Policy::Local;
        Some(Self {
            endpoints: endpoints.clone(),
            affinity: backends
                .affinity
                .as_ref()
                .map(|affinity| (number(affinity, internal), affinity.seconds.get())),
            refuses,
            not_for_pods: external_local && !knows_pods,
        })
    }

    /// The row's flags.
    pub fn flags(&self) -> u32 {
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        flag(self.refuses, abi::REFUSES) | flag(self.not_for_pods, abi::NOT_FOR_PODS)
    }
}

/// Whether a pod's packet could be told from one from outside, where the node's pods have these ranges.
pub fn knows_pods(locality: &Locality, pod_ranges: &[IpNetwork], family: IpFamily) -> bool {
    let of_family =
        |networks: &[IpNetwork]| networks.iter().any(|network| IpFamily::of(network.ip()) == family);
    match locality {
        Locality::Unknown => false,
        Locality::Interface(_) => true,
        Locality::Networks(networks) => of_family(networks),
        Locality::NodeNetworks => of_family(pod_ranges),
    }
}

/// The number of a Service's port and list, the same after every start, so that clients are remembered through it (FNV-1a: two of
/// 100 000 names meet once in three billion clusters, and then share what they remember as far as both have the endpoint).
fn number(affinity: &Affinity, internal: bool) -> NonZeroU64 {
    let seed = if internal { 0x9ae1_6a3b_2f90_404f } else { 0xcbf2_9ce4_8422_2325 };
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    NonZeroU64::new(affinity.of.bytes().fold(seed, hash)).unwrap_or(NonZeroU64::MIN)
}

/// An address as the maps have it.
pub fn address(address: IpAddr) -> abi::Address {
    let v6 = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let octets = v6.octets();
    let word = |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
    [word(0), word(4), word(8), word(12)]
}

/// The other way round.
pub fn ip(address: abi::Address) -> IpAddr {
    let mut octets = [0; 16];
    for (i, word) in address.iter().enumerate() {
        octets[i * 4..][..4].copy_from_slice(&word.to_ne_bytes());
    }
    let v6 = Ipv6Addr::from(octets);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), |v4: Ipv4Addr| IpAddr::V4(v4))
}

/// A frontend as the maps have it; `None` for SCTP.
pub fn key(frontend: &Frontend) -> Option<abi::Frontend> {
    let protocol = match frontend.protocol {
        Protocol::Tcp => abi::TCP,
        Protocol::Udp => abi::UDP,
        Protocol::Sctp => return None,
    };
    let (address, scope) = match frontend.place {
        Place::Address(address) => (self::address(address), abi::HERE),
        Place::Node(IpFamily::V4) => ([0; 4], abi::NODE_V4),
        Place::Node(IpFamily::V6) => ([0; 4], abi::NODE_V6),
    };
    Some(abi::Frontend { address, port: frontend.port.to_be(), protocol, scope })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn endpoints(lasts: &[u8]) -> Arc<[Endpoint]> {
        lasts
            .iter()
            .map(|last| Endpoint { address: [10, 244, 1, *last].into(), port: 8080, local: true })
            .collect()
    }

    fn frontend() -> Frontend {
        Frontend { place: Place::Address([10, 96, 0, 1].into()), protocol: Protocol::Tcp, port: 80 }
    }

    fn backends(reach: Reach, policy: Policy, cluster: &[u8], local: &[u8]) -> Backends {
        Backends {
            reach,
            policy,
            cluster: endpoints(cluster),
            local: endpoints(local),
            serving: Arc::default(),
            sources: Arc::default(),
            affinity: None,
        }
    }

    fn leads(backends: &Backends, knows_pods: bool) -> Option<(usize, u32)> {
        let leads = Leads::of(&frontend(), backends, &Settings::default(), knows_pods)?;
        Some((leads.endpoints.len(), leads.flags()))
    }

    /// kp:P10 kp:D1 kp:D2: a client with a socket here is inside, and takes the cluster's endpoints of what is external.
    #[test]
    fn each_policy_has_its_list() {
        for (reach, policy, cluster, local, expected) in [
            (Reach::ClusterIp, Policy::Cluster, &[1, 2][..], &[][..], Some((2, 0))),
            (Reach::ClusterIp, Policy::Local, &[1, 2], &[1], Some((1, 0))),
            (Reach::ClusterIp, Policy::Local, &[1, 2], &[], None),
            (Reach::ClusterIp, Policy::Cluster, &[], &[], Some((0, abi::REFUSES))),
            (Reach::NodePort, Policy::Local, &[1, 2], &[], Some((2, 0))),
            (Reach::LoadBalancer, Policy::Local, &[1, 2], &[1], Some((2, 0))),
            (Reach::ExternalIp, Policy::Cluster, &[], &[], Some((0, abi::REFUSES))),
        ] {
            assert_eq!(leads(&backends(reach, policy, cluster, local), true), expected, "{reach} {policy:?}");
        }
        let local = backends(Reach::NodePort, Policy::Local, &[1, 2], &[]);
        assert_eq!(leads(&local, false), Some((2, abi::NOT_FOR_PODS)));
    }

    #[test]
    fn what_only_a_packet_tells_is_left_to_packets() {
        let plain = backends(Reach::LoadBalancer, Policy::Cluster, &[1], &[]);
        let filtered = Backends {
            sources: [[10, 0, 0, 0].map(u8::from)].map(|ip| IpAddr::from(ip).into()).into(),
            ..plain.clone()
        };
        assert_eq!(leads(&filtered, true), None);
        let sctp = Frontend { protocol: Protocol::Sctp, ..frontend() };
        assert_eq!(Leads::of(&sctp, &plain, &Settings::default(), true), None);
        let all = Settings { masquerade_all: true, ..Settings::default() };
        let cluster_ip = backends(Reach::ClusterIp, Policy::Cluster, &[1], &[]);
        assert_eq!(Leads::of(&frontend(), &cluster_ip, &all, true), None);
        assert!(Leads::of(&frontend(), &plain, &all, true).is_some());
    }

    /// kp:E1: all frontends of a port share what is remembered, and its two lists do not.
    #[test]
    fn a_port_has_one_number_in_each_list() {
        let sticky = |of: &str, reach, policy| {
            let affinity = Affinity { of: of.into(), seconds: NonZeroU32::new(60).unwrap() };
            let backends = Backends { affinity: Some(affinity), ..backends(reach, policy, &[1, 2], &[1]) };
            Leads::of(&frontend(), &backends, &Settings::default(), true).unwrap().affinity.unwrap().0
        };
        let cluster = sticky("a", Reach::ClusterIp, Policy::Cluster);
        assert_eq!(cluster, sticky("a", Reach::NodePort, Policy::Local));
        assert_ne!(cluster, sticky("a", Reach::ClusterIp, Policy::Local));
        assert_ne!(cluster, sticky("b", Reach::ClusterIp, Policy::Cluster));
    }

    #[test]
    fn addresses_come_back_as_they_were() {
        for text in ["10.96.0.1", "fd00:96::1", "::", "0.0.0.0"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(ip(super::address(address)), address);
        }
    }
}
