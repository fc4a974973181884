//! The Service port that a packet is aimed at.

use super::{Packet, Settings};
use heddle_proxy::model::{Model, ObjectName, Service, ServicePort};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// By which of its addresses a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// A cluster IP (row C1).
    ClusterIp,
    /// The address of a load balancer (row C6).
    LoadBalancer,
    /// An external IP (row C7).
    ExternalIp,
    /// A port of the node (row C3).
    NodePort,
}

/// A Service port, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) name: &'a ObjectName,
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    pub(super) reach: Reach,
}

impl<'a> Target<'a> {
    /// The Service port that serves the packet's destination. An address of a Service comes before a port of the node (2.2).
    /// Of several Services that claim one address and port the oldest has it, one of unknown age before all others, then
    /// the first by name (row P14).
    pub(super) fn find(model: &'a Model, settings: &Settings, packet: &Packet) -> Option<Self> {
        let of_service = |(name, service): (&'a ObjectName, &'a Service)| {
            let ports = service.ports.iter();
            ports.filter_map(move |port| {
                let reach = reach(model, settings, packet, (service, port))?;
                Some(Self { name, service, port, reach })
            })
        };
        model.services().flat_map(of_service).min_by_key(|target| {
            (target.reach == Reach::NodePort, target.service.created, target.name, target.reach)
        })
    }

    /// Whether the Service's source ranges keep the packet out (row C11), whatever its endpoints are.
    pub(super) fn refuses_source(&self, model: &Model, packet: &Packet) -> bool {
        let of_family = |network: &&IpNetwork| network.is_ipv4() == packet.source.is_ipv4();
        let ranges: Vec<&IpNetwork> = self.service.source_ranges.iter().filter(of_family).collect();
        if self.reach != Reach::LoadBalancer || ranges.is_empty() {
            return false;
        }
        let allowed = |address: IpAddr| ranges.iter().any(|range| range.contains(address));
        // A node that talks to its own load balancer shows that one's address as its source.
        let node = model.node().addresses.iter().find(|a| a.is_ipv4() == packet.source.is_ipv4());
        let node_itself = node.is_some_and(|node| allowed(*node))
            && self.service.load_balancer_ips.contains(&packet.source);
        !allowed(packet.source) && !node_itself
    }
}

fn reach(
    model: &Model,
    settings: &Settings,
    packet: &Packet,
    (service, port): (&Service, &ServicePort),
) -> Option<Reach> {
    let address = packet.destination;
    // row A6: without a cluster IP of its family a Service is not served in that family.
    let in_family = service.cluster_ips.iter().any(|ip| ip.is_ipv4() == address.is_ipv4());
    if !in_family || port.protocol != packet.protocol {
        return None;
    }
    let reaches = [
        (Reach::ClusterIp, &service.cluster_ips),
        (Reach::LoadBalancer, &service.load_balancer_ips),
        (Reach::ExternalIp, &service.external_ips),
    ];
    let mut by_address =
        reaches.into_iter().filter(|(_, ips)| port.port == packet.port && ips.contains(&address));
    if let Some((reach, _)) = by_address.next() {
        return Some(reach);
    }
    let by_node = port.node_port == Some(packet.port) && settings.serves_node_ports_on(address, model);
    by_node.then_some(Reach::NodePort)
}
