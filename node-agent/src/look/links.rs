//! The links that ways leave by.
//!
//! Not what the agent plans with: they are read when somebody asks, and what cannot be read is left out.

use crate::view::{Path, View};
use heddle_netlink::link::{self, LinkIndex, Which};
use heddle_netlink::{Error, Family, Socket};
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
pub struct Links(pub BTreeMap<LinkIndex, Link>);

impl Links {
    /// Those of a view, as they are now.
    pub fn of(view: &View) -> Self {
        Self::read(view).unwrap_or_default()
    }

    fn read(view: &View) -> Result<Self, Error> {
        let mut socket = Socket::open(Family::Route)?;
        let mut links = Self::default();
        let wanted: BTreeSet<LinkIndex> =
            view.paths().filter_map(|path| path.way).map(|way| way.link()).collect();
        for index in wanted {
            let found = link::fetch(&mut socket, Which::Index(index))?;
            links.0.extend(found.map(|found| (index, Link { name: found.name, mtu: found.mtu })));
        }
        Ok(links)
    }

    /// The name of a link; its number where it has none any more.
    pub fn name(&self, index: LinkIndex) -> String {
        self.0.get(&index).map_or_else(|| format!("#{}", index.0), |link| link.name.clone())
    }

    /// The largest packet that goes a path, in bytes.
    pub fn mtu_of(&self, path: &Path) -> Option<u32> {
        path.mtu.or_else(|| Some(self.0.get(&path.way?.link())?.mtu))
    }
}
