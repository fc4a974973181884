//! Which endpoint a client goes on with (section E of the checklist).

use super::endpoints::Endpoints;
use super::target::{Reach, Target};
use super::{Packet, Settings};
use heddle_proxy::model::{Model, ObjectName, Protocol};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A client of a Service port: neither the address that it connects to nor its own port matters (kp:E1).
type Client = (ObjectName, Arc<str>, Protocol, IpAddr);

/// The endpoint that each client of a Service port with session affinity had last. It knows no time: nothing is as long ago
/// as a Service's timeout.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    kept: BTreeMap<Client, SocketAddr>,
}

fn client(target: &Target<'_>, packet: &Packet) -> Client {
    (target.name.clone(), target.port.name.clone(), target.port.protocol, packet.source)
}

impl Memory {
    /// The endpoint that the packet's sender had last, if the Service has affinity now (kp:E4).
    pub(super) fn kept(&self, target: &Target<'_>, packet: &Packet) -> Option<SocketAddr> {
        target.service.affinity?;
        self.kept.get(&client(target, packet)).copied()
    }

    /// Forgets the endpoints that their Service ports do not use any more, as after every change of the model: one that comes
    /// back begins anew (kp:E3), and so does a Service that has affinity again (kp:E4).
    pub fn forget(&mut self, model: &Model, settings: &Settings) {
        self.kept.retain(|(name, port, protocol, _), endpoint| {
            let Some(service) = model.service(name).filter(|service| service.affinity.is_some()) else {
                return false;
            };
            let mut ports = service.ports.iter().filter(|p| p.name == *port && p.protocol == *protocol);
            ports.any(|port| {
                let target = Target { name, service, port, reach: Reach::ClusterIp };
                let endpoints = Endpoints::of(model, settings, &target, endpoint.is_ipv4());
                endpoints.cluster().contains(endpoint) || endpoints.local().contains(endpoint)
            })
        });
    }

    pub(super) fn keep(&mut self, target: &Target<'_>, packet: &Packet, endpoint: SocketAddr) {
        if target.service.affinity.is_some() {
            self.kept.insert(client(target, packet), endpoint);
        }
    }
}
