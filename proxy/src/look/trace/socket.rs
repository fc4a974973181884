//! What a socket of this node is told when it connects, before there is a packet.
//!
//! The dataplane's own plan says it, with the endpoints that it has now.

use crate::ebpf::View;
use crate::ebpf::plan::{self, Leads};
use crate::frontends::{Endpoint, Frontend, IpFamily, Place};
use crate::look::words::Here;
use crate::nft::settings::Locality;
use crate::packet::Packet;
use serde_json::{Value, json};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a socket is told: one of these, or with none of them that it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The endpoints, each as likely as the others.
    pub endpoints: Arc<[Endpoint]>,
}

impl Told {
    /// What the client that would send this packet is told; `None` where its packets decide.
    pub fn of(here: &Here<'_>, packet: &Packet) -> Option<Self> {
        here.inside.sockets.filter(View::is_serving)?;
        let is_node = packet.in_interface.is_none();
        if !is_node && (!is_pod(here, packet) || here.inside.model.left_out().contains(&packet.source)) {
            return None;
        }
        let frontend = find(here, packet)?;
        let backends = here.inside.frontends.get(&frontend)?;
        let ranges = &here.inside.model.node().pod_cidrs;
        let knows_pods = plan::knows_pods(&here.settings.locality, ranges, frontend.place.family());
        let leads = Leads::of(&frontend, backends, here.settings, knows_pods)?;
        (is_node || !leads.not_for_pods).then_some(Self { endpoints: leads.endpoints })
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let endpoint = |endpoint: &Endpoint| json!({"endpoint": at(endpoint).to_string(), "onThisNode": endpoint.local, "share": 1, "of": self.endpoints.len()});
        json!({
            "refused": self.endpoints.is_empty(),
            "endpoints": self.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        })
    }
}

fn at(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.address, endpoint.port)
}

/// Whether the packet is one of a pod of this node.
fn is_pod(here: &Here<'_>, packet: &Packet) -> bool {
    let by_interface = match (&here.settings.locality, packet.in_interface.as_deref()) {
        (Locality::Interface(name), Some(by)) => match name.strip_suffix('*') {
            Some(prefix) => by.starts_with(prefix),
            None => name == by,
        },
        _ => false,
    };
    let ranges = &here.inside.model.node().pod_cidrs;
    by_interface || ranges.iter().any(|range| range.contains(packet.source))
}

fn find(here: &Here<'_>, packet: &Packet) -> Option<Frontend> {
    let Packet { destination, protocol, port, .. } = *packet;
    let by_address = Frontend { place: Place::Address(destination), protocol, port };
    if here.inside.frontends.get(&by_address).is_some() {
        return Some(by_address);
    }
    let of_object = &here.inside.model.node().addresses;
    let serves =
        here.addresses.contains(&destination) && here.settings.serves_node_ports_on(&destination, of_object);
    serves.then_some(Frontend { place: Place::Node(IpFamily::of(destination)), protocol, port })
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.endpoints.len() {
            0 => "refused".to_owned(),
            1 => "led to 1 endpoint".to_owned(),
            count => format!("led to one of {count} endpoints"),
        };
        writeln!(f, "socket    {what} when it connects; what follows is for sockets that are not seen")?;
        self.endpoints.iter().try_for_each(|endpoint| {
            let here = if endpoint.local { " (on this node)" } else { "" };
            writeln!(f, "  1/{}  {}{here}", self.endpoints.len(), at(endpoint))
        })
    }
}
