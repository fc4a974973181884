//! A made-up cluster: Services of one port, each with one slice.
//!
//! Nothing of it exists but what a caller adds: addresses of endpoints are drawn from a range without hosts.

use heddle_tests::objects;
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The port of every Service.
pub const PORT: u16 = 80;
/// The port of every endpoint.
pub const TARGET: u16 = 8080;
/// The port that the last Service has on every node, where it has one.
pub const NODE_PORT: u16 = 30_080;
/// Where cluster IPs come from (10.96.0.0/12), where endpoints do (10.128.0.0/10, below the lab's pods), and where the endpoints do that replace
/// others (172.16.0.0/12).
const SERVICES: u32 = 0x0a60_0000;
const ENDPOINTS: u32 = 0x0a80_0000;
const ENDPOINT_BITS: u8 = 10;
const REPLACEMENTS: u32 = 0xac10_0000;
/// Name and address of the Service that is probed: after all others, so that it is not served before them.
const PROBED: (&str, u32) = ("zz-probed", SERVICES + (1 << 20) - 2);
/// The node that the endpoints are said to be on: not the one that is measured.
const ELSEWHERE: &str = "node-2";

/// How large a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Size {
    /// Services.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: u32,
}

impl From<(u32, u32)> for Size {
    fn from((services, endpoints): (u32, u32)) -> Self {
        Self { services, endpoints }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.services, self.endpoints)
    }
}

impl Size {
    /// The range that endpoints come from: a host that has all of it is every endpoint at once.
    pub fn endpoint_range() -> IpNetwork {
        Ipv4Network::new(Ipv4Addr::from(ENDPOINTS), ENDPOINT_BITS)
            .expect("a prefix of at most 32 bits")
            .into()
    }

    /// The range that holds both those and the lab's pods, as one node has it that has all of them.
    pub fn pod_range() -> IpNetwork {
        Ipv4Network::new(Ipv4Addr::from(ENDPOINTS), ENDPOINT_BITS - 1)
            .expect("a prefix of at most 32 bits")
            .into()
    }

    /// Whether there are addresses for all of it.
    pub fn fits(self) -> bool {
        let endpoints = u64::from(self.services) * u64::from(self.endpoints);
        self.services < (1 << 20) - 2 && endpoints <= 1 << (32 - u32::from(ENDPOINT_BITS))
    }

    /// Name of a Service, by its number.
    pub fn name(self, number: u32) -> String {
        format!("service-{number:06}")
    }

    /// Its cluster IP.
    pub fn cluster_ip(self, number: u32) -> IpAddr {
        Ipv4Addr::from(SERVICES + 1 + number).into()
    }

    /// The addresses of its endpoints.
    pub fn endpoints(self, number: u32) -> Vec<IpAddr> {
        let first = ENDPOINTS + number * self.endpoints;
        (first..first + self.endpoints).map(|bits| Ipv4Addr::from(bits).into()).collect()
    }

    /// The Service's object.
    pub fn service(self, number: u32) -> Value {
        objects::service(&self.name(number), &[self.cluster_ip(number)], PORT, TARGET)
    }

    /// The last Service, which has a UDP port and one on every node besides.
    pub fn last_service(self) -> Value {
        let mut service = self.service(self.services - 1);
        service["spec"]["type"] = json!("NodePort");
        service["spec"]["ports"] = json!([port("TCP", PORT), port("UDP", PORT)]);
        service["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
        service
    }

    /// Its slice.
    pub fn last_slice(self) -> Value {
        let mut slice = self.slice(self.services - 1);
        slice["ports"] = json!([port("TCP", TARGET), port("UDP", TARGET)]);
        slice
    }

    /// All objects, slices first, with the last Service as [`last_service`](Self::last_service) has it.
    pub fn objects_to_ask(self) -> impl Iterator<Item = Value> {
        let last = self.services - 1;
        let slices = (0..last).map(move |number| self.slice(number)).chain([self.last_slice()]);
        slices.chain((0..last).map(move |number| self.service(number))).chain([self.last_service()])
    }

    /// The object of its slice.
    pub fn slice(self, number: u32) -> Value {
        objects::slice(&self.name(number), ELSEWHERE, &self.endpoints(number), TARGET)
    }

    /// The slice, with its last endpoint replaced by one that no other slice has; `serial` counts them.
    pub fn changed_slice(self, number: u32, serial: u32) -> Value {
        let mut endpoints = self.endpoints(number);
        endpoints.pop();
        endpoints.push(Ipv4Addr::from(REPLACEMENTS + 1 + serial).into());
        objects::slice(&self.name(number), ELSEWHERE, &endpoints, TARGET)
    }

    /// A change of some slice, which lies far from that of the change before; `serial` counts them.
    pub fn scattered_change(self, serial: u32) -> Value {
        self.changed_slice(serial.wrapping_mul(7919) % self.services, serial)
    }

    /// All objects, slices first.
    pub fn objects(self) -> impl Iterator<Item = Value> {
        let slices = (0..self.services).map(move |number| self.slice(number));
        slices.chain((0..self.services).map(move |number| self.service(number)))
    }
}

/// A Service beside those of any size, which somebody asks again and again.
pub fn probed_service() -> Value {
    objects::service(PROBED.0, &[probed_address().ip()], PORT, TARGET)
}

/// Its slice, with the IPv4 ones of these addresses on a node.
pub fn probed_slice(node: &str, endpoints: &[IpAddr]) -> Value {
    let endpoints: Vec<IpAddr> = endpoints.iter().copied().filter(IpAddr::is_ipv4).collect();
    objects::slice(PROBED.0, node, &endpoints, TARGET)
}

/// Where it is.
pub fn probed_address() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(PROBED.1).into(), PORT)
}

fn port(protocol: &str, port: u16) -> Value {
    json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": port, "targetPort": TARGET })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_slice_differs_in_one_endpoint() {
        let size = Size::from((10, 3));
        let (before, after) = (size.slice(4), size.changed_slice(4, 7));
        let differing = (0..3).filter(|&i| before["endpoints"][i] != after["endpoints"][i]);
        assert_eq!(differing.collect::<Vec<_>>(), [2]);
        assert_eq!(before["metadata"], after["metadata"]);
    }
}
