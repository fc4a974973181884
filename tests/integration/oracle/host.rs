//! Our node's kernel, with the test at the other end of its wires.
//!
//! It is a namespace with two devices whose packets the test writes and reads: there is no other host, pod or switch. What
//! it does with a packet is complete when the write returns.

use super::addresses::{OUR_NODE, SOMEWHERE, bridge, networks, outside, pod};
use super::segments::{self, Sent};
use heddle_netlink::address::Address;
use heddle_netlink::link::{self, Which};
use heddle_netlink::route::Route;
use heddle_netlink::{Batch, Family, Socket};
use heddle_proxy::model::Protocol;
use heddle_proxy::nft::Netlink;
use heddle_tests::namespace::Namespace;
use heddle_tests::oracle::{Outcome, Packet, Settings};
use heddle_tests::patience::{PATIENCE, eventually};
use ipnetwork::IpNetwork;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// `TUNSETIFF`, with `IFF_TUN | IFF_NO_PI`: whole IP packets and nothing before them.
const SET_DEVICE: u32 = 0x4004_54ca;
const TUN_WITHOUT_HEADER: u16 = 0x1001;

/// What the test can see of a packet's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It leaves the node for this address and port. Between two addresses of the node no source is told from another, since
    /// the kernel may choose the one that was there.
    Leaves { to: SocketAddr, source_kept: bool },
    /// Its sender is told that the port is unreachable.
    Refused,
    /// It ends on the node, where nobody listens.
    Ends,
    /// Nothing leaves the node.
    Nothing,
}

impl Fate {
    /// What an outcome looks like. Answers to the node's own addresses stay on the node.
    pub(crate) fn of(outcome: Outcome, packet: &Packet, settings: &Settings) -> Self {
        let answer_leaves = !settings.addresses.contains(&packet.source);
        let (to, source_kept) = match outcome {
            Outcome::Endpoint { address, port, source_kept } => (SocketAddr::new(address, port), source_kept),
            Outcome::Untouched => (SocketAddr::new(packet.destination, packet.port), true),
            Outcome::Reject if answer_leaves => return Self::Refused,
            Outcome::Reject | Outcome::Drop => return Self::Nothing,
        };
        match settings.addresses.contains(&to.ip()) {
            false => Self::Leaves { to, source_kept: source_kept || !answer_leaves },
            true if answer_leaves => Self::Ends,
            true => Self::Nothing,
        }
    }
}

/// The node.
#[derive(Debug)]
pub(crate) struct Host {
    namespace: Namespace,
    addresses: BTreeSet<IpAddr>,
    pods: OwnedFd,
    world: OwnedFd,
    /// For what the node sends itself, by family.
    raw: [OwnedFd; 2],
    sent: u32,
}

impl Host {
    /// A node with the addresses of the settings.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let namespace = Namespace::new("node")?;
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
            // Every packet is answered, however many there are.
            ("ipv4/icmp_ratemask", "0"),
            ("ipv6/icmp/ratelimit", "0"),
            ("ipv6/icmp/ratemask", "255"),
        ] {
            namespace.sysctl(key, value)?;
        }
        let (pods, world, raw) = namespace.enter(|| -> Result<_> {
            let devices = (device("cni0")?, device("eth0")?);
            furnish(settings)?;
            Ok((devices.0, devices.1, [raw(AddressFamily::INET)?, raw(AddressFamily::INET6)?]))
        })??;
        let addresses = settings.addresses.clone();
        let mut host = Self { namespace, addresses, pods, world, raw, sent: 0 };
        settings.addresses.iter().try_for_each(|address| host.await_address(*address))?;
        Ok(host)
    }

    /// The route to an IPv6 address of the node comes a moment after the address (`addrconf_dad_work`, 6.18).
    fn await_address(&mut self, address: IpAddr) -> Result<()> {
        let packet = Packet {
            source: outside(address.is_ipv4(), 7),
            in_interface: Some("eth0".into()),
            destination: address,
            port: 9,
            protocol: Protocol::Tcp,
        };
        let arrives = || match self.send(&packet) {
            Ok(Fate::Ends) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        Ok(eventually("a packet to the node's own address to end there", PATIENCE, arrives)?)
    }

    /// The door to its nf_tables.
    pub(crate) fn nftables(&self) -> Result<Netlink> {
        Ok(self.namespace.enter(Netlink::open)??)
    }

    /// Sends the first segment of a connection and sees what becomes of it.
    pub(crate) fn send(&mut self, packet: &Packet) -> Result<Fate> {
        let number = self.write(packet)?;
        // Behind it one that no Service takes: when that has left the node, nothing of the first is still to come.
        let last = Packet { destination: outside(packet.destination.is_ipv4(), 250), ..packet.clone() };
        let last = self.write(&last)?;
        let mut seen = self.drain()?;
        let left = |sent: &Sent| matches!(sent, Sent::Segment { number, .. } if *number == last);
        if !seen.iter().any(left) {
            return Err(format!("{packet}: not even what no Service takes has left the node").into());
        }
        seen.retain(|sent| !left(sent));
        let own = self.addresses.contains(&packet.source);
        let fate = seen.into_iter().find_map(|sent| match sent {
            Sent::Segment { number: n, source, destination } if n == number => {
                Some(Fate::Leaves { to: destination, source_kept: own || source == packet.source })
            }
            Sent::Unreachable { number: n } if n == number => Some(Fate::Refused),
            Sent::Reset { number: n } if n == number => Some(Fate::Ends),
            _ => None,
        });
        Ok(fate.unwrap_or(Fate::Nothing))
    }

    fn write(&mut self, packet: &Packet) -> Result<u32> {
        self.sent += 1;
        let bytes = segments::open(packet, self.sent);
        match packet.in_interface.as_deref() {
            Some("cni0") => rustix::io::write(&self.pods, &bytes)?,
            Some(_) => rustix::io::write(&self.world, &bytes)?,
            None => {
                let to = SocketAddr::new(packet.destination, 0);
                let socket = &self.raw[usize::from(packet.destination.is_ipv6())];
                match rustix::net::sendto(socket, &bytes, SendFlags::empty(), &to) {
                    // How a sender learns that its packet was dropped on the way out.
                    Err(Errno::PERM) => 0,
                    sent => sent?,
                }
            }
        };
        Ok(self.sent)
    }

    /// Everything that the node has sent so far.
    fn drain(&self) -> Result<Vec<Sent>> {
        let mut seen = Vec::new();
        let mut bytes = [0; 2048];
        for device in [&self.pods, &self.world] {
            loop {
                match rustix::io::read(device, &mut bytes) {
                    Ok(length) => seen.extend(segments::read(&bytes[..length])),
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(seen)
    }
}

/// A device whose other end is the file.
fn device(name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    // `struct ifreq`: the name, then flags, then room.
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&TUN_WITHOUT_HEADER.to_ne_bytes());
    #[expect(unsafe_code, reason = "rustix has no words for tun devices")]
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which the array is.
    unsafe {
        let set = rustix::ioctl::Updater::<SET_DEVICE, _>::new(&mut request);
        rustix::ioctl::ioctl(&file, set)?;
    }
    Ok(file)
}

fn raw(family: AddressFamily) -> Result<OwnedFd> {
    Ok(rustix::net::socket(family, SocketType::RAW, Some(ipproto::RAW))?)
}

/// Addresses, links and routes.
fn furnish(settings: &Settings) -> Result<()> {
    let mut socket = Socket::open(Family::Route)?;
    let mut index = |name| -> Result<_> {
        let mut batch = Batch::new();
        link::set_up(&mut batch, Which::Name(name));
        socket.request(&mut batch)?;
        Ok(link::fetch(&mut socket, Which::Name(name))?.ok_or("the device is gone")?.index)
    };
    let (_, pods, world) = (index("lo")?, index("cni0")?, index("eth0")?);
    let mut batch = Batch::new();
    for &address in &settings.addresses {
        let link = if address == bridge(address.is_ipv4()) { pods } else { world };
        Address { link, address: IpNetwork::from(address) }.add(&mut batch);
    }
    let everything = networks(|ipv4| -> IpAddr { outside(ipv4, 0) }, (0, 0));
    let local = [OUR_NODE, SOMEWHERE].map(|node| networks(|ipv4| pod(ipv4, node, 0), (24, 64))).concat();
    let routes = everything.into_iter().map(|to| (to, world)).chain(local.into_iter().map(|to| (to, pods)));
    for (to, link) in routes {
        Route::new(to, None, link).add(&mut batch);
    }
    Ok(socket.request(&mut batch)?)
}
