//! One read of the kernel: links, routes, rules, addresses, our device and our tables.
//!
//! Nothing here decides.

use super::{Failure, overlay};
use crate::overlay::DEVICE;
use crate::ruleset;
use crate::seen::{Device, Seen, Vxlans};
use heddle_netlink::address::{self, Address};
use heddle_netlink::link::{self, Link, Mac};
use heddle_netlink::nft::{self, TableFamily};
use heddle_netlink::route::{self, PROTOCOL_HEDDLE_NODE};
use heddle_netlink::{Error, Socket, neighbour, rule, vxlan};
use std::net::IpAddr;

/// The sockets that are read by.
pub(super) struct Eyes<'a> {
    pub(super) routes: &'a mut Socket,
    pub(super) tables: &'a mut Socket,
    pub(super) features: &'a mut Socket,
    pub(super) families: &'a [TableFamily],
}

fn failed(what: &'static str) -> impl Fn(Error) -> Failure {
    move |source| Failure::Look { what, source }
}

impl Eyes<'_> {
    pub(super) fn look(&mut self) -> Result<Seen, Failure> {
        let addresses = address::list_all(self.routes).map_err(failed("the addresses of this node"))?;
        let links = link::list_all(self.routes).map_err(failed("the links of this node"))?;
        let rules = rule::list(self.routes).map_err(failed("the routing rules of this node"))?;
        let mut seen = Seen {
            routes: route::list(self.routes).map_err(failed("the routes of this node"))?,
            rules: rules.into_iter().filter(|rule| rule.protocol == PROTOCOL_HEDDLE_NODE).collect(),
            addresses: addresses.iter().map(|found| (found.address.ip(), found.link)).collect(),
            mtus: links.iter().map(|link| (link.index, link.mtu)).collect(),
            vxlan: self.vxlans(&links, &addresses)?,
            ..Seen::default()
        };
        for family in self.families {
            let table = nft::load(self.tables, *family, ruleset::TABLE);
            seen.tables.extend(table.map_err(failed("our table"))?.map(|table| (*family, table)));
        }
        Ok(seen)
    }

    fn vxlans(&mut self, links: &[Link], addresses: &[Address]) -> Result<Vxlans, Failure> {
        let ours = links.iter().find(|link| link.name == DEVICE);
        let device = ours.map(|link| self.device(link, addresses)).transpose()?.flatten();
        let others = links.iter().filter(|link| link.name != DEVICE && link.up);
        let others = others.filter_map(|link| Some((link.vxlan?.port, link.name.clone())));
        let mut is_there = || vxlan::is_supported(self.routes).map_err(failed("whether there is VXLAN"));
        Ok(Vxlans {
            missing: device.is_none() && !is_there()?,
            name_taken: ours.is_some() && device.is_none(),
            others: others.collect(),
            device,
        })
    }

    /// Our device; none when it is something else that has its name.
    fn device(&mut self, link: &Link, addresses: &[Address]) -> Result<Option<Device>, Failure> {
        let Some(kind) = link.vxlan else { return Ok(None) };
        let index = link.index;
        let neighbours =
            neighbour::list(self.routes, index).map_err(failed("the neighbours of our device"))?;
        let own = addresses.iter().filter(|found| found.link == index && !is_links_own(found.address.ip()));
        Ok(Some(Device {
            link: index,
            up: link.up,
            collects: kind.metadata,
            offload: overlay::offload(self.features, index).map_err(failed("the features of our device"))?,
            mac: link.mac.unwrap_or(Mac([0; 6])),
            mtu: link.mtu,
            port: kind.port,
            addresses: own.map(|found| found.address).collect(),
            neighbours: neighbours.iter().map(|it| (it.address, it.mac)).collect(),
        }))
    }
}

/// The address that the kernel gives each link by itself.
fn is_links_own(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
