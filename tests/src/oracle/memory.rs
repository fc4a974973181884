//! Which endpoint a client goes on with (section E of the checklist).

use super::Packet;
use super::target::Target;
use heddle_proxy::model::{ObjectName, Policy, Protocol};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A client of a Service port: neither the address that it connects to nor its own port matters (row E1). By decision the
/// two lists of a port are chosen from apart.
type Client = (ObjectName, Arc<str>, Protocol, bool, IpAddr);

/// The endpoint that each client of a Service port with session affinity had last. It knows no time: nothing is as long ago
/// as a Service's timeout.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    kept: BTreeMap<Client, SocketAddr>,
}

fn client((target, policy): (&Target<'_>, Policy), packet: &Packet) -> Client {
    let (name, port) = (target.name.clone(), target.port);
    (name, port.name.clone(), port.protocol, policy == Policy::Local, packet.source)
}

impl Memory {
    /// The endpoint that the packet's sender had last, if the Service has affinity now (row E4).
    pub(super) fn kept(&self, list: (&Target<'_>, Policy), packet: &Packet) -> Option<SocketAddr> {
        list.0.service.affinity?;
        self.kept.get(&client(list, packet)).copied()
    }

    pub(super) fn keep(&mut self, list: (&Target<'_>, Policy), packet: &Packet, endpoint: SocketAddr) {
        if list.0.service.affinity.is_some() {
            self.kept.insert(client(list, packet), endpoint);
        }
    }
}
