//! Kubernetes objects for tests and for the demonstration, as JSON: what the API server takes, and a manifest.
//!
//! They are as small as objects can be that have a meaning. Situations worth reading are scenario files instead.

use serde_json::{Value, json};
use std::net::IpAddr;

/// Name of the one port.
const PORT: &str = "http";

/// A Service in the namespace `default` with one TCP port, under these addresses or under ones that the API server is
/// to choose.
pub fn service(name: &str, cluster_ips: &[IpAddr], port: u16, target: u16) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "default", "name": name },
        "spec": { "ports": [{ "name": PORT, "protocol": "TCP", "port": port, "targetPort": target }] },
    });
    if let Some(first) = cluster_ips.first() {
        service["spec"]["clusterIP"] = json!(first);
        service["spec"]["clusterIPs"] = json!(cluster_ips);
    }
    service
}

/// The slice of a Service's ready endpoints, all on one node and of one family. It is called as the Service, with a 4
/// or 6 at its end.
pub fn slice(service: &str, node: &str, endpoints: &[IpAddr], port: u16) -> Value {
    let endpoints: Vec<(&str, IpAddr)> = endpoints.iter().map(|ip| (node, *ip)).collect();
    slice_over(service, &endpoints, port)
}

/// The same with endpoints on several nodes.
pub fn slice_over(service: &str, endpoints: &[(&str, IpAddr)], port: u16) -> Value {
    let is_ipv4 = endpoints.iter().all(|(_, ip)| ip.is_ipv4());
    let (family, digit) = if is_ipv4 { ("IPv4", 4) } else { ("IPv6", 6) };
    let endpoint = |(node, ip): &(&str, IpAddr)| json!({ "addresses": [ip], "conditions": { "ready": true }, "nodeName": node });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": format!("{service}-{digit}"),
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": family,
        "ports": [{ "name": PORT, "protocol": "TCP", "port": port }],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// Several objects in one document.
pub fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}
