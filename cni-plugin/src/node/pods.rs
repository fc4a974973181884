//! The links that lead to pods: which are there, and what they say of themselves.
//!
//! Nothing is kept about them elsewhere: a link and all its names go with its pod.

use super::Node;
use crate::alias;
use crate::apply::{Error, refused};
use crate::hostports::claim::Claim;
use crate::hostports::{memory, note};
use crate::names;
use crate::spec::Attachment;
use heddle_netlink::link::{self, Link, Which};
use heddle_netlink::{Batch, Errno};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Node {
    /// The link of the pod that has an address, by the name that [`names::address_name`] gives it.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn find_by_address(&mut self, network: &str, address: IpAddr) -> Result<Option<Link>, Error> {
        let name = names::address_name(network, address);
        let found = link::fetch(&mut self.socket, Which::Name(&name));
        found.map_err(refused(format!("find the link that has address {address}")))
    }

    /// Gives a link further names, which no other has. A kernel before 5.5 has no such names, and the lease table alone
    /// says who has an address.
    pub(crate) fn add_names(&mut self, link: &str, names: &[String]) -> Result<(), Error> {
        let mut batch = Batch::new();
        link::add_names(&mut batch, Which::Name(link), names);
        let action = || refused(format!("name {link} by its addresses: {}", names.join(", ")));
        match self.socket.request(&mut batch) {
            Err(e) if e.errno() == Some(Errno::OPNOTSUPP) => Ok(()),
            Err(e) if e.errno() == Some(Errno::EXIST) => {
                Err(Error::Exists { name: names.join(" or "), place: "on the node" })
            }
            done => done.map_err(action()),
        }
    }

    /// Whether the node has a link of this name.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn has_link(&mut self, name: &str) -> Result<bool, Error> {
        let found = link::fetch(&mut self.socket, Which::Name(name));
        Ok(found.map_err(refused(format!("find link {name}")))?.is_some())
    }

    /// The names of the host's ends of all pairs.
    ///
    /// # Errors
    /// When the kernel refuses to list them.
    pub fn host_links(&mut self) -> Result<BTreeSet<String>, Error> {
        let listed = link::list(&mut self.socket, "veth");
        let links = listed.map_err(refused("list the node's links".to_owned()))?;
        Ok(links
            .into_iter()
            .map(|link| link.name)
            .filter(|name| name.starts_with(names::HOST_PREFIX))
            .collect())
    }

    /// Whose pairs are there: the attachments of all links that are ours.
    ///
    /// # Errors
    /// When the kernel refuses to list them.
    pub fn attachments(&mut self) -> Result<Vec<Attachment>, Error> {
        let listed = link::list(&mut self.socket, "veth");
        let links = listed.map_err(refused("list the node's links".to_owned()))?;
        Ok(links.iter().filter_map(alias::read).collect())
    }

    /// The host ports that the links of pods remember, with the notes of their elements.
    ///
    /// # Errors
    /// When the kernel refuses to list them.
    pub fn remembered_ports(&mut self) -> Result<Vec<(String, Vec<Claim>)>, Error> {
        let listed = link::list_named(&mut self.socket, "veth");
        let listed = listed.map_err(refused("list the node's links".to_owned()))?;
        let remembered = listed.iter().filter_map(|(link, names)| {
            let claims = memory::read(&link.name, names.iter().map(String::as_str));
            let alias = alias::read(link).and(link.alias.as_deref())?;
            (!claims.is_empty()).then(|| (note::of_link(&link.name, alias), claims))
        });
        Ok(remembered.collect())
    }

    /// Makes a link remember its pod's host ports.
    pub(crate) fn remember_ports(&mut self, link: &str, claims: &[Claim]) -> Result<(), Error> {
        match memory::write(link, claims).as_slice() {
            [] => Ok(()),
            names => self.add_names(link, names),
        }
    }
}
