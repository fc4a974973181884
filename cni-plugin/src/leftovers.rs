//! What attachments left on the node: links, leases, host ports.
//!
//! Links are found by what their aliases say, leases by the lease table, host ports by their comments: each may be there
//! without the others. A runtime's GC says which attachments are valid. Without a runtime, the kernel is asked: the host's end
//! of a pair is there exactly as long as the pod's network namespace is, since the kernel removes both ends together; so what
//! has a link belongs to a pod that lives, and what has none is [`Dead`]. Invariant: nothing of another network is touched, and
//! a lease that came from another program, whose links are not ours, is never dead.

use crate::failure::Failure;
use crate::hostports::HostPorts;
use crate::hostports::note::Note;
use crate::ipam::{Held, Owner};
use crate::lease;
use crate::names;
use crate::node::Node;
use crate::spec::Attachment;
use crate::store::{Store, boot_id};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// One network of the node.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where leases are kept.
    pub leases: &'a Path,
}

/// Something whose pod is gone: its link is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dead {
    /// Addresses that are held.
    Lease {
        /// Whose they were.
        owner: Owner,
        /// Which.
        addresses: Vec<IpAddr>,
    },
    /// Ports of the node.
    Ports {
        /// The link that led to the pod.
        link: String,
        /// Whose they were, for people.
        owner: String,
    },
}

impl Network<'_> {
    fn attachment(&self, owner: &Owner) -> Attachment {
        let Owner { container, ifname } = owner.clone();
        Attachment { network: self.name.to_owned(), container, ifname }
    }

    /// All attachments that have a link or a lease. What cannot be read is told.
    pub fn attachments(&self, node: &mut Node, troubles: &mut Vec<String>) -> BTreeSet<Attachment> {
        let mut found = BTreeSet::new();
        match node.attachments() {
            Ok(linked) => found.extend(linked.into_iter().filter(|a| a.network == self.name)),
            Err(e) => troubles.push(Failure::from(e).to_line()),
        }
        match lease::holders(self.leases, self.name) {
            Ok(holders) => found.extend(holders.iter().map(|held| self.attachment(&held.owner))),
            Err(failure) => troubles.push(failure.to_line()),
        }
        found
    }

    /// Removes the link of an attachment and then its lease: an address whose link could not be removed stays held.
    ///
    /// # Errors
    /// When one of them is still there.
    pub fn remove(&self, node: &mut Node, attachment: &Attachment) -> Result<(), Failure> {
        node.delete_link(&names::host_link(attachment))?;
        lease::release(self.leases, attachment)
    }

    /// All that is dead at this moment. What an ADD has just begun looks the same, so it counts only after a while.
    ///
    /// # Errors
    /// When links, leases or ports cannot be read.
    pub fn find_dead(&self, node: &mut Node) -> Result<BTreeSet<Dead>, Failure> {
        // Before the links: what is made meanwhile has its link by then.
        self.find_dead_of(lease::holders(self.leases, self.name)?, node)
    }

    /// The same for who only looks: nothing is locked or set right, not even a lease table that is damaged.
    ///
    /// # Errors
    /// As [`find_dead`](Self::find_dead), and when the table is damaged.
    pub fn look_for_dead(&self, node: &mut Node) -> Result<BTreeSet<Dead>, Failure> {
        self.find_dead_of(Store::look(self.leases, self.name, &boot_id()?)?, node)
    }

    fn find_dead_of(&self, held: Vec<Held>, node: &mut Node) -> Result<BTreeSet<Dead>, Failure> {
        let notes = HostPorts::find()?.map(|mut ports| ports.notes()).transpose()?.unwrap_or_default();
        let links = node.host_links()?;
        let mut dead = BTreeSet::new();
        for Held { owner, addresses, .. } in held.into_iter().filter(|held| !held.foreign) {
            if !links.contains(&names::host_link(&self.attachment(&owner))) {
                dead.insert(Dead::Lease { owner, addresses });
            }
        }
        for note in notes.iter().map(|note| Note::of(note)).filter(|note| note.is_in(self.name)) {
            if let Some(link) = note.link().filter(|link| !links.contains(*link)) {
                dead.insert(Dead::Ports { link: link.to_owned(), owner: note.owner().to_owned() });
            }
        }
        Ok(dead)
    }

    /// Gives back what is dead, unless it lives after all. Returns whether it did so.
    ///
    /// # Errors
    /// When it could not be given back.
    pub fn bury(&self, node: &mut Node, dead: &Dead) -> Result<bool, Failure> {
        match dead {
            Dead::Lease { owner, .. } => {
                // Nobody is given the lease anew between the look and the release.
                let store = Store::open_existing(self.leases, self.name, &boot_id()?)?;
                let Some(mut store) = store else { return Ok(false) };
                if node.has_link(&names::host_link(&self.attachment(owner)))? {
                    return Ok(false);
                }
                Ok(store.release(owner)?)
            }
            Dead::Ports { link, .. } => {
                let Some(mut ports) = HostPorts::find()? else { return Ok(false) };
                if node.has_link(link)? {
                    return Ok(false);
                }
                ports.release(|note| note.link() == Some(link))?;
                Ok(true)
            }
        }
    }
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease { owner: Owner { container, ifname }, addresses } => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "addresses {} of container {container} interface {ifname}", addresses.join(", "))
            }
            Self::Ports { owner, .. } => write!(f, "host ports of {owner}"),
        }
    }
}
