//! What an ADD does, as values: a list of [`Step`]s, each with its undo.
//!
//! Pure: the same request, addresses and MTU give the same steps. Invariant: no step before the pair of links leaves
//! anything that belongs to one pod, and everything after it lives on the pair, so that removing the pair undoes it all;
//! the node's steps come first, then the pod's.

use crate::config;
use crate::ipam::Assigned;
use crate::names;
use crate::spec::Add;
use heddle_netlink::link::{ALIAS_MAX, Mac, Port};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The setting that makes the node forward IPv6.
pub const FORWARD_IPV6: &str = "net/ipv6/conf/all/forwarding";

/// One link, address, route or setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The node's uplink goes on listening to routers when the node forwards IPv6.
    KeepUplinkRoutes,
    /// A kernel setting of the node.
    NodeSetting(Setting),
    /// The bridge, made when it is missing, set to work.
    Bridge {
        /// Its name.
        name: String,
        /// Largest packet in bytes, when it is made.
        mtu: Option<u32>,
        /// It takes packets that are addressed to others.
        promiscuous: bool,
    },
    /// The gateways' addresses on the bridge.
    BridgeAddresses {
        /// The bridge's name.
        bridge: String,
        /// The addresses.
        addresses: Vec<IpNetwork>,
        /// Contradicting addresses are removed; otherwise they are an error.
        force: bool,
    },
    /// The pair of links.
    Pair(Pair),
    /// What the kernel does not take when it makes the pair.
    HostEnd {
        /// The host's end.
        link: String,
        /// What people see beside it: the pod's name.
        alias: Option<String>,
        /// What the bridge does there, when it is something special.
        port: Option<Port>,
    },
    /// A kernel setting of the pod.
    PodSetting(Setting),
    /// The pod's loopback link, set to work.
    Loopback,
    /// The pod's end, set to work.
    PodUp,
    /// An address on the pod's end.
    PodAddress(IpNetwork),
    /// A route in the pod, by the pod's end.
    PodRoute(config::Route),
}

/// What takes a step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Remove this link of the node.
    DeleteLink(String),
}

/// A file under `/proc/sys` and what it must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The path below `/proc/sys`.
    pub key: String,
    /// The value.
    pub value: &'static str,
    /// A kernel without this setting is an error.
    pub required: bool,
}

/// A pair of links, one end on the bridge and one in the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The host's end.
    pub host: String,
    /// Its Ethernet address.
    pub host_mac: Mac,
    /// The bridge that it is a port of.
    pub bridge: String,
    /// The pod's end.
    pub pod: String,
    /// Its Ethernet address.
    pub pod_mac: Mac,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
}

impl Step {
    /// What takes it back. Settings, the bridge and its addresses serve all pods and stay; what is in the pod goes with
    /// the pair.
    pub fn undo(&self) -> Option<Undo> {
        match self {
            Self::Pair(pair) => Some(Undo::DeleteLink(pair.host.clone())),
            _ => None,
        }
    }

    /// True for steps that go to the pod's kernel in one send with their neighbours.
    pub fn is_in_pod(&self) -> bool {
        matches!(self, Self::Loopback | Self::PodUp | Self::PodAddress(_) | Self::PodRoute(_))
    }
}

/// The steps of an ADD.
pub fn plan(request: &Add, assigned: &[Assigned], mtu: Option<u32>) -> Vec<Step> {
    let config = &request.config;
    let mut steps = Vec::new();
    if config.gateway {
        steps.extend(forwarding(assigned));
    }
    steps.push(Step::Bridge { name: config.bridge.clone(), mtu, promiscuous: config.promiscuous });
    if config.gateway {
        let addresses = assigned.iter().filter_map(gateway_address).collect();
        let (bridge, force) = (config.bridge.clone(), config.force_address);
        steps.push(Step::BridgeAddresses { bridge, addresses, force });
    }
    let pair = pair(request, assigned, mtu);
    let port =
        Some(Port { hairpin: config.hairpin, isolated: config.isolated }).filter(|p| *p != Port::default());
    let (link, alias) = (pair.host.clone(), request.pod.as_deref().map(shorten));
    steps.push(Step::Pair(pair));
    if alias.is_some() || port.is_some() {
        steps.push(Step::HostEnd { link, alias, port });
    }
    steps.extend(pod_steps(request, assigned));
    steps
}

fn pod_steps(request: &Add, assigned: &[Assigned]) -> impl Iterator<Item = Step> {
    let settings = pod_settings(&request.attachment.ifname, assigned).map(Step::PodSetting);
    let addresses = assigned.iter().map(|a| Step::PodAddress(a.address));
    let routes = routes(&request.config, assigned).into_iter().map(Step::PodRoute);
    settings.chain([Step::Loopback, Step::PodUp]).chain(addresses).chain(routes)
}

/// Forwarding, for the families that pods have.
fn forwarding(assigned: &[Assigned]) -> Vec<Step> {
    let has = |v4: bool| assigned.iter().any(|a| a.address.is_ipv4() == v4);
    let on = |key: &str| Step::NodeSetting(Setting { key: key.to_owned(), value: "1", required: true });
    let mut steps = Vec::new();
    if has(true) {
        steps.push(on("net/ipv4/ip_forward"));
    }
    if has(false) {
        // A host that forwards is a router, and drops the default route that a router gave it.
        steps.extend([Step::KeepUplinkRoutes, on(FORWARD_IPV6)]);
    }
    steps
}

/// They come before the pod's end is set to work, since that starts what they forbid: the search for duplicates of the
/// link-local address, which keeps it unusable for a second, and listening to routers, of whose addresses and routes
/// nobody would know.
fn pod_settings(ifname: &str, assigned: &[Assigned]) -> impl Iterator<Item = Setting> {
    let six = assigned.iter().any(|a| a.address.is_ipv6());
    let key = move |name: &str| format!("net/ipv6/conf/{ifname}/{name}");
    let enable = six.then(|| Setting { key: key("disable_ipv6"), value: "0", required: true });
    let quiet = ["accept_dad", "accept_ra"].map(|name| Setting { key: key(name), value: "0", required: six });
    enable.into_iter().chain(quiet)
}

/// The gateway with its subnet's prefix; none when it is outside of the subnet and so not the bridge.
fn gateway_address(assigned: &Assigned) -> Option<IpNetwork> {
    let inside = assigned.address.contains(assigned.gateway);
    inside.then(|| IpNetwork::new(assigned.gateway, assigned.address.prefix()).ok()).flatten()
}

fn pair(request: &Add, assigned: &[Assigned], mtu: Option<u32>) -> Pair {
    let attachment = &request.attachment;
    let first = assigned.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.address.ip());
    Pair {
        host: names::host_link(attachment),
        host_mac: names::host_mac(attachment),
        bridge: request.config.bridge.clone(),
        pod: attachment.ifname.clone(),
        pod_mac: request.config.mac.unwrap_or_else(|| names::pod_mac(&attachment.network, first)),
        mtu,
    }
}

/// The longest beginning that the kernel takes as an alias.
fn shorten(text: &str) -> String {
    let end = (0..=ALIAS_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

/// The pod's routes: those of the configuration, with the gateway filled in, and default routes where they are wanted
/// and not there yet. The first of two for the same destination wins.
pub fn routes(config: &config::Config, assigned: &[Assigned]) -> Vec<config::Route> {
    let gateway = |v4: bool| assigned.iter().find(|a| a.address.is_ipv4() == v4).map(|a| a.gateway);
    let mut routes: Vec<config::Route> = Vec::new();
    for route in &config.routes {
        let gateway = route.gateway.or_else(|| gateway(route.to.is_ipv4()));
        routes.push(config::Route { gateway, ..route.clone() });
    }
    for everywhere in [
        IpNetwork::V4(Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix length")),
        IpNetwork::V6(Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0).expect("0 is a prefix length")),
    ] {
        let gateway = gateway(everywhere.is_ipv4()).filter(|_| config.default_gateway);
        if gateway.is_some() && routes.iter().all(|route| route.to != everywhere) {
            routes.push(config::Route::new(everywhere, gateway));
        }
    }
    let mut seen = Vec::new();
    routes.retain(|route| {
        let key = (route.to, route.table, route.priority);
        let first = !seen.contains(&key);
        seen.push(key);
        first
    });
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Environment, Request, decode};
    use serde_json::{Value, json};

    fn request(extra: &Value) -> Add {
        let ipam =
            json!({"type": "heddle", "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]});
        let mut document = json!({"cniVersion": "1.1.0", "name": "pods", "ipam": ipam});
        document.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let some = |text: &str| Some(text.to_owned());
        let environment = Environment {
            command: some("ADD"),
            container: some("c1"),
            namespace: some("/x"),
            ifname: some("eth0"),
            ..Environment::default()
        };
        match Request::read(&environment, decode(document.to_string().as_bytes())) {
            Ok(Request::Add(add)) => *add,
            other => panic!("{other:?}"),
        }
    }

    fn dual() -> Vec<Assigned> {
        let assigned = |address: &str, gateway: &str| Assigned {
            address: address.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        vec![assigned("10.0.0.2/24", "10.0.0.1"), assigned("fd00::2/64", "fd00::1")]
    }

    /// What every step is about, in order.
    fn outline(steps: &[Step]) -> Vec<String> {
        let name = |step: &Step| match step {
            Step::KeepUplinkRoutes => "keep routes".to_owned(),
            Step::NodeSetting(setting) | Step::PodSetting(setting) => setting.key.clone(),
            Step::Bridge { name, .. } => format!("bridge {name}"),
            Step::BridgeAddresses { addresses, .. } => format!("bridge has {addresses:?}"),
            Step::Pair(pair) => format!("pair {}", pair.pod),
            Step::HostEnd { alias, port, .. } => format!("{alias:?} {port:?}"),
            Step::Loopback => "lo up".to_owned(),
            Step::PodUp => "up".to_owned(),
            Step::PodAddress(address) => address.to_string(),
            Step::PodRoute(route) => format!("route to {} via {:?}", route.to, route.gateway),
        };
        steps.iter().map(name).collect()
    }

    #[test]
    fn a_plain_pod_gets_a_pair_and_its_addresses() {
        assert_eq!(
            outline(&plan(&request(&json!({})), &dual(), None)),
            [
                "bridge cni0",
                "pair eth0",
                "net/ipv6/conf/eth0/disable_ipv6",
                "net/ipv6/conf/eth0/accept_dad",
                "net/ipv6/conf/eth0/accept_ra",
                "lo up",
                "up",
                "10.0.0.2/24",
                "fd00::2/64",
            ]
        );
    }

    #[test]
    fn a_gateway_forwards_and_has_the_addresses_that_routes_lead_to() {
        let request = request(&json!({"isDefaultGateway": true, "hairpinMode": true}));
        let outline = outline(&plan(&request, &dual(), None));
        assert_eq!(outline[..3], ["net/ipv4/ip_forward", "keep routes", "net/ipv6/conf/all/forwarding"]);
        assert!(outline[4].starts_with("bridge has [V4"), "{}", outline[4]);
        assert_eq!(outline[6], "None Some(Port { hairpin: true, isolated: false })");
        assert_eq!(
            outline[outline.len() - 2..],
            ["route to 0.0.0.0/0 via Some(10.0.0.1)", "route to ::/0 via Some(fd00::1)"]
        );
    }

    /// cni:A4: whatever fails, one undo takes back all that is this pod's.
    #[test]
    fn only_the_pair_is_undone_and_nothing_of_the_pod_comes_before_it() {
        let steps = plan(&request(&json!({"isDefaultGateway": true, "portIsolation": true})), &dual(), None);
        let undone: Vec<_> = steps.iter().enumerate().filter(|(_, step)| step.undo().is_some()).collect();
        let [(at, Step::Pair(pair))] = undone[..] else { panic!("{undone:?}") };
        assert_eq!(steps[at].undo(), Some(Undo::DeleteLink(pair.host.clone())));
        assert!(steps[..at].iter().all(|step| !step.is_in_pod() && !matches!(step, Step::PodSetting(_))));
    }

    #[test]
    fn a_configured_default_route_is_not_joined_by_a_second_one() {
        let ipam = json!({"type": "heddle", "subnet": "10.0.0.0/24", "routes": [
            {"dst": "0.0.0.0/0", "gw": "10.0.0.9"}, {"dst": "10.8.0.0/16"}, {"dst": "10.8.0.0/16", "gw": "10.0.0.7"}]});
        let config = request(&json!({"isDefaultGateway": true, "ipam": ipam})).config;
        let routes: Vec<_> = routes(&config, &dual()[..1])
            .iter()
            .map(|r| (r.to.to_string(), r.gateway.unwrap().to_string()))
            .collect();
        let expected = [("0.0.0.0/0", "10.0.0.9"), ("10.8.0.0/16", "10.0.0.1")];
        assert_eq!(routes, expected.map(|(to, gateway)| (to.to_owned(), gateway.to_owned())));
    }

    #[test]
    fn an_alias_fits_into_what_the_kernel_takes() {
        assert_eq!(shorten("ns/pod"), "ns/pod");
        assert_eq!(shorten(&"ä".repeat(200)).len(), 254);
    }
}
