//! Hears what others change: routes, rules, links, addresses, neighbours, settings, tables.
//!
//! Not what it was: whatever it is, the agent looks. Our own changes are known by the port of the socket that made them, and the kernel tells us nothing of them.

use crate::agent::Event;
use crate::ruleset::TABLE;
use heddle_cni::hostports;
use heddle_netlink::nft::{Heard, Listener};
use heddle_netlink::{Error, Family, Reply, Socket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use tracing::warn;

/// `RTNLGRP_LINK`, `_NEIGH`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`, `_IPV6_RULE`,
/// `_IPV4_NETCONF` and `_IPV6_NETCONF`. The kernel drops IPv4 routes with their link or address and says nothing of the
/// routes.
const GROUPS: [u32; 10] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25];
/// `RTM_NEWNEIGH` and `RTM_DELNEIGH`.
const NEIGHBOURS: [u16; 2] = [28, 29];

/// Follows the network of a node.
#[derive(Debug)]
pub struct Network {
    socket: Socket,
    /// The number of our VXLAN device.
    device: Arc<AtomicU32>,
}

impl Network {
    /// Opens it in the calling thread's network namespace. Changes from now on are heard, those of neighbours only on the
    /// device that has this number at the time: all links tell of their neighbours, all the time.
    ///
    /// # Errors
    /// When the kernel has no such notifications.
    pub fn open(device: Arc<AtomicU32>) -> Result<Self, Error> {
        let mut socket = Socket::open(Family::Route)?;
        GROUPS.into_iter().try_for_each(|group| socket.subscribe(group))?;
        Ok(Self { socket, device })
    }

    /// Hears no more of what is changed through the socket with this port.
    ///
    /// # Errors
    /// When the kernel takes no filter.
    pub fn ignore(&self, port: u32) -> Result<(), Error> {
        self.socket.ignore(port)
    }

    /// Tells the agent of every change that it hears.
    pub fn listen(mut self, events: &Sender<Event>) {
        loop {
            let mut foreign = false;
            let device = self.device.load(Ordering::Relaxed);
            match self.socket.listen(|reply| foreign |= matters(reply, device)) {
                // Notifications that were lost may have been anything.
                Ok(complete) => foreign |= !complete,
                Err(error) => return warn!("changes of the network are not heard any more: {error}"),
            }
            if foreign && events.send(Event::Doubt).is_err() {
                return;
            }
        }
    }
}

fn matters(reply: Reply<'_>, device: u32) -> bool {
    !NEIGHBOURS.contains(&reply.kind) || reply.body.get(4..8) == Some(&device.to_ne_bytes()[..])
}

/// Tells the agent of every change of our tables that the listener hears, and who keeps pods' host ports of every change of theirs.
pub fn listen_to_tables(mut listener: Listener, events: &Sender<Event>, ports: &Sender<()>) {
    loop {
        let (is_ours, is_of_ports) = match listener.hear() {
            Ok(Heard::Changed(tables)) => {
                let has = |wanted: &str| tables.iter().any(|(_, name)| name == wanted);
                (has(TABLE), has(hostports::ruleset::TABLE))
            }
            Ok(Heard::Lost) => (true, true),
            Err(error) => return warn!("changes of our tables are not heard any more: {error}"),
        };
        if is_ours && events.send(Event::Doubt).is_err() || is_of_ports && ports.send(()).is_err() {
            return;
        }
    }
}
