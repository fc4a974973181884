//! The node's side of the kernel: its bridge, its uplink, the host's ends of the pairs.
//!
//! It knows no pod. Invariant: a bridge that others made is taken as it is, but for what pods need to work; whatever is
//! asked for and there already is a success.

mod pods;
mod vlans;

use crate::apply::{Error, refused};
use crate::plan::{FORWARD_IPV6, Setting};
use crate::setting;
use heddle_netlink::address::{self, Address};
use heddle_netlink::bridge;
use heddle_netlink::link::{self, Bridge, Link, Mac, Which};
use heddle_netlink::neighbour::Neighbour;
use heddle_netlink::route::{self, PROTOCOL_HEDDLE, Route};
use heddle_netlink::{Batch, Errno, Family, Socket};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses for documentation (RFC 5737, RFC 3849): no route but the default one leads there. Asking for one route
/// costs a lookup, where listing all holds the kernel's big lock and grows with the node.
const EVERYWHERE_ELSE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const EVERYWHERE_ELSE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The way to the node's kernel, without a pod.
#[derive(Debug)]
pub struct Node {
    socket: Socket,
}

impl Node {
    /// Opens it in the namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(Family::Route).map_err(refused("reach the node's kernel".to_owned()))?;
        Ok(Self { socket })
    }

    /// The largest packet of the link that leads to everywhere else; `None` when there is no such link.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn uplink_mtu(&mut self) -> Result<Option<u32>, Error> {
        let four = self.uplink(EVERYWHERE_ELSE_V4)?;
        let uplink = if four.is_some() { four } else { self.uplink(EVERYWHERE_ELSE_V6)? };
        Ok(uplink.map(|uplink| uplink.mtu))
    }

    fn uplink(&mut self, to: IpAddr) -> Result<Option<Link>, Error> {
        let action = || refused("find the node's uplink".to_owned());
        let index = route::fetch_link_towards(&mut self.socket, to).map_err(action())?;
        let Some(index) = index else { return Ok(None) };
        let uplink = link::fetch(&mut self.socket, Which::Index(index)).map_err(action())?;
        Ok(uplink.filter(|uplink| !uplink.loopback))
    }

    /// With `accept_ra` at 1, the kernel forgets the default route that a router announced as soon as the node forwards;
    /// at 2 it does not. Only the uplink is changed: a bridge that listened would let pods announce routes.
    pub(crate) fn keep_uplink_routes(&mut self) -> Result<(), Error> {
        let says = |key: &str, value| setting::read(key).is_ok_and(|says| says.as_deref() == Some(value));
        if says(FORWARD_IPV6, "1") {
            return Ok(());
        }
        let Some(uplink) = self.uplink(EVERYWHERE_ELSE_V6)? else { return Ok(()) };
        let key = format!("net/ipv6/conf/{}/accept_ra", uplink.name);
        if says(&key, "1") {
            setting::set(&Setting { key, value: "2".to_owned(), required: false })
        } else {
            Ok(())
        }
    }

    /// Removes a link of the node; one that is gone already is a success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_link(&mut self, name: &str) -> Result<(), Error> {
        let mut batch = Batch::new();
        link::delete(&mut batch, Which::Name(name));
        match self.socket.request(&mut batch) {
            Err(e) if e.errno() != Some(Errno::NODEV) => Err(refused(format!("remove link {name}"))(e)),
            _ => Ok(()),
        }
    }

    /// Makes the node send what is for the pod by the host's end of its pair, and to an Ethernet address that it need not
    /// ask for. A route to one of the addresses that is there already is another pod's, and an error.
    pub(crate) fn routes_to_pod(&mut self, link: &str, addresses: &[IpAddr], mac: Mac) -> Result<(), Error> {
        let found = link::fetch(&mut self.socket, Which::Name(link));
        let found = found.map_err(refused(format!("find link {link}")))?;
        let link = found.ok_or_else(|| Error::Gone { name: link.to_owned() })?.index;
        let mut batch = Batch::new();
        for address in addresses.iter().copied() {
            Neighbour { link, address, mac }.replace(&mut batch);
            let plain = Route::new(IpNetwork::from(address), None, link);
            Route { protocol: PROTOCOL_HEDDLE, ..plain }.add(&mut batch);
        }
        let listed = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        self.request(&mut batch, || format!("make the node's route to {listed}"))
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    pub(crate) fn request(
        &mut self,
        batch: &mut Batch,
        action: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.socket.request(batch).map_err(|e| refused(action())(e))
    }

    /// Finds or makes the bridge, and sets right what pods need of it.
    pub(crate) fn bridge(&mut self, name: &str, mtu: Option<u32>, promiscuous: bool) -> Result<Link, Error> {
        let found = match self.find_bridge(name)? {
            Some(found) => found,
            None => self.make_bridge(name, mtu)?,
        };
        let mut batch = Batch::new();
        if !found.up {
            link::set_up(&mut batch, Which::Index(found.index));
        }
        if promiscuous && !found.promiscuous {
            link::set_promiscuous(&mut batch, Which::Index(found.index));
        }
        // A pod that reaches a Service whose endpoint is on the same bridge sends through the node's rules, which
        // rewrite the destination. The answer goes from port to port and would not pass the rules, so that nobody would
        // rewrite its source back. A kernel that cannot do it does not say `Some`. heddle-proxy lets frames pass by while
        // no connection of a pod is rewritten.
        if found.netfilter == Some(false) && !bridge::is_passing(&found) {
            bridge::call_netfilter(&mut batch, found.index);
        }
        self.request(&mut batch, || format!("set bridge {name} up"))?;
        Ok(found)
    }

    /// Two plugins may make the bridge at once: whoever comes second finds it.
    fn make_bridge(&mut self, name: &str, mtu: Option<u32>) -> Result<Link, Error> {
        let mut batch = Batch::new();
        Bridge { name, mac: random_mac(), mtu }.create(&mut batch);
        match self.socket.request(&mut batch) {
            Err(e) if e.errno() != Some(Errno::EXIST) => {
                return Err(refused(format!("make bridge {name}"))(e));
            }
            _ => skip_duplicate_search(name)?,
        }
        self.find_bridge(name)?.ok_or_else(|| Error::Gone { name: name.to_owned() })
    }

    pub(crate) fn find_bridge(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let found = link::fetch(&mut self.socket, Which::Name(name))
            .map_err(refused(format!("find bridge {name}")))?;
        match found {
            Some(found) if found.kind.as_deref() != Some("bridge") => {
                let kind = found.kind.unwrap_or_else(|| "a device".to_owned());
                Err(Error::NotABridge { name: name.to_owned(), kind })
            }
            found => Ok(found),
        }
    }

    /// Addresses that are there already cost one refused request each. Only when one was missing, which is once in a
    /// bridge's life, are the others listed and compared.
    pub(crate) fn bridge_addresses(
        &mut self,
        bridge: &Link,
        wanted: &[IpNetwork],
        force: bool,
    ) -> Result<(), Error> {
        let added = self.add_addresses(bridge, wanted)?;
        if added.is_empty() {
            return Ok(());
        }
        let action = || format!("list the addresses of bridge {}", bridge.name);
        let listed = address::list(&mut self.socket, bridge.index).map_err(|e| refused(action())(e))?;
        let conflict = |has: &Address| {
            let against = wanted.iter().copied().find(|w| contradicts(has.address, *w));
            against.filter(|_| !wanted.contains(&has.address)).map(|wanted| (*has, wanted))
        };
        let conflicts: Vec<_> = listed.iter().filter_map(conflict).collect();
        let Some((has, against)) = conflicts.first() else { return Ok(()) };
        let unwanted = if force { conflicts.iter().map(|(has, _)| *has).collect() } else { added };
        let mut batch = Batch::new();
        unwanted.iter().for_each(|address| _ = address.delete(&mut batch));
        self.request(&mut batch, || format!("remove addresses of bridge {}", bridge.name))?;
        if force {
            // The kernel removes the secondary addresses of a subnet with its first one.
            return self.add_addresses(bridge, wanted).map(|_| ());
        }
        Err(Error::BridgeAddress { bridge: bridge.name.clone(), has: has.address, wanted: *against })
    }

    /// Adds those that are missing, and gives them back.
    fn add_addresses(&mut self, bridge: &Link, wanted: &[IpNetwork]) -> Result<Vec<Address>, Error> {
        let mut added = Vec::new();
        for address in wanted {
            let address = Address { link: bridge.index, address: *address };
            let mut batch = Batch::new();
            address.add(&mut batch);
            match self.socket.request(&mut batch) {
                Ok(()) => added.push(address),
                Err(e) if e.errno() == Some(Errno::EXIST) => {}
                Err(e) => {
                    return Err(refused(format!("give bridge {} address {}", bridge.name, address.address))(
                        e,
                    ));
                }
            }
        }
        Ok(added)
    }
}

/// A router asks for its IPv6 neighbours from its link-local address, and for none while that is searched for duplicates:
/// for two seconds after the first pod, packets to pods would come back as unreachable. The search begins with the
/// bridge's first port, so it is not too late here.
fn skip_duplicate_search(bridge: &str) -> Result<(), Error> {
    let key = format!("net/ipv6/conf/{bridge}/accept_dad");
    setting::set(&Setting { key, value: "0".to_owned(), required: false })
}

/// On a bridge there is one IPv4 address; IPv6 addresses may stand beside each other in subnets of their own.
fn contradicts(has: IpNetwork, wanted: IpNetwork) -> bool {
    match (has, wanted) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(has), IpNetwork::V6(wanted)) => has.contains(wanted.ip()) || wanted.contains(has.ip()),
        _ => false,
    }
}

/// Two nodes must not have the same bridge address, should somebody ever join their bridges.
fn random_mac() -> Mac {
    let mut bytes = [0; 8];
    // Without entropy, which no running system lacks, all bridges of this boot get one address.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    Mac::local(u64::from_ne_bytes(bytes))
}
