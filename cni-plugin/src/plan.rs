//! What an ADD does, as values: a list of [`Step`]s, each with its undo.
//!
//! Pure: the same request, addresses and MTU give the same steps. Invariant: no step before the pair of links leaves
//! anything that belongs to one pod, and everything after it lives on the pair, so that removing the pair undoes it all;
//! the node's steps come first, then the pod's.

use crate::alias;
use crate::config::ipam::Ipam;
use crate::config::vlan::Vlans;
use crate::config::{Config, Mode};
use crate::names;
use crate::result::{Ip, Outcome};
use crate::route::Route;
use crate::spec::Add;
use heddle_netlink::link::{Mac, Port};
use heddle_netlink::tuning::Tuning;
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
    /// The bridge tells VLANs apart.
    FilterVlans,
    /// The link that has the frames of one VLAN, made when it is missing, set to work.
    VlanLink {
        /// Its name.
        name: String,
        /// The VLAN.
        id: u16,
    },
    /// The gateways' addresses on the bridge, or on the link of its VLAN.
    BridgeAddresses {
        /// The link's name.
        link: String,
        /// The addresses.
        addresses: Vec<IpNetwork>,
        /// Contradicting addresses are removed; otherwise they are an error.
        force: bool,
    },
    /// The pair of links.
    Pair(Pair),
    /// The VLANs of the host's end.
    PortVlans {
        /// The host's end.
        link: String,
        /// The VLANs.
        vlans: Vlans,
    },
    /// The node's way to the pod, without a bridge.
    HostRoutes {
        /// The host's end.
        link: String,
        /// The pod's addresses.
        addresses: Vec<IpAddr>,
        /// The Ethernet address of the pod's end.
        mac: Mac,
    },
    /// What the kernel does not take when it makes the pair.
    HostEnd {
        /// The host's end.
        link: String,
        /// Whose it is.
        alias: String,
        /// What the bridge does there, when it is something special.
        port: Option<Port>,
    },
    /// The host's end is found by the pod's addresses, and no other link by the same.
    Names {
        /// The host's end.
        link: String,
        /// One name for each address.
        names: Vec<String>,
    },
    /// A kernel setting of the pod.
    PodSetting(Setting),
    /// The pod's loopback link, set to work.
    Loopback,
    /// The pod's end, set to work.
    PodUp,
    /// What is changed about the pod's end.
    PodTuning(Tuning),
    /// An address on the pod's end.
    PodAddress(IpNetwork),
    /// Whom the pod's end need not ask for.
    PodNeighbour {
        /// The address.
        address: IpAddr,
        /// Its Ethernet address.
        mac: Mac,
    },
    /// A route in the pod, by the pod's end.
    PodRoute(Route),
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
    pub value: String,
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
    /// The pod's end.
    pub pod: String,
    /// Its Ethernet address.
    pub pod_mac: Mac,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
}

impl Step {
    /// What takes it back. Settings, the bridge, its VLANs and its addresses serve all pods and stay; what is in the pod goes with
    /// the pair.
    pub fn undo(&self) -> Option<Undo> {
        match self {
            Self::Pair(pair) => Some(Undo::DeleteLink(pair.host.clone())),
            _ => None,
        }
    }

    /// True for steps that go to the pod's kernel in one send with their neighbours.
    pub fn is_in_pod(&self) -> bool {
        matches!(
            self,
            Self::Loopback
                | Self::PodUp
                | Self::PodTuning(_)
                | Self::PodAddress(_)
                | Self::PodNeighbour { .. }
                | Self::PodRoute(_)
        )
    }
}

/// The steps of an ADD that gives the container what was [settled](settle).
pub fn plan(request: &Add, given: &Outcome, mtu: Option<u32>) -> Vec<Step> {
    let pair = pair(request, &given.ips, mtu);
    match request.config.mode {
        Mode::Bridge => plan_bridge(request, given, pair),
        Mode::Ptp => plan_ptp(request, given, pair),
    }
}

fn plan_bridge(request: &Add, given: &Outcome, pair: Pair) -> Vec<Step> {
    let config = &request.config;
    let mut steps = Vec::new();
    if config.gateway {
        steps.extend(forwarding(&given.ips));
    }
    let (name, mtu) = (config.bridge.clone(), pair.mtu);
    steps.push(Step::Bridge { name, mtu, promiscuous: config.promiscuous });
    steps.extend(config.vlans.as_ref().map(|_| Step::FilterVlans));
    if config.gateway {
        let link = config.gateway_link();
        let id = config.vlans.as_ref().and_then(Vlans::access);
        steps.extend(id.map(|id| Step::VlanLink { name: link.clone(), id }));
        let addresses = given.ips.iter().filter_map(gateway_address).collect();
        steps.push(Step::BridgeAddresses { link, addresses, force: config.force_address });
    }
    let port =
        Some(Port { hairpin: config.hairpin, isolated: config.isolated }).filter(|p| *p != Port::default());
    let link = pair.host.clone();
    steps.push(Step::Pair(pair));
    let vlans = config.vlans.clone();
    steps.extend(vlans.map(|vlans| Step::PortVlans { link: link.clone(), vlans }));
    steps.extend(host_end(request, given, link, port));
    steps.extend(pod_steps(request, given));
    steps
}

/// The node's route comes last: what it leads to is there then.
fn plan_ptp(request: &Add, given: &Outcome, pair: Pair) -> Vec<Step> {
    let Pair { host: link, host_mac, pod_mac: mac, .. } = pair.clone();
    let mut steps = forwarding(&given.ips);
    steps.push(Step::Pair(pair));
    steps.extend(host_end(request, given, link.clone(), None));
    steps.extend(pod_steps(request, given));
    let gateways = given.ips.iter().filter_map(|ip| ip.gateway);
    let neighbours = gateways.map(|address| Step::PodNeighbour { address, mac: host_mac });
    steps.extend(neighbours);
    let addresses = given.ips.iter().map(|ip| ip.address.ip()).collect();
    steps.push(Step::HostRoutes { link, addresses, mac });
    steps
}

/// What the host's end says of itself. Another IPAM plugin's addresses are its own affair: it may give one to many pods.
fn host_end(request: &Add, given: &Outcome, link: String, port: Option<Port>) -> impl Iterator<Item = Step> {
    let alias = alias::write(&request.attachment, request.pod.as_deref());
    let name = |ip: &Ip| names::address_name(&request.attachment.network, ip.address.ip());
    let ours = matches!(request.config.ipam, Some(Ipam::Own(_)));
    let names = ours.then(|| given.ips.iter().map(name).collect());
    let named = names.map(|names| Step::Names { link: link.clone(), names });
    [Step::HostEnd { link, alias, port }].into_iter().chain(named)
}

fn pod_steps(request: &Add, given: &Outcome) -> impl Iterator<Item = Step> {
    let settings = pod_settings(&request.attachment.ifname, &given.ips).map(Step::PodSetting);
    let addresses = given.ips.iter().map(|ip| Step::PodAddress(ip.address));
    let routes = given.routes.iter().cloned().map(Step::PodRoute);
    // After ours, so that they count.
    let wanted = request.config.settings.iter().cloned().map(Step::PodSetting);
    let tuning = Some(request.config.tuning).filter(|tuning| *tuning != Tuning::default());
    let tuning = tuning.map(Step::PodTuning);
    settings.chain(wanted).chain([Step::Loopback, Step::PodUp]).chain(tuning).chain(addresses).chain(routes)
}

/// Forwarding, for the families that pods have.
fn forwarding(ips: &[Ip]) -> Vec<Step> {
    let has = |v4: bool| ips.iter().any(|ip| ip.address.is_ipv4() == v4);
    let on =
        |key: &str| Step::NodeSetting(Setting { key: key.to_owned(), value: "1".to_owned(), required: true });
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
fn pod_settings(ifname: &str, ips: &[Ip]) -> impl Iterator<Item = Setting> {
    let six = ips.iter().any(|ip| ip.address.is_ipv6());
    let key = move |name: &str| format!("net/ipv6/conf/{ifname}/{name}");
    let off = |name, required| Setting { key: key(name), value: "0".to_owned(), required };
    let enable = six.then(|| off("disable_ipv6", true));
    let quiet = ["accept_dad", "accept_ra"].map(|name| off(name, six));
    enable.into_iter().chain(quiet)
}

/// The gateway with its subnet's prefix; none when it is outside of the subnet and so not the bridge.
fn gateway_address(ip: &Ip) -> Option<IpNetwork> {
    let gateway = ip.gateway.filter(|gateway| ip.address.contains(*gateway))?;
    IpNetwork::new(gateway, ip.address.prefix()).ok()
}

fn pair(request: &Add, ips: &[Ip], mtu: Option<u32>) -> Pair {
    let attachment = &request.attachment;
    let first = ips.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.address.ip());
    Pair {
        host: names::host_link(attachment),
        host_mac: names::host_mac(attachment),
        pod: attachment.ifname.clone(),
        pod_mac: request.config.mac.unwrap_or_else(|| names::pod_mac(&attachment.network, first)),
        mtu,
    }
}

/// The gateway of every pod that is routed, in either family. It is nobody's address: the pod has it as a neighbour for
/// good, with the Ethernet address of the host's end, so that nobody is asked for it and no link of the node needs an
/// address. Link-local, so that it is in no range.
const ON_LINK_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const ON_LINK_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What IPAM gave, made whole for what the container is connected to; routes with their gateways, and default routes
/// where they are wanted.
///
/// On a bridge that is to be a gateway, an address for which the IPAM plugin names none gets the first of its subnet, as
/// in the reference plugin. A routed address stands alone, behind the gateway that all have.
#[must_use]
pub fn settle(config: &Config, mut given: Outcome) -> Outcome {
    for ip in &mut given.ips {
        match config.mode {
            Mode::Bridge if config.gateway => ip.gateway = ip.gateway.or_else(|| first_host(ip.address)),
            Mode::Bridge => {}
            Mode::Ptp => {
                ip.address = IpNetwork::from(ip.address.ip());
                ip.gateway = Some(on_link(ip.address.is_ipv4()));
            }
        }
    }
    given.routes = routes(config, &given);
    if config.mode == Mode::Ptp && given.ips.iter().any(|ip| ip.address.is_ipv4()) {
        // IPv4 takes no gateway that it has no way to; IPv6 does when it is link-local.
        given.routes.insert(0, Route::new(IpNetwork::from(on_link(true)), None));
    }
    given
}

fn on_link(v4: bool) -> IpAddr {
    if v4 { ON_LINK_V4.into() } else { ON_LINK_V6.into() }
}

/// The first address behind the network's own.
fn first_host(network: IpNetwork) -> Option<IpAddr> {
    match network {
        IpNetwork::V4(v4) => {
            v4.network().to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpNetwork::V6(v6) => {
            v6.network().to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

/// The pod's routes: those that IPAM gave, with the gateway filled in, and default routes where they are wanted
/// and not there yet. The first of two for the same destination wins.
fn routes(config: &Config, given: &Outcome) -> Vec<Route> {
    let gateway = |v4: bool| given.ips.iter().find(|ip| ip.address.is_ipv4() == v4).and_then(|ip| ip.gateway);
    let mut routes: Vec<Route> = Vec::new();
    for route in &given.routes {
        let gateway = route.gateway.or_else(|| gateway(route.to.is_ipv4()));
        routes.push(Route { gateway, ..route.clone() });
    }
    for everywhere in [
        IpNetwork::V4(Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix length")),
        IpNetwork::V6(Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0).expect("0 is a prefix length")),
    ] {
        let gateway = gateway(everywhere.is_ipv4()).filter(|_| config.default_gateway);
        if gateway.is_some() && routes.iter().all(|route| route.to != everywhere) {
            routes.push(Route::new(everywhere, gateway));
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
mod tests;
