//! A pod's routes, as configurations and results write them.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A route that pods get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNetwork,
    /// Through whom; the gateway of the pod's first address of the same family when absent.
    pub gateway: Option<IpAddr>,
    /// Which route is taken when several fit: the lowest.
    pub priority: Option<u32>,
    /// The routing table, when not the main one.
    pub table: Option<u32>,
    /// How far away the destination is, in the kernel's numbers.
    pub scope: Option<u8>,
    /// Largest packet on this route in bytes.
    pub mtu: Option<u32>,
    /// Segment size announced to TCP peers, in bytes.
    pub advmss: Option<u32>,
}

impl Route {
    /// A route with nothing special about it.
    pub fn new(to: IpNetwork, gateway: Option<IpAddr>) -> Self {
        Self { to, gateway, priority: None, table: None, scope: None, mtu: None, advmss: None }
    }
}

/// A route in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Written {
    dst: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    gw: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
}

impl Written {
    /// What it means.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(&self) -> Result<Route, String> {
        let Self { dst, gw, priority, table, scope, mtu, advmss } = self;
        let to = dst.contains('/').then(|| dst.parse::<IpNetwork>().ok()).flatten();
        let to = to.ok_or_else(|| format!("dst {dst:?} is not a network in CIDR notation"))?;
        let gateway = match &**gw {
            "" => None,
            gw => Some(gw.parse::<IpAddr>().map_err(|_| format!("gw {gw:?} is not an IP address"))?),
        };
        if gateway.is_some_and(|gateway| gateway.is_ipv4() != to.is_ipv4()) {
            return Err(format!("dst {to} and gw {gw} are of two address families"));
        }
        let to = IpNetwork::new(to.network(), to.prefix()).expect("the prefix is the one that was read");
        let (priority, table, scope, mtu, advmss) = (*priority, *table, *scope, *mtu, *advmss);
        Ok(Route { to, gateway, priority, table, scope, mtu, advmss })
    }

    /// Destination and gateway only, which is all that results knew before 1.1.0.
    pub fn plain(route: &Route) -> Self {
        let (dst, gw) = (route.to.to_string(), route.gateway.map_or_else(String::new, |gw| gw.to_string()));
        Self { dst, gw, ..Self::default() }
    }

    /// Everything.
    pub fn whole(route: &Route) -> Self {
        let Route { mtu, advmss, priority, table, scope, .. } = *route;
        Self { mtu, advmss, priority, table, scope, ..Self::plain(route) }
    }
}
