//! A result of any version, as another plugin wrote it.
//!
//! The form is told from the keys that are there, not from the label: plugins that wrote one version and labelled another
//! exist, and a result without a label is that of its configuration.

use super::{Interface, Ip, Outcome};
use crate::dns::Dns;
use crate::json::tidy;
use crate::route;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::net::IpAddr;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    interfaces: Vec<InterfaceIn>,
    ips: Vec<IpIn>,
    routes: Vec<route::Written>,
    dns: Dns,
    ip4: Option<FamilyIn>,
    ip6: Option<FamilyIn>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct InterfaceIn {
    name: String,
    mac: String,
    mtu: Option<u32>,
    sandbox: String,
    socket_path: Option<String>,
    #[serde(rename = "pciID")]
    pci_id: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct IpIn {
    interface: Option<i64>,
    address: String,
    gateway: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FamilyIn {
    ip: String,
    gateway: String,
    routes: Vec<route::Written>,
}

impl Outcome {
    /// Reads a result of any version.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(mut document: Map<String, Value>) -> Result<Self, String> {
        tidy(&mut document);
        let document: Document =
            serde_json::from_value(Value::Object(document)).map_err(|error| error.to_string())?;
        let mut outcome = Self {
            interfaces: document.interfaces.into_iter().map(interface).collect(),
            dns: document.dns,
            ..Self::default()
        };
        for ip in &document.ips {
            let at = ip.interface.and_then(|at| usize::try_from(at).ok());
            let at = at.filter(|at| *at < outcome.interfaces.len());
            outcome.ips.push(read_ip(&ip.address, &ip.gateway, at)?);
        }
        let mut routes = document.routes;
        for family in [document.ip4, document.ip6].into_iter().flatten() {
            outcome.ips.push(read_ip(&family.ip, &family.gateway, None)?);
            routes.extend(family.routes);
        }
        outcome.routes = routes.iter().map(route::Written::read).collect::<Result<_, _>>()?;
        Ok(outcome)
    }
}

fn interface(read: InterfaceIn) -> Interface {
    let InterfaceIn { name, mac, mtu, sandbox, socket_path, pci_id } = read;
    let sandbox = Some(sandbox).filter(|sandbox| !sandbox.is_empty());
    Interface { name, mac, mtu, sandbox, socket_path, pci_id }
}

fn read_ip(address: &str, gateway: &str, interface: Option<usize>) -> Result<Ip, String> {
    let network = address.contains('/').then(|| address.parse::<IpNetwork>().ok()).flatten();
    let network = network.ok_or_else(|| format!("address {address:?} is not in CIDR notation"))?;
    let gateway: Option<IpAddr> = match gateway {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("gateway {text:?} is not an IP address"))?),
    };
    Ok(Ip { interface, address: network, gateway })
}
