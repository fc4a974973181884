//! What an ADD came to, as the specification's result: ours, that of the plugins before us, and that of an IPAM plugin.
//!
//! The type is the newest version's; [`Outcome::write`] says it in the words of an older one, and [`Outcome::read`] takes
//! any. Invariant: an address that says where it is points at one of the interfaces.

mod read;
mod write;

use crate::dns::Dns;
use crate::route::Route;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

pub use write::versions;

/// A result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Links on the node and in the container.
    pub interfaces: Vec<Interface>,
    /// The container's addresses.
    pub ips: Vec<Ip>,
    /// The container's routes.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Dns,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its Ethernet address; empty when it has none.
    pub mac: String,
    /// Largest packet in bytes; from 1.1.0 on.
    pub mtu: Option<u32>,
    /// The container's namespace, when it is there.
    pub sandbox: Option<String>,
    /// A socket that stands for it; from 1.1.0 on.
    pub socket_path: Option<String>,
    /// The device behind it; from 1.1.0 on.
    pub pci_id: Option<String>,
}

/// An address of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Which of the interfaces has it.
    pub interface: Option<usize>,
    /// The address with the length of its subnet's prefix.
    pub address: IpNetwork,
    /// The subnet's gateway.
    pub gateway: Option<IpAddr>,
}

impl Outcome {
    /// Where the interface of this name in the container stands.
    pub fn find_in_container(&self, name: &str) -> Option<usize> {
        self.interfaces.iter().position(|i| i.name == name && i.sandbox.is_some())
    }

    /// Where the node's interface of this name stands.
    pub fn find_on_node(&self, name: &str) -> Option<usize> {
        self.interfaces.iter().position(|i| i.name == name && i.sandbox.is_none())
    }

    /// This result, with all that another plugin adds. The first plugin's name servers stay, if it has any.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        let shift = self.interfaces.len();
        let moved = |ip: Ip| Ip { interface: ip.interface.map(|at| at + shift), ..ip };
        self.interfaces.extend(more.interfaces);
        self.ips.extend(more.ips.into_iter().map(moved));
        self.routes.extend(more.routes);
        if self.dns.is_empty() {
            self.dns = more.dns;
        }
        self
    }
}

#[cfg(test)]
mod tests;
