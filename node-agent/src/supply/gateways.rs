//! The bridge's addresses when the node's ranges change.
//!
//! A pod's gateway is the bridge. The plugin refuses a bridge that has an IPv4 address of another subnet, since it cannot know
//! whose that is; so the new gateway is here before the configuration that names it, and the old one stays as long as a pod of
//! its range does. Invariant: an address goes only when it was the gateway of a configuration of ours, and no lease is left in
//! its subnet.

use heddle_cni::args::Args;
use heddle_cni::config::ipam::Ipam;
use heddle_cni::config::{Config, Mode};
use heddle_cni::install::programs::PROGRAM;
use heddle_cni::lease;
use heddle_cni::ranges::{Range, RangeSet};
use heddle_cni::spec::decode;
use heddle_netlink::address::{self, Address};
use heddle_netlink::link::{self, Which};
use heddle_netlink::{Batch, Error, Family, Socket};
use ipnetwork::IpNetwork;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use tracing::{info, warn};

/// What a configuration wants of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bridge {
    link: String,
    gateways: BTreeSet<IpNetwork>,
    network: String,
    leases: PathBuf,
}

/// The bridges of a configuration. Pure.
fn bridges(list: &str) -> Vec<Bridge> {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let network = list["name"].as_str().unwrap_or_default();
    let plugins = list["plugins"].as_array().map_or(&[][..], Vec::as_slice);
    let ours = plugins.iter().filter(|plugin| plugin["type"] == PROGRAM);
    ours.filter_map(|plugin| bridge(network, plugin)).collect()
}

fn bridge(network: &str, plugin: &Value) -> Option<Bridge> {
    let document = decode(plugin.to_string().as_bytes()).ok()?;
    let config = Config::read(&document, &Args::default(), "eth0").ok()?;
    if config.mode != Mode::Bridge || !config.gateway {
        return None;
    }
    let link = config.gateway_link();
    let Some(Ipam::Own(own)) = config.ipam else { return None };
    let ranges = own.sets.iter().flat_map(RangeSet::ranges);
    Some(Bridge {
        link,
        gateways: ranges.filter_map(gateway).collect(),
        network: network.to_owned(),
        leases: own.leases,
    })
}

/// The gateway with its subnet's prefix, as the plugin gives it to the bridge.
fn gateway(range: &Range) -> Option<IpNetwork> {
    let assigned = range.assign(range.usable_from(0)?)?;
    let gateway = Some(assigned.gateway).filter(|gateway| assigned.address.contains(*gateway))?;
    IpNetwork::new(gateway, assigned.address.prefix()).ok()
}

/// What a bridge gets and loses. Pure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Steps {
    add: Vec<IpNetwork>,
    remove: Vec<IpNetwork>,
}

/// A bridge without an address of a family gets its first from the plugin.
fn steps(has: &[IpNetwork], wanted: &BTreeSet<IpNetwork>, done_with: &BTreeSet<IpNetwork>) -> Steps {
    let has_family = |of: &IpNetwork| has.iter().any(|has| has.is_ipv4() == of.is_ipv4());
    let add = wanted.iter().filter(|wanted| !has.contains(wanted) && has_family(wanted));
    let remove = has.iter().filter(|has| done_with.contains(has) && !wanted.contains(has));
    Steps { add: add.copied().collect(), remove: remove.copied().collect() }
}

/// Follows the configuration.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    /// Those of earlier configurations.
    former: BTreeSet<IpNetwork>,
}

impl Gateways {
    /// Makes bridges that are there fit the configuration that is to be, in place of what is there now.
    pub(super) fn fit(&mut self, before: Option<&str>, after: &str) {
        let before = before.map(bridges).unwrap_or_default();
        self.former.extend(before.into_iter().flat_map(|bridge| bridge.gateways));
        for bridge in bridges(after) {
            if let Err(error) = self.fit_bridge(&bridge) {
                warn!("the addresses of bridge {} are not seen to: {error}", bridge.link);
            }
        }
    }

    fn fit_bridge(&mut self, bridge: &Bridge) -> Result<(), Error> {
        self.former.retain(|former| !bridge.gateways.contains(former));
        let mut socket = Socket::open(Family::Route)?;
        let found = link::fetch(&mut socket, Which::Name(&bridge.link))?;
        let Some(found) = found else { return Ok(()) };
        let all = address::list(&mut socket, found.index)?;
        let has: Vec<_> = all.iter().map(|found| found.address).filter(|has| !is_link_local(has)).collect();
        let steps = steps(&has, &bridge.gateways, &self.without_pods(bridge, &has));
        let mut batch = Batch::new();
        let address = |address: &IpNetwork| Address { link: found.index, address: *address };
        steps.add.iter().for_each(|new| _ = address(new).add(&mut batch));
        steps.remove.iter().for_each(|old| _ = address(old).delete(&mut batch));
        if steps != Steps::default() {
            socket.request(&mut batch)?;
            info!(bridge = bridge.link, new = ?steps.add, old = ?steps.remove, "gateways follow the node's ranges");
        }
        self.former.retain(|former| !steps.remove.contains(former));
        Ok(())
    }

    /// The former gateways of the bridge that no lease needs any more.
    fn without_pods(&self, bridge: &Bridge, has: &[IpNetwork]) -> BTreeSet<IpNetwork> {
        let mut former: BTreeSet<_> = has.iter().copied().filter(|has| self.former.contains(has)).collect();
        // Leases are read, and locked for it, only while there is one.
        if !former.is_empty() {
            match lease::holders(&bridge.leases, &bridge.network) {
                Ok(held) => former.retain(|former| {
                    held.iter().flat_map(|held| &held.addresses).all(|address| !former.contains(*address))
                }),
                Err(_) => former.clear(),
            }
        }
        former
    }
}

fn is_link_local(address: &IpNetwork) -> bool {
    matches!(address, IpNetwork::V6(v6) if v6.ip().is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supply::conflist::{Facts, TEMPLATE, render};

    fn networks<const N: usize>(texts: [&str; N]) -> [IpNetwork; N] {
        texts.map(|text| text.parse().unwrap())
    }

    #[test]
    fn a_configuration_wants_the_first_address_of_each_range() {
        let ranges = networks(["10.244.1.0/24", "fd00:244:1::/64"]).to_vec();
        let text = render(TEMPLATE, &Facts { ranges, ..Facts::default() }).unwrap();
        let found = bridges(&text).remove(0);
        assert_eq!((found.link.as_str(), found.network.as_str()), ("cni0", "heddle"));
        assert_eq!(found.gateways, networks(["10.244.1.1/24", "fd00:244:1::1/64"]).into());
        assert_eq!(
            bridges(&text.replace("\"isDefaultGateway\": true", "\"mode\": \"ptp\"")),
            [],
            "nobody's bridge"
        );
        assert_eq!(bridges(&text.replace("\"isDefaultGateway\": true", "\"isGateway\": false")), []);
        assert_eq!(bridges("{"), []);
    }

    #[test]
    fn the_new_gateway_comes_at_once_and_the_old_one_goes_when_it_is_done_with() {
        let [old, new, other, v6] = networks(["10.1.0.1/24", "10.2.0.1/24", "192.168.9.1/24", "fd00::1/64"]);
        let wanted = BTreeSet::from([new, v6]);
        let none = BTreeSet::new();
        assert_eq!(steps(&[], &wanted, &none), Steps::default(), "the plugin makes it");
        assert_eq!(steps(&[old, other], &wanted, &none), Steps { add: vec![new], remove: vec![] });
        assert_eq!(
            steps(&[old, new, other], &wanted, &[old].into()),
            Steps { add: vec![], remove: vec![old] }
        );
        assert_eq!(steps(&[new, v6], &wanted, &[new].into()), Steps::default());
    }
}
