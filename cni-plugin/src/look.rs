//! What CHECK sees: the kernel's state of one attachment, on the node and in the pod.

use crate::apply::{Error, Kernel, refused};
use crate::config::vlan::Vlans;
use crate::config::{Config, Mode};
use crate::node::Node;
use crate::route::Route;
use heddle_netlink::address;
use heddle_netlink::link::{self, Link, LinkIndex, Mac, Which};
use heddle_netlink::vlan::Tagging;
use heddle_netlink::{neighbour, route};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The pod's side.
#[derive(Debug)]
pub struct PodSide {
    /// The interface.
    pub link: Option<Link>,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
    /// All routes of the pod, in all tables.
    routes: Vec<route::Route>,
}

/// The node's side.
#[derive(Debug)]
pub struct NodeSide {
    /// The host's end.
    pub link: Option<Link>,
    /// The bridge.
    pub bridge: Option<Link>,
    /// The gateways' addresses, on the bridge or on the link of a VLAN.
    pub addresses: Vec<IpNetwork>,
    /// The VLANs of the host's end, when they were asked for.
    pub vlans: BTreeMap<u16, Tagging>,
}

/// The way that the node's packets for an address of the pod take.
#[derive(Debug)]
pub struct Way {
    /// The link that they leave by.
    pub link: Option<LinkIndex>,
    /// The Ethernet address that they are sent to, when the host's end knows it.
    pub mac: Option<Mac>,
}

impl PodSide {
    /// Whether the pod has a route like this one. What the route leaves open, the kernel filled in; where another
    /// interface of the pod led to the same destination already, that route stayed.
    pub fn has(&self, wanted: &Route) -> bool {
        let fits = |wanted: Option<u32>, has: Option<u32>| wanted.is_none() || wanted == has;
        let elsewhere = |has: &route::Route| self.link.as_ref().is_some_and(|link| link.index != has.link);
        self.routes.iter().any(|has| {
            has.to == wanted.to
                && (wanted.gateway.is_none() || wanted.gateway == has.gateway || elsewhere(has))
                && fits(wanted.table, Some(has.table))
                && fits(wanted.priority, has.priority)
        })
    }
}

impl Kernel {
    /// Looks at the pod's side.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn look(&mut self) -> Result<PodSide, Error> {
        let link = self.find_pod_link()?;
        let pod = self.pod();
        let addresses = match &link {
            Some(link) => {
                address::list(pod, link.index).map_err(refused("list the pod's addresses".to_owned()))?
            }
            None => Vec::new(),
        };
        let routes = route::list(pod).map_err(refused("list the pod's routes".to_owned()))?;
        Ok(PodSide { link, addresses: addresses.into_iter().map(|a| a.address).collect(), routes })
    }
}

impl Node {
    /// Looks at the node's side.
    ///
    /// # Errors
    /// When the kernel refuses to say, or the bridge is none.
    pub fn look(&mut self, link: &str, config: &Config) -> Result<NodeSide, Error> {
        let found = link::fetch(self.socket(), Which::Name(link));
        let link = found.map_err(refused(format!("find link {link}")))?;
        if config.mode == Mode::Ptp {
            return Ok(NodeSide { link, bridge: None, addresses: Vec::new(), vlans: BTreeMap::new() });
        }
        let bridge = self.find_bridge(&config.bridge)?;
        let gateway = match config.vlans.as_ref().and_then(Vlans::access) {
            Some(_) => self.find_vlan_link(&config.gateway_link())?,
            None => bridge.clone(),
        };
        let addresses = match gateway {
            Some(gateway) => address::list(self.socket(), gateway.index)
                .map_err(refused("list the gateway's addresses".to_owned()))?,
            None => Vec::new(),
        };
        let vlans = match (&link, &config.vlans) {
            (Some(link), Some(_)) => self.vlans_of(link)?,
            _ => BTreeMap::new(),
        };
        let addresses = addresses.into_iter().map(|a| a.address).collect();
        Ok(NodeSide { link, bridge, addresses, vlans })
    }

    /// Looks where packets to an address of a pod go.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn way_to(&mut self, address: IpAddr, host: LinkIndex) -> Result<Way, Error> {
        let action = || refused(format!("find the way to {address}"));
        let link = route::fetch_link_towards(self.socket(), address).map_err(action())?;
        let mac = neighbour::fetch(self.socket(), host, address).map_err(action())?;
        Ok(Way { link, mac })
    }
}
