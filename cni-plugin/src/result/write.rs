//! A result in the words of the version that was asked for.

use super::{Interface, Ip, Outcome};
use crate::dns::Dns;
use crate::route;
use crate::version::Version;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions<'a> {
    cni_version: &'a str,
    supported_versions: [&'a str; Version::ALL.len()],
}

/// The answer to VERSION; it carries the version that it was asked in, as the specification says.
pub fn versions(asked: Option<&str>) -> String {
    let cni_version = asked.unwrap_or(Version::LATEST.as_str());
    line(&Versions { cni_version, supported_versions: Version::ALL.map(Version::as_str) })
}

/// From 0.3.0 on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    cni_version: &'a str,
    interfaces: Vec<InterfaceOut<'a>>,
    ips: Vec<IpOut>,
    routes: Vec<route::Written>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InterfaceOut<'a> {
    name: &'a str,
    mac: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_path: Option<&'a str>,
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pci_id: Option<&'a str>,
}

#[derive(Serialize)]
struct IpOut {
    /// Before 1.0.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
}

/// Before 0.3.0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ByFamily<'a> {
    cni_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<FamilyOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<FamilyOut>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

#[derive(Serialize)]
struct FamilyOut {
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    routes: Vec<route::Written>,
}

impl Outcome {
    /// The document, with its line end. What the version has no words for is left out: before 0.3.0 all addresses but the
    /// first of each family, and the interfaces.
    pub fn write(&self, version: Version) -> String {
        if version < Version::V0_3_0 { line(&self.by_family(version)) } else { line(&self.listed(version)) }
    }

    fn listed(&self, version: Version) -> Listed<'_> {
        let newest = version >= Version::V1_1_0;
        let written = if newest { route::Written::whole } else { route::Written::plain };
        Listed {
            cni_version: version.as_str(),
            interfaces: self.interfaces.iter().map(|interface| interface_out(interface, newest)).collect(),
            ips: self.ips.iter().map(|ip| ip_out(ip, version)).collect(),
            routes: self.routes.iter().map(written).collect(),
            dns: &self.dns,
        }
    }

    fn by_family(&self, version: Version) -> ByFamily<'_> {
        let (ip4, ip6) = (self.family(true), self.family(false));
        ByFamily { cni_version: version.as_str(), ip4, ip6, dns: &self.dns }
    }

    fn family(&self, four: bool) -> Option<FamilyOut> {
        let first = self.ips.iter().find(|ip| ip.address.is_ipv4() == four)?;
        let routes = self.routes.iter().filter(|route| route.to.is_ipv4() == four);
        Some(FamilyOut {
            ip: first.address.to_string(),
            gateway: first.gateway.map(|gateway| gateway.to_string()),
            routes: routes.map(route::Written::plain).collect(),
        })
    }
}

fn interface_out(interface: &Interface, newest: bool) -> InterfaceOut<'_> {
    InterfaceOut {
        name: &interface.name,
        mac: &interface.mac,
        mtu: interface.mtu.filter(|_| newest),
        sandbox: interface.sandbox.as_deref(),
        socket_path: interface.socket_path.as_deref().filter(|_| newest),
        pci_id: interface.pci_id.as_deref().filter(|_| newest),
    }
}

fn ip_out(ip: &Ip, version: Version) -> IpOut {
    let family = if ip.address.is_ipv4() { "4" } else { "6" };
    IpOut {
        version: (version < Version::V1_0_0).then_some(family),
        interface: ip.interface,
        address: ip.address.to_string(),
        gateway: ip.gateway.map(|gateway| gateway.to_string()),
    }
}

fn line(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string(document).expect("texts, numbers and lists of them are always JSON");
    text.push('\n');
    text
}
