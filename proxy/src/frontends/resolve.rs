//! One Service's frontends.

use super::endpoints::{self, Here};
use super::{Affinity, Backends, Frontend, IpFamily, Place, Reach};
use crate::model::{Model, ObjectName, Policy, Protocol, Service, ServicePort};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Where, and how far, Services are resolved.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The node's name.
    pub node: &'a str,
    /// External IPs are served.
    pub external_ips: bool,
    /// Who may go on answering is told of TCP, too.
    pub follows_tcp: bool,
}

/// What a Service claims. It is served in the families of its cluster IPs alone.
pub fn service(
    model: &Model,
    scope: Scope<'_>,
    name: &ObjectName,
    service: &Service,
) -> BTreeMap<Frontend, Backends> {
    let mut claimed = BTreeMap::new();
    let here = Here { node: scope.node, zone: model.node().zone.as_deref() };
    for &cluster_ip in &service.cluster_ips {
        let family = IpFamily::of(cluster_ip);
        let mut places = places(service, family);
        places.retain(|(reach, _)| scope.external_ips || *reach != Reach::ExternalIp);
        for port in &service.ports {
            let is_followed = match port.protocol {
                Protocol::Udp => true,
                Protocol::Tcp => scope.follows_tcp,
                Protocol::Sctp => false,
            };
            let lists = endpoints::lists(model, name, (port, is_followed), (family, here));
            let affinity = affinity(name, service, port);
            for &(reach, place) in &places {
                let Some(number) = number(port, reach) else { continue };
                let policy =
                    if reach == Reach::ClusterIp { service.internal_policy } else { service.external_policy };
                let backends = Backends {
                    reach,
                    policy,
                    cluster: lists.cluster.clone(),
                    local: if policy == Policy::Local { lists.local.clone() } else { Arc::default() },
                    serving: lists.serving.clone(),
                    sources: sources(model, service, (reach, family)),
                    affinity: affinity.clone(),
                };
                // One Service that names a frontend twice: the first port or field holds.
                claimed.entry(Frontend { place, protocol: port.protocol, port: number }).or_insert(backends);
            }
        }
    }
    claimed
}

fn affinity(name: &ObjectName, service: &Service, port: &ServicePort) -> Option<Affinity> {
    let of = || format!("{name}/{}/{}", port.name, port.protocol).into();
    service.affinity.map(|seconds| Affinity { of: of(), seconds })
}

/// Where the Service is reached in a family, in the order in which it holds.
fn places(service: &Service, family: IpFamily) -> Vec<(Reach, Place)> {
    let of = |reach: Reach, addresses: &[IpAddr]| -> Vec<(Reach, Place)> {
        let ours = addresses.iter().filter(|a| IpFamily::of(**a) == family);
        ours.map(|a| (reach, Place::Address(*a))).collect()
    };
    let mut places = of(Reach::ClusterIp, &service.cluster_ips);
    places.extend(of(Reach::LoadBalancer, &service.load_balancer_ips));
    places.extend(of(Reach::ExternalIp, &service.external_ips));
    places.push((Reach::NodePort, Place::Node(family)));
    places
}

fn number(port: &ServicePort, reach: Reach) -> Option<u16> {
    if reach == Reach::NodePort { port.node_port } else { Some(port.port) }
}

/// Who may connect: only load balancer addresses are filtered. A node that may connect shows the address itself as its
/// source when it talks to it.
fn sources(model: &Model, service: &Service, (reach, family): (Reach, IpFamily)) -> Arc<[IpNetwork]> {
    if reach != Reach::LoadBalancer {
        return Arc::default();
    }
    let of_family = |network: &&IpNetwork| IpFamily::of(network.ip()) == family;
    let mut sources: Vec<IpNetwork> = service.source_ranges.iter().filter(of_family).copied().collect();
    let own = model.node().addresses.iter().find(|a| IpFamily::of(**a) == family);
    if own.is_some_and(|own| sources.iter().any(|range| range.contains(*own))) {
        let vips = service.load_balancer_ips.iter().filter(|a| IpFamily::of(**a) == family);
        sources.extend(vips.map(|a| IpNetwork::from(*a)));
    }
    sources.sort();
    without_nested(sources).into()
}

/// Sorted networks without those that lie in another: networks nest or are apart.
fn without_nested(sorted: Vec<IpNetwork>) -> Vec<IpNetwork> {
    let mut kept: Vec<IpNetwork> = Vec::new();
    for network in sorted {
        if !kept.iter().any(|outer| outer.contains(network.ip())) {
            kept.retain(|inner| !network.contains(inner.ip()));
            kept.push(network);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use crate::frontends::{Frontends, Reach};
    use crate::model::{Change, Model, ObjectName, Protocol, Service, ServicePort};

    /// kp:C7: and what is not served is no claim that another Service could lose against.
    #[test]
    fn external_ips_are_no_frontends_where_they_are_not_allowed() {
        let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        let service = Service {
            cluster_ips: vec![[10, 96, 0, 1].into()],
            external_ips: vec![[192, 0, 2, 1].into()],
            ports: vec![port],
            ..Service::default()
        };
        let mut model = Model::default();
        model.apply(Change::ServiceApplied(ObjectName::new("shop", "web"), service.into()));
        let dirty = model.take_dirty();
        for (allowed, expected) in
            [(true, &[Reach::ClusterIp, Reach::ExternalIp][..]), (false, &[Reach::ClusterIp][..])]
        {
            let mut frontends = Frontends::new("node").with_external_ips(allowed);
            frontends.update(&model, &dirty, |_| ());
            let reached: Vec<Reach> = frontends.iter().map(|(_, _, backends)| backends.reach).collect();
            assert_eq!(reached, expected);
        }
    }
}
