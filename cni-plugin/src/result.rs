//! What the runtime hears on success, in the words of the version that it asked for.

use crate::apply::Made;
use crate::config::Route;
use crate::dns::Dns;
use crate::ipam::Assigned;
use crate::names;
use crate::plan;
use crate::spec::{self, Add};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions<'a> {
    cni_version: &'a str,
    supported_versions: &'a [&'a str],
}

/// The answer to VERSION; it carries the version that it was asked in, as the specification says.
pub fn versions(asked: Option<&str>) -> String {
    line(&Versions { cni_version: asked.unwrap_or(spec::LATEST), supported_versions: spec::VERSIONS })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Added<'a> {
    cni_version: &'a str,
    interfaces: Vec<Interface<'a>>,
    ips: Vec<Ip>,
    routes: Vec<RouteOut>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    mac: String,
    /// From 1.1.0 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a str>,
}

#[derive(Serialize)]
struct Ip {
    interface: usize,
    address: String,
    gateway: String,
}

#[derive(Serialize)]
struct RouteOut {
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
}

/// Where the pod's end stands among the interfaces, and so what every address points at.
const POD: usize = 2;

/// The answer to an ADD: bridge, host's end, pod's end, and what the pod's end has.
pub fn added(request: &Add, assigned: &[Assigned], made: &Made, dns: &Dns) -> String {
    let host = names::host_link(&request.attachment);
    let since_1_1 = request.version != "1.0.0";
    let mtu = |mtu| Some(mtu).filter(|_| since_1_1);
    let mac = |mac: Option<heddle_netlink::link::Mac>| mac.map(|mac| mac.to_string()).unwrap_or_default();
    let interfaces = vec![
        Interface {
            name: &made.bridge.name,
            mac: mac(made.bridge.mac),
            mtu: mtu(made.bridge.mtu),
            sandbox: None,
        },
        Interface {
            name: &host,
            mac: names::host_mac(&request.attachment).to_string(),
            mtu: mtu(made.pod.mtu),
            sandbox: None,
        },
        Interface {
            name: &made.pod.name,
            mac: mac(made.pod.mac),
            mtu: mtu(made.pod.mtu),
            sandbox: Some(&request.namespace),
        },
    ];
    let routes = plan::routes(&request.config, assigned)
        .into_iter()
        .map(|route| route_out(&route, since_1_1))
        .collect();
    let ips = assigned.iter().map(ip).collect();
    line(&Added { cni_version: &request.version, interfaces, ips, routes, dns })
}

fn ip(assigned: &Assigned) -> Ip {
    Ip { interface: POD, address: assigned.address.to_string(), gateway: assigned.gateway.to_string() }
}

fn route_out(route: &Route, since_1_1: bool) -> RouteOut {
    let Route { mtu, advmss, priority, table, scope, .. } = *route;
    let (dst, gw) = (route.to.to_string(), route.gateway.map(|gateway| gateway.to_string()));
    if since_1_1 {
        RouteOut { dst, gw, mtu, advmss, priority, table, scope }
    } else {
        RouteOut { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

fn line(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string(document).expect("texts, numbers and lists of them are always JSON");
    text.push('\n');
    text
}
