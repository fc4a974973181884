//! Services.
//!
//! A field whose mistake would make the Service answer in the wrong place refuses the object; one that only takes
//! something away is passed over, named, and the Service is served without it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use jiff::Timestamp;

use super::objects::{self, Port, ServiceSpec};
use super::{Fault, FieldError, Names, Object, PassedOver, Verdict};
use super::{ip, is_of, number, port, port_name, prefix, protocol};
use crate::model::{Policy, Service, ServicePort};

/// Three hours, as the API server's defaulting has it.
const DEFAULT_AFFINITY: NonZeroU32 = NonZeroU32::new(10_800).expect("it is not zero");

/// Converts a Service. Headless and `ExternalName` Services are ours, and empty.
///
/// # Errors
/// The first field that cannot be used, of those that the Service cannot be served without.
pub fn service(object: &objects::Service, names: &mut Names) -> Result<Verdict, FieldError> {
    if object.metadata.labels.service_proxy_name.is_some() {
        return Ok(Verdict::Ignored(
            "another proxy serves it (label service.kubernetes.io/service-proxy-name)",
        ));
    }
    let spec = &object.spec;
    let mut passed_over = PassedOver::default();
    if !is_proxied(spec) {
        return Ok(passed_over.verdict(Object::Service(Arc::default())));
    }
    let ports = spec.ports.iter().enumerate().map(|(index, port)| service_port(index, port, names));
    let ports: Vec<_> = ports.collect::<Result<_, _>>()?;
    let mut service = Service {
        cluster_ips: cluster_ips(spec)?,
        external_ips: external_ips(spec, &mut passed_over),
        load_balancer_ips: load_balancer_ips(object, &mut passed_over),
        ports,
        internal_policy: internal_policy(spec, &mut passed_over),
        external_policy: external_policy(spec, &mut passed_over),
        affinity: affinity(spec, &mut passed_over),
        created: created(object, &mut passed_over),
        ..Service::default()
    };
    restrict(&mut service, spec, &mut passed_over);
    service.health_check_node_port = health_check_node_port(spec, service.external_policy)?;
    service.ports.shrink_to_fit();
    Ok(passed_over.verdict(Object::Service(service.into())))
}

/// Neither headless nor `ExternalName`, which may carry an address that means nothing.
fn is_proxied(spec: &ServiceSpec) -> bool {
    let first = if spec.cluster_ip.is_empty() { spec.cluster_ips.first() } else { Some(&spec.cluster_ip) };
    spec.service_type.as_deref() != Some("ExternalName")
        && first.is_some_and(|ip| !ip.is_empty() && ip != "None")
}

/// `clusterIPs[i]` is of `ipFamilies[i]`. The API server fills in both; objects of before dual stack and manifests
/// written by hand may have `clusterIP` alone, or no families.
fn cluster_ips(spec: &ServiceSpec) -> Result<Vec<IpAddr>, FieldError> {
    if spec.cluster_ips.is_empty() {
        return Ok(vec![ip(&spec.cluster_ip).map_err(|fault| fault.at("spec.clusterIP"))?]);
    }
    let count = if spec.ip_families.is_empty() { spec.cluster_ips.len() } else { spec.ip_families.len() };
    let mut found: Vec<IpAddr> = Vec::with_capacity(count.min(spec.cluster_ips.len()));
    for (index, text) in spec.cluster_ips.iter().enumerate().take(count) {
        let checked = ip(text).and_then(|address| match spec.ip_families.get(index) {
            Some(family) if !is_of(address, family) => Err(Fault::Family { address, family: family.clone() }),
            _ if found.iter().any(|other| other.is_ipv4() == address.is_ipv4()) => {
                Err(Fault::SecondOfFamily { address })
            }
            _ => Ok(address),
        });
        found.push(checked.map_err(|fault| fault.at(format!("spec.clusterIPs[{index}]")))?);
    }
    Ok(found)
}

fn external_ips(spec: &ServiceSpec, passed_over: &mut PassedOver) -> Vec<IpAddr> {
    let read = spec
        .external_ips
        .iter()
        .enumerate()
        .filter(|(_, text)| !text.is_empty())
        .map(|(index, text)| ip(text).map_err(|fault| fault.at(format!("spec.externalIPs[{index}]"))));
    distinct(read, passed_over)
}

/// The addresses whose packets come to the nodes as they are. Those of `ipMode: Proxy` are the load balancer's own.
fn load_balancer_ips(object: &objects::Service, passed_over: &mut PassedOver) -> Vec<IpAddr> {
    let ingress = object.status.load_balancer.ingress.iter().enumerate();
    let captured =
        ingress.filter(|(_, at)| !at.ip.is_empty() && at.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
    let read = captured.map(|(index, at)| {
        ip(&at.ip).map_err(|fault| fault.at(format!("status.loadBalancer.ingress[{index}].ip")))
    });
    distinct(read, passed_over)
}

/// Each address once, in their order.
fn distinct(
    read: impl Iterator<Item = Result<IpAddr, FieldError>>,
    passed_over: &mut PassedOver,
) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in read.filter_map(|address| passed_over.take(address)) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found.shrink_to_fit();
    found
}

fn service_port(index: usize, object: &Port, names: &mut Names) -> Result<ServicePort, FieldError> {
    let at = |field: &str| format!("spec.ports[{index}].{field}");
    let number = object.port.ok_or(Fault::Missing).and_then(port);
    Ok(ServicePort {
        name: port_name(object, names),
        protocol: protocol(object).map_err(|fault| fault.at(at("protocol")))?,
        port: number.map_err(|fault| fault.at(at("port")))?,
        node_port: optional_port(object.node_port).map_err(|fault| fault.at(at("nodePort")))?,
    })
}

/// Go leaves 0 where nothing was given.
fn optional_port(value: Option<i64>) -> Result<Option<u16>, Fault> {
    value.filter(|&value| value != 0).map(port).transpose()
}

fn internal_policy(spec: &ServiceSpec, passed_over: &mut PassedOver) -> Policy {
    policy(spec.internal_traffic_policy.as_deref(), "spec.internalTrafficPolicy", passed_over)
}

/// It counts only for what can be reached from outside. Type `ClusterIP` with external IPs is that even when none of
/// them can be read.
fn external_policy(spec: &ServiceSpec, passed_over: &mut PassedOver) -> Policy {
    let counts = match spec.service_type.as_deref() {
        Some("NodePort" | "LoadBalancer") => true,
        None | Some("" | "ClusterIP") => !spec.external_ips.is_empty(),
        Some(_) => false,
    };
    if counts {
        policy(spec.external_traffic_policy.as_deref(), "spec.externalTrafficPolicy", passed_over)
    } else {
        Policy::Cluster
    }
}

fn policy(value: Option<&str>, field: &str, passed_over: &mut PassedOver) -> Policy {
    let read = match value {
        None | Some("" | "Cluster") => Ok(Policy::Cluster),
        Some("Local") => Ok(Policy::Local),
        Some(other) => Err(Fault::value(other, "a traffic policy (Cluster or Local)").at(field)),
    };
    passed_over.take(read).unwrap_or_default()
}

fn affinity(spec: &ServiceSpec, passed_over: &mut PassedOver) -> Option<NonZeroU32> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => None,
        Some("ClientIP") => Some(affinity_timeout(spec, passed_over)),
        Some(other) => {
            let fault = Fault::value(other, "a session affinity (ClientIP or None)");
            passed_over.add(fault.at("spec.sessionAffinity"));
            None
        }
    }
}

fn affinity_timeout(spec: &ServiceSpec, passed_over: &mut PassedOver) -> NonZeroU32 {
    let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    let given = spec.session_affinity_config.client_ip.timeout_seconds;
    let read = given.map(|seconds| {
        // A day is the API's own limit.
        let seconds = number(seconds, 1..=86_400, "a time in seconds (1-86400)");
        seconds.map_err(|fault| fault.at(field))
    });
    read.and_then(|read| passed_over.take(read)).and_then(NonZeroU32::new).unwrap_or(DEFAULT_AFFINITY)
}

/// Reads who may use the load balancer's addresses.
///
/// A range that cannot be read must not open the Service to everybody: the others still let their own in, and a family
/// that is left with none is not served on these addresses at all.
fn restrict(service: &mut Service, spec: &ServiceSpec, passed_over: &mut PassedOver) {
    let texts = spec.load_balancer_source_ranges.iter().map(|text| text.trim()).enumerate();
    let mut ranges = BTreeSet::new();
    let mut is_whole = true;
    for (index, text) in texts.filter(|(_, text)| !text.is_empty()) {
        let range = prefix(text).map_err(|fault| fault.at(format!("spec.loadBalancerSourceRanges[{index}]")));
        is_whole &= range.is_ok();
        ranges.extend(passed_over.take(range));
    }
    if !is_whole {
        service.load_balancer_ips.retain(|ip| ranges.iter().any(|range| range.is_ipv4() == ip.is_ipv4()));
    }
    let of_everybody: Vec<IpNetwork> = ranges.iter().copied().filter(|range| range.prefix() == 0).collect();
    ranges.retain(|range| of_everybody.iter().all(|open| open.is_ipv4() != range.is_ipv4()));
    service.source_ranges = ranges.into_iter().collect();
}

fn health_check_node_port(spec: &ServiceSpec, external: Policy) -> Result<Option<u16>, FieldError> {
    if spec.service_type.as_deref() != Some("LoadBalancer") || external != Policy::Local {
        return Ok(None);
    }
    optional_port(spec.health_check_node_port).map_err(|fault| fault.at("spec.healthCheckNodePort"))
}

fn created(object: &objects::Service, passed_over: &mut PassedOver) -> Option<Timestamp> {
    let text = object.metadata.creation_timestamp.as_deref()?;
    let read = text.parse().map_err(|_| Fault::value(text, "a time (RFC 3339)"));
    passed_over.take(read.map_err(|fault| fault.at("metadata.creationTimestamp")))
}

#[cfg(test)]
mod tests;
