//! The links that matter to what is shown: those that ways leave by, and those with the node's own addresses.
//!
//! Not what the agent plans with: they are read when somebody asks, and what cannot be read is left out.

use crate::view::{Path, View};
use heddle_netlink::link::{self, LinkIndex, Which};
use heddle_netlink::{Error, Family, Socket, address};
use std::collections::{BTreeMap, BTreeSet};

/// A link, as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
}

/// The links by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Those that were read.
    pub known: BTreeMap<LinkIndex, Link>,
    /// Those with the node's own addresses.
    pub own: BTreeSet<LinkIndex>,
}

impl Links {
    /// Those of a view, as they are now.
    pub fn of(view: &View) -> Self {
        Self::read(view).unwrap_or_default()
    }

    fn read(view: &View) -> Result<Self, Error> {
        let mut socket = Socket::open(Family::Route)?;
        let addresses = view.own.as_ref().map_or(&[][..], |own| &own.addresses);
        let mut links = Self::default();
        for found in address::list_all(&mut socket)? {
            if addresses.contains(&found.address.ip()) {
                links.own.insert(found.link);
            }
        }
        let ways = view.paths().filter_map(|path| path.way).map(|way| way.link());
        let wanted: BTreeSet<LinkIndex> = ways.chain(links.own.iter().copied()).collect();
        for index in wanted {
            let found = link::fetch(&mut socket, Which::Index(index))?;
            links.known.extend(found.map(|found| (index, Link { name: found.name, mtu: found.mtu })));
        }
        Ok(links)
    }

    /// The name of a link; its number where it has none any more.
    pub fn name(&self, index: LinkIndex) -> String {
        self.known.get(&index).map_or_else(|| format!("#{}", index.0), |link| link.name.clone())
    }

    /// The largest packet that goes a path, in bytes.
    pub fn mtu_of(&self, path: &Path) -> Option<u32> {
        path.mtu.or_else(|| Some(self.known.get(&path.way?.link())?.mtu))
    }

    /// The largest packet that goes everywhere: to each node that is reached, and out by the node's own links.
    pub fn mtu(&self, view: &View) -> Option<u32> {
        let own = self.own.iter().filter_map(|index| Some(self.known.get(index)?.mtu));
        view.paths().filter_map(|path| self.mtu_of(path)).chain(own).min()
    }
}
