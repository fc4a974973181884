//! Host ports: ports of the node that lead to pods, in an nf_tables table of our own.
//!
//! | module | what it is |
//! |---|---|
//! | [`claim`] | what a pod claims, and when two claims conflict; pure |
//! | [`note`] | whose an element is; pure |
//! | [`ruleset`] | the table: its names, sets and chains; pure |
//! | [`memory`] | the same on the pod's link, for the day that the table is flushed; pure |
//! | [`restore`] | what is missing of all pods' ports |
//! | `flows` | UDP flows that would go on to where the port led before |
//!
//! All state is in the kernel: an element for each port, whose comment says whose it is. No process keeps a lock: an edit
//! is committed only if the ruleset is still the one that it was made from. Invariant: a port leads to one pod, and a
//! claim that conflicts with a living pod's is refused, also when both come at once.

pub mod claim;
mod flows;
pub mod memory;
pub mod note;
pub mod restore;
pub mod ruleset;

use crate::apply;
use crate::node::Node;
use crate::plan::Setting;
use crate::setting;
use claim::Claim;
use heddle_netlink::link::{self, Which};
use heddle_netlink::nft::noted::{self, Committed, Edit, Generation, Noted};
use heddle_netlink::nft::{self, CommitError, TableFamily};
use heddle_netlink::{Errno, Error as NetlinkError, Family, Socket, route};
use note::Note;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How often an edit is made anew because others were faster. A proxy that follows a busy cluster commits every few
/// milliseconds, and an edit takes a fraction of one.
const TRIES: u32 = 100;

/// Why ports could not be claimed or released.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another pod has the port.
    #[error("{claim} of the node is held by {owner}")]
    Conflict {
        /// What is claimed.
        claim: String,
        /// Who has it.
        owner: String,
    },
    /// The pod wants the same port twice.
    #[error("runtimeConfig.portMappings: {claim} is mapped twice")]
    Twice {
        /// What is claimed.
        claim: String,
    },
    /// The pod has no address of the family.
    #[error(
        "runtimeConfig.portMappings: hostIP of port {port} is {address}, and the pod has no address of that family"
    )]
    Family {
        /// The wanted address of the node.
        address: IpAddr,
        /// The wanted port.
        port: u16,
    },
    /// The IPv6 loopback address.
    #[error(
        "runtimeConfig.portMappings: hostIP of port {port} is ::1, which the kernel lets nobody translate"
    )]
    Loopback {
        /// The wanted port.
        port: u16,
    },
    /// The kernel refused.
    #[error("{action}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Its own words.
        #[source]
        source: heddle_netlink::Error,
    },
    /// The table could not be made.
    #[error("make the table of host ports")]
    Make(#[source] CommitError),
    /// Others changed the rules again and again.
    #[error("the node's rules changed {tries} times while the host ports were set")]
    Overtaken {
        /// How often it was tried.
        tries: u32,
    },
    /// The node's side of the pod.
    #[error(transparent)]
    Node(#[from] apply::Error),
}

fn refused(action: &'static str) -> impl Fn(heddle_netlink::Error) -> Error {
    move |source| Error::Kernel { action, source }
}

/// The way to the table.
#[derive(Debug)]
pub struct HostPorts {
    socket: Socket,
}

/// All elements, as they were at one moment.
#[derive(Debug)]
struct Elements {
    generation: Generation,
    all: Vec<(TableFamily, Noted)>,
}

impl HostPorts {
    /// Opens it in the namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(Family::Netfilter).map_err(refused("reach the node's packet filter"))?;
        Ok(Self { socket })
    }

    /// Opens it where there may be ports to release; none on a kernel without nf_tables, where nothing was ever claimed.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn find() -> Result<Option<Self>, Error> {
        let mut ports = match Self::open() {
            Err(Error::Kernel { source: NetlinkError::Open(e), .. }) if is_unknown(e.raw_os_error()) => {
                return Ok(None);
            }
            opened => opened?,
        };
        match noted::generation(&mut ports.socket) {
            Err(e) if is_unknown(e.errno().map(Errno::raw_os_error)) => Ok(None),
            Err(e) => Err(refused("reach the node's packet filter")(e)),
            Ok(_) => Ok(Some(ports)),
        }
    }

    /// Fails when a living pod has one of the ports. Nothing is changed.
    ///
    /// # Errors
    /// [`Error::Conflict`], or the cause when the kernel does not say.
    pub fn check_free(&mut self, node: &mut Node, (claims, note): (&[Claim], &str)) -> Result<(), Error> {
        let elements = self.read(&families(claims))?;
        edits(&elements.all, (claims, note), |link| is_there(node, link)).map(drop)
    }

    /// Makes the ports lead to the pod. What the same attachment claimed before is replaced, and what a pod claimed that
    /// is dead, without a DEL that we heard of, is taken over.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a living pod has one of the ports, or what the kernel refused; then nothing is changed.
    pub fn claim(&mut self, node: &mut Node, (claims, note): (&[Claim], &str)) -> Result<(), Error> {
        let families = families(claims);
        self.commit(|ports| {
            families.iter().try_for_each(|family| ports.make(*family))?;
            let elements = ports.read(&families)?;
            let edits = edits(&elements.all, (claims, note), |link| is_there(node, link))?;
            Ok((elements.generation, edits))
        })?;
        flows::forget_others(&mut self.socket, node, claims)?;
        claims.iter().try_for_each(|claim| open_loopback(node, claim))
    }

    /// Releases all ports whose notes say so; UDP flows to them are forgotten.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn release(&mut self, gone: impl Fn(Note<'_>) -> bool) -> Result<(), Error> {
        let mut released = Vec::new();
        self.commit(|ports| {
            let mut elements = ports.read(&TableFamily::ALL)?;
            elements.all.retain(|(_, element)| gone(Note::of(&element.note)));
            released = elements.all.iter().filter_map(|(_, element)| ruleset::claim(element)).collect();
            let edit = |(family, element)| edit(family, vec![element], Vec::new());
            Ok((elements.generation, elements.all.into_iter().map(edit).collect()))
        })?;
        flows::forget_own(&mut self.socket, &released)
    }

    /// The notes of all elements.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn notes(&mut self) -> Result<BTreeSet<String>, Error> {
        let elements = self.read(&TableFamily::ALL)?;
        Ok(elements.all.into_iter().map(|(_, element)| element.note).collect())
    }

    /// The netlink port by which notifications of our own changes are known.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// What is not as [`claim`](Self::claim) left it.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn differences(&mut self, claims: &[Claim]) -> Result<Vec<String>, Error> {
        let mut differences = Vec::new();
        for family in families(claims) {
            let has = nft::load(&mut self.socket, family, ruleset::TABLE);
            let has = has.map_err(refused("read the table of host ports"))?;
            differences.extend(compare(family, has));
        }
        let elements = self.read(&families(claims))?;
        let has = |claim: &&Claim| {
            let mut claimed = elements.all.iter().filter_map(|(_, element)| ruleset::claim(element));
            claimed.any(|has| has == **claim)
        };
        let lost = claims.iter().filter(|claim| !has(claim));
        differences.extend(lost.map(|claim| format!("{claim} of the node does not lead to {}", claim.to)));
        Ok(differences)
    }

    /// Makes an edit from what is read and commits it, until nobody was faster.
    fn commit(
        &mut self,
        mut make: impl FnMut(&mut Self) -> Result<(Generation, Vec<Edit>), Error>,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let (generation, edits) = make(self)?;
            match noted::commit(&mut self.socket, generation, &edits) {
                Ok(Committed::Yes) => return Ok(()),
                Ok(Committed::Overtaken) => {}
                Err(source) => return Err(Error::Kernel { action: "set the host ports", source }),
            }
        }
        Err(Error::Overtaken { tries: TRIES })
    }

    /// The table's rules never change, so a glance at them tells whether it is there and whole.
    fn make(&mut self, family: TableFamily) -> Result<(), Error> {
        if self.is_whole(family)? {
            return Ok(());
        }
        nft::commit(&mut self.socket, &ruleset::make(family)).map_err(Error::Make)
    }

    fn read(&mut self, families: &[TableFamily]) -> Result<Elements, Error> {
        let action = refused("read the host ports");
        let generation = noted::generation(&mut self.socket).map_err(&action)?;
        let mut all = Vec::new();
        for family in families {
            for set in ruleset::SETS {
                let loaded =
                    noted::load(&mut self.socket, *family, (ruleset::TABLE, set)).map_err(&action)?;
                all.extend(loaded.into_iter().map(|element| (*family, element)));
            }
        }
        Ok(Elements { generation, all })
    }
}

/// What the kernel says about a netlink family, or a part of one, that it was built without.
fn is_unknown(error: Option<i32>) -> bool {
    let unknown = [Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL];
    unknown.map(Errno::raw_os_error).into_iter().any(|unknown| error == Some(unknown))
}

/// What turns the elements into those with the claims.
fn edits(
    elements: &[(TableFamily, Noted)],
    (claims, note): (&[Claim], &str),
    mut lives: impl FnMut(&str) -> Result<bool, Error>,
) -> Result<Vec<Edit>, Error> {
    let mut edits = Vec::new();
    for family in families(claims) {
        let claims = || claims.iter().filter(move |claim| self::family(claim) == family);
        let pods: BTreeSet<IpAddr> = claims().map(|claim| claim.to.ip()).collect();
        let hairpins = pods.into_iter().map(|pod| ruleset::hairpin(pod, note));
        let new: Vec<_> = claims().map(|claim| ruleset::element(claim, note)).chain(hairpins).collect();
        let mut gone = Vec::new();
        for (_, element) in elements.iter().filter(|(found, _)| *found == family) {
            if in_the_way(element, (claims(), note), &mut lives)? {
                gone.push(element.clone());
            }
        }
        edits.push(edit(family, gone, new));
    }
    Ok(edits)
}

/// Whether an element must go first; an error when it must not.
fn in_the_way<'a>(
    element: &Noted,
    (mut claims, note): (impl Iterator<Item = &'a Claim>, &str),
    lives: &mut impl FnMut(&str) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let owner = Note::of(&element.note);
    if owner.is_same(Note::of(note)) {
        return Ok(true);
    }
    let Some(claimed) = ruleset::claim(element) else {
        // A pod has its address alone, so whoever could reach itself by it before is gone.
        return Ok(claims.any(|claim| element.key == ruleset::hairpin(claim.to.ip(), note).key));
    };
    let Some(conflict) = claims.find(|claim| claim.conflicts(&claimed)) else { return Ok(false) };
    match owner.link() {
        Some(link) if !lives(link)? => Ok(true),
        _ => Err(Error::Conflict { claim: conflict.to_string(), owner: owner.owner().to_owned() }),
    }
}

fn edit(family: TableFamily, gone: Vec<Noted>, new: Vec<Noted>) -> Edit {
    Edit { family, table: ruleset::TABLE.into(), gone, new }
}

fn family(claim: &Claim) -> TableFamily {
    TableFamily::of(claim.to.ip())
}

fn families(claims: &[Claim]) -> Vec<TableFamily> {
    TableFamily::ALL
        .into_iter()
        .filter(|wanted| claims.iter().any(|claim| family(claim) == *wanted))
        .collect()
}

fn compare(family: TableFamily, has: Option<nft::Table>) -> Option<String> {
    let name = format!("table {family} {}", ruleset::TABLE);
    let Some(has) = has else { return Some(format!("{name} is missing")) };
    let wanted = ruleset::table(family);
    let whole =
        wanted.sets.iter().all(|(set, wanted)| has.sets.get(set).is_some_and(|has| has.kind == wanted.kind));
    (has.dormant || has.chains != wanted.chains || !whole).then(|| format!("{name} was edited"))
}

/// A pod whose host's end is gone is dead.
fn is_there(node: &mut Node, link: &str) -> Result<bool, Error> {
    Ok(node.has_link(link)?)
}

/// Lets the node reach the port by 127.0.0.1. The kernel sends such packets by no other link than its loopback one unless
/// the other link is told so; the table's guard keeps strangers from using that.
fn open_loopback(node: &mut Node, claim: &Claim) -> Result<(), Error> {
    if !claim.is_on_loopback() {
        return Ok(());
    }
    let action = refused("find the link to the pod");
    let Some(index) = route::fetch_link_towards(node.socket(), claim.to.ip()).map_err(&action)? else {
        return Ok(());
    };
    let Some(link) = link::fetch(node.socket(), Which::Index(index)).map_err(&action)? else { return Ok(()) };
    let key = format!("net/ipv4/conf/{}/route_localnet", link.name);
    Ok(setting::set(&Setting { key, value: "1".to_owned(), required: false })?)
}

#[cfg(test)]
mod tests;
