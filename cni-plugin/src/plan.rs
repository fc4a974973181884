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

/// One link, address, route or setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
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
    /// What the bridge does at the host's end.
    Port {
        /// The host's end.
        link: String,
        /// What the bridge does there.
        port: Port,
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
    /// What people see beside it: the pod's name.
    pub alias: Option<String>,
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
        steps.extend(forwarding(assigned).map(Step::NodeSetting));
    }
    steps.push(Step::Bridge { name: config.bridge.clone(), mtu, promiscuous: config.promiscuous });
    if config.gateway {
        let addresses = assigned.iter().filter_map(gateway_address).collect();
        let (bridge, force) = (config.bridge.clone(), config.force_address);
        steps.push(Step::BridgeAddresses { bridge, addresses, force });
    }
    let pair = pair(request, assigned, mtu);
    let port = Port { hairpin: config.hairpin, isolated: config.isolated };
    let link = pair.host.clone();
    steps.push(Step::Pair(pair));
    if port != Port::default() {
        steps.push(Step::Port { link, port });
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
fn forwarding(assigned: &[Assigned]) -> impl Iterator<Item = Setting> {
    let has = |v4: bool| assigned.iter().any(|a| a.address.is_ipv4() == v4);
    let four = has(true).then_some("net/ipv4/ip_forward");
    let six = has(false).then_some("net/ipv6/conf/all/forwarding");
    four.into_iter().chain(six).map(|key| Setting { key: key.to_owned(), value: "1", required: true })
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
        alias: request.pod.as_deref().map(shorten),
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
