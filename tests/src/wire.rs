//! The lab's own wiring: the cables and the switch that stand in a data centre.
//!
//! It is not how heddle's programs set up pods, though it says it to the kernel in the same words. It works in the
//! namespace in which it was opened, and knows nothing of nodes and pods.

use heddle_netlink::address::Address;
use heddle_netlink::link::{self, Bridge, LinkIndex, Mac, Peer, Veth, Which};
use heddle_netlink::route::Route;
use heddle_netlink::{Batch, Errno, Error, Family, Refusal, Socket};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// A netlink socket in one namespace.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
}

/// A cable from a bridge to another host.
#[derive(Clone, Copy, Debug)]
pub struct Cable<'a> {
    /// The bridge.
    pub bridge: &'a str,
    /// Name of the bridge's port.
    pub port: &'a str,
    /// Name of the link in the other host; it is born down.
    pub plug: &'a str,
    /// The other host.
    pub other: BorrowedFd<'a>,
    /// Unique on the bridge: both ends' Ethernet addresses come from it.
    pub number: u8,
    /// The largest packet, in place of Ethernet's 1500 bytes.
    pub mtu: Option<u32>,
}

impl Wire {
    /// Opens it in the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Family::Route)? })
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn up(&mut self, link: &str) -> Result<(), Error> {
        self.request(|batch| link::set_up(batch, Which::Name(link)))
    }

    /// Makes a bridge that is up.
    ///
    /// # Errors
    /// When a link of that name exists.
    pub fn bridge(&mut self, name: &str) -> Result<(), Error> {
        self.request(|batch| Bridge { name, mac: Mac::local(1), mtu: None }.create(batch))
    }

    /// Plugs another host into a bridge of this one.
    ///
    /// # Errors
    /// When a link of either name exists.
    pub fn cable(&mut self, cable: Cable<'_>) -> Result<(), Error> {
        let number = u64::from(cable.number);
        let namespace = cable.other;
        let veth = Veth {
            name: cable.port,
            mac: Mac::local(0x100 + number),
            mtu: cable.mtu,
            master: Some(self.index(cable.bridge)?),
            peer: Peer { name: cable.plug, mac: Mac::local(0x200 + number), namespace },
        };
        self.request(|batch| veth.create(batch))
    }

    /// Takes a link away, and with it the other end of its cable.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn remove(&mut self, link: &str) -> Result<(), Error> {
        self.request(|batch| link::delete(batch, Which::Name(link)))
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// When the link is missing or has the address.
    pub fn address(&mut self, link: &str, address: IpNetwork) -> Result<(), Error> {
        let link = self.index(link)?;
        self.request(|batch| Address { link, address }.add(batch))
    }

    /// Sends what is for `to` over a link by way of `via`.
    ///
    /// # Errors
    /// When the route exists or `via` is not reached directly.
    pub fn route(&mut self, link: &str, to: IpNetwork, via: IpAddr) -> Result<(), Error> {
        let link = self.index(link)?;
        self.request(|batch| Route::new(to, Some(via), link).add(batch))
    }

    /// As [`route`](Self::route), in place of the route that was there.
    ///
    /// # Errors
    /// When `via` is not reached directly.
    pub fn reroute(&mut self, link: &str, to: IpNetwork, via: IpAddr) -> Result<(), Error> {
        let link = self.index(link)?;
        self.request(|batch| Route::new(to, Some(via), link).replace(batch))
    }

    /// Takes such a route away.
    ///
    /// # Errors
    /// When there is none.
    pub fn unroute(&mut self, link: &str, to: IpNetwork, via: IpAddr) -> Result<(), Error> {
        let link = self.index(link)?;
        self.request(|batch| Route::new(to, Some(via), link).delete(batch))
    }

    fn index(&mut self, link: &str) -> Result<LinkIndex, Error> {
        let missing = || Refusal { index: 0, errno: Errno::NODEV, text: Some(format!("no link {link}")) };
        let found = link::fetch(&mut self.socket, Which::Name(link))?;
        found.map(|link| link.index).ok_or_else(|| Error::Refused { refusals: vec![missing()] })
    }

    fn request(&mut self, write: impl FnOnce(&mut Batch) -> u32) -> Result<(), Error> {
        let mut batch = Batch::new();
        write(&mut batch);
        self.socket.request(&mut batch)
    }
}
