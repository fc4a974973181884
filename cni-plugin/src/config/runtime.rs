//! `runtimeConfig`: what the runtime asks for this one container, and what stands in for it in `args.cni` and `CNI_ARGS`.
//!
//! Capabilities that nobody defined are ignored: only those arrive that the configuration declares.

use crate::args::Args;
use crate::dns::Dns;
use crate::ranges::Written;
use crate::spec::Error;
use heddle_netlink::Protocol;
use heddle_netlink::link::{BadMac, Mac};
use serde::Deserialize;
use std::net::IpAddr;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Keys {
    #[serde(flatten)]
    pub(super) wishes: Wishes,
    pub(super) ip_ranges: Vec<Vec<Written>>,
    pub(super) dns: DnsKeys,
    port_mappings: Vec<PortKeys>,
    bandwidth: Option<Bandwidth>,
}

/// What `args.cni` may say, too.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wishes {
    ips: Vec<String>,
    mac: String,
}

/// `dns` has other names here than in configurations and results.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct DnsKeys {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PortKeys {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

/// A port of the node that leads to one of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// The node's port.
    pub host: u16,
    /// The container's port.
    pub container: u16,
    /// What is sent to it.
    pub protocol: Protocol,
    /// The node's address; all of them when absent.
    pub address: Option<IpAddr>,
}

/// How much a container may send and receive, in bits; zero is without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// To the container, in bits a second.
    pub ingress_rate: u64,
    /// To the container at once, in bits.
    pub ingress_burst: u64,
    /// From the container, in bits a second.
    pub egress_rate: u64,
    /// From the container at once, in bits.
    pub egress_burst: u64,
}

impl DnsKeys {
    pub(super) fn meant(&self) -> Dns {
        let Self { servers, searches, options } = self;
        let (nameservers, search, options) = (servers.clone(), searches.clone(), options.clone());
        Dns { nameservers, search, options, domain: String::new() }
    }
}

impl Keys {
    /// The ports; one without a port of the node is the runtime's way to tell that a container listens.
    pub(super) fn port_mappings(&self) -> Result<Vec<PortMapping>, Error> {
        self.port_mappings.iter().filter(|keys| keys.host_port != 0).map(PortKeys::read).collect()
    }

    /// The limits for this container, else those that are configured for all.
    pub(super) fn bandwidth(&self, configured: Bandwidth) -> Result<Option<Bandwidth>, Error> {
        let none = Bandwidth::default();
        let limits = self.bandwidth.filter(|limits| *limits != none).unwrap_or(configured);
        if limits == none {
            return Ok(None);
        }
        for (which, rate, burst) in [
            ("ingress", limits.ingress_rate, limits.ingress_burst),
            ("egress", limits.egress_rate, limits.egress_burst),
        ] {
            if (rate == 0) != (burst == 0) {
                let problem = format!("{which}Rate is {rate} and {which}Burst is {burst}: both or none");
                return Err(Error::Invalid { key: "bandwidth", problem });
            }
        }
        Ok(Some(limits))
    }
}

impl PortKeys {
    fn read(&self) -> Result<PortMapping, Error> {
        let invalid = |problem| Error::Invalid { key: "runtimeConfig.portMappings", problem };
        let port = |key: &str, number: i64| {
            let port = u16::try_from(number).ok().filter(|port| *port != 0);
            port.ok_or_else(|| invalid(format!("{key} {number} is not between 1 and 65535")))
        };
        let protocol = match self.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(invalid(format!("protocol {:?} is not tcp, udp or sctp", self.protocol))),
        };
        let address = match &*self.host_ip {
            "" => None,
            text => Some(text.parse().map_err(|_| invalid(format!("hostIP {text:?} is not an IP address")))?),
        };
        let (host, container) =
            (port("hostPort", self.host_port)?, port("containerPort", self.container_port)?);
        Ok(PortMapping { host, container, protocol, address })
    }
}

/// From the first place that has any: the capability, `args.cni`, and the deprecated `CNI_ARGS`.
pub(super) fn wanted_addresses(places: [&Wishes; 2], args: &Args) -> Result<Vec<IpAddr>, Error> {
    let listed = places.into_iter().map(|wishes| &wishes.ips).find(|ips| !ips.is_empty());
    let texts: Vec<&str> = match listed {
        Some(list) => list.iter().map(String::as_str).collect(),
        None => args.ip.iter().flat_map(|list| list.split(',')).collect(),
    };
    let read = |text: &str| {
        let address = text.split('/').next().and_then(|address| address.parse().ok());
        address
            .ok_or_else(|| Error::Invalid { key: "ips", problem: format!("{text:?} is not an IP address") })
    };
    texts.into_iter().map(read).collect()
}

/// As [`wanted_addresses`].
pub(super) fn wanted_mac(places: [&Wishes; 2], args: &Args) -> Result<Option<Mac>, Error> {
    let written = places.into_iter().map(|wishes| wishes.mac.as_str()).find(|mac| !mac.is_empty());
    let mac = written.or(args.mac.as_deref()).map(str::parse).transpose();
    mac.map_err(|e: BadMac| Error::Invalid { key: "mac", problem: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tidy;
    use serde_json::{Value, json};

    fn keys(mut value: Value) -> Keys {
        tidy(value.as_object_mut().unwrap());
        serde_json::from_value(value).unwrap()
    }

    /// cni:1.6: as containerd sends them, in Go's spelling, with an empty address for all of them.
    #[test]
    fn what_containerd_sends_is_understood() {
        let keys = keys(json!({
            "portMappings": [
                {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
                {"HostPort": 53, "ContainerPort": 5353, "Protocol": "UDP", "HostIP": "127.0.0.1"},
                {"HostPort": 0, "ContainerPort": 9, "Protocol": "sctp", "HostIP": ""}],
            "bandwidth": {"IngressRate": 1000, "IngressBurst": 4_294_967_295_u64, "EgressRate": 0, "EgressBurst": 0},
            "dns": {"Servers": ["10.96.0.10"], "Searches": ["svc"], "Options": ["ndots:5"]},
            "cgroupPath": "/a", "io.kubernetes.cri.pod-annotations": {"k": "v"}, "aliases": ["web"]}));
        let ports = keys.port_mappings().unwrap();
        let first = PortMapping { host: 8080, container: 80, protocol: Protocol::Tcp, address: None };
        assert_eq!((ports.len(), ports[0]), (2, first));
        assert_eq!((ports[1].protocol, ports[1].address), (Protocol::Udp, Some([127, 0, 0, 1].into())));
        assert_eq!(keys.bandwidth(Bandwidth::default()).unwrap().unwrap().ingress_rate, 1000);
        assert_eq!(keys.dns.meant().nameservers, ["10.96.0.10"]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let port =
            |port: Value| keys(json!({"portMappings": [port]})).port_mappings().unwrap_err().to_string();
        let error = port(json!({"hostPort": 70000, "containerPort": 80}));
        assert_eq!(error, "runtimeConfig.portMappings: hostPort 70000 is not between 1 and 65535");
        assert!(port(json!({"hostPort": 80})).contains("containerPort 0"));
        assert!(port(json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"})).contains("\"icmp\""));
        assert!(port(json!({"hostPort": 80, "containerPort": 80, "hostIP": "x"})).contains("hostIP \"x\""));
        let half = keys(json!({"bandwidth": {"egressRate": 5}}))
            .bandwidth(Bandwidth::default())
            .unwrap_err()
            .to_string();
        assert!(half.contains("egressRate is 5 and egressBurst is 0"), "{half}");
    }
}
