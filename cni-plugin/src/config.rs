//! The keys of the configuration: those of the reference `bridge`, `ptp` and `host-local` plugins, with their meaning.
//!
//! A configuration for those needs only its types changed. Keys that nobody defined are tolerated, as the
//! specification wants; a key that asks for something that we do not do is refused with its name and value. Invariant:
//! nothing that is asked for is left out silently.

pub mod ipam;
pub mod runtime;
mod sysctl;
pub mod vlan;

use crate::args::Args;
use crate::dns::Dns;
use crate::plan::Setting;
use crate::spec::{Document, Error};
use heddle_netlink::link::Mac;
use heddle_netlink::tuning::Tuning;
use ipam::Ipam;
use runtime::{Bandwidth, PortMapping};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use vlan::Vlans;

const BRIDGE: &str = "cni0";
const AGENT_MAX_AGE: Duration = Duration::from_secs(60);

/// What a container is connected to (`mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A bridge of the node, with all others.
    #[default]
    Bridge,
    /// The node itself, which routes: no link is shared, and nobody asks for Ethernet addresses.
    Ptp,
}

/// How a container is attached.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is connected to (`mode`).
    pub mode: Mode,
    /// The bridge that pods are connected to (`bridge`).
    pub bridge: String,
    /// The bridge has the gateway's addresses, and the node forwards (`isGateway`).
    pub gateway: bool,
    /// Pods get default routes through the gateway (`isDefaultGateway`, which implies `isGateway`; always with `ptp`, unless
    /// it is said to be false).
    pub default_gateway: bool,
    /// Other addresses of the bridge are removed where they contradict (`forceAddress`).
    pub force_address: bool,
    /// Largest packet in bytes; derived from the node's uplink when absent (`mtu`).
    pub mtu: Option<u32>,
    /// Frames may go back to the pod that they came from (`hairpinMode`).
    pub hairpin: bool,
    /// The bridge takes packets that are addressed to others (`promiscMode`).
    pub promiscuous: bool,
    /// Pods do not reach each other over the bridge (`portIsolation`).
    pub isolated: bool,
    /// The VLANs of the pod's port (`vlan`, `vlanTrunk`); none when the bridge is to know none.
    pub vlans: Option<Vlans>,
    /// Where addresses and routes come from; none when the configuration only adds to another plugin's interface.
    pub ipam: Option<Ipam>,
    /// What is changed about the pod's end (`promisc`, `allmulti`, `txQLen`).
    pub tuning: Tuning,
    /// Kernel settings of the pod (`sysctl`).
    pub settings: Vec<Setting>,
    /// The file that the node's agent touches while it works (`statusFile`), and for how long that counts
    /// (`statusMaxAge`, in seconds).
    pub agent: Option<(PathBuf, Duration)>,
    /// Name servers to report (`dns`).
    pub dns: Dns,
    /// Addresses that this pod must get.
    pub addresses: Vec<IpAddr>,
    /// The Ethernet address that this pod must get.
    pub mac: Option<Mac>,
    /// Ports of the node that lead to this pod.
    pub ports: Vec<PortMapping>,
    /// How much this pod may send and receive.
    pub bandwidth: Option<Bandwidth>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    mode: Mode,
    bridge: String,
    is_gateway: bool,
    is_default_gateway: Option<bool>,
    force_address: bool,
    mtu: u32,
    hairpin_mode: bool,
    promisc_mode: bool,
    port_isolation: bool,
    #[serde(flatten)]
    vlans: vlan::Keys,
    ipam: Option<ipam::Keys>,
    promisc: Option<bool>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    queue: Option<u32>,
    sysctl: Map<String, Value>,
    status_file: PathBuf,
    status_max_age: Option<u32>,
    dns: Dns,
    #[serde(flatten)]
    limits: Bandwidth,
    runtime_config: runtime::Keys,
    args: ArgsKeys,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ArgsKeys {
    cni: runtime::Wishes,
}

/// Keys of the reference plugins that ask for something when they are neither false, zero nor empty.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("ipMasq", "heddle-node masquerades once for all pods; remove the key or set it to false"),
    ("macspoofchk", "checks against forged Ethernet addresses are not implemented"),
    ("disableContainerInterface", "the container's interface is always set up"),
    ("enabledad", "addresses are handed out once only, so duplicates are not searched for"),
];

/// The same inside `runtimeConfig`.
const UNSUPPORTED_AT_RUNTIME: &[(&str, &str)] = &[
    ("infinibandGUID", "a veth pair has no such identifier"),
    ("deviceID", "no device is moved into the container"),
];

impl Config {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// The first key that is unsupported or makes no sense.
    pub fn read(document: &Document, args: &Args, ifname: &str) -> Result<Self, Error> {
        refuse("", &document.keys, UNSUPPORTED)?;
        if let Some(runtime) = document.keys.get("runtimeConfig").and_then(Value::as_object) {
            refuse("runtimeConfig.", runtime, UNSUPPORTED_AT_RUNTIME)?;
        }
        let keys = Value::Object(document.keys.clone());
        let keys: Keys = serde_json::from_value(keys).map_err(Error::Decode)?;
        check_bridge(&keys)?;
        let runtime = keys.runtime_config;
        let wishes = [&runtime.wishes, &keys.args.cni];
        let dns = Some(runtime.dns.meant()).filter(|dns| !dns.is_empty());
        Ok(Self {
            addresses: runtime::wanted_addresses(wishes, args)?,
            mac: runtime::wanted_mac(wishes, args)?,
            ports: runtime.port_mappings()?,
            bandwidth: runtime.bandwidth(keys.limits)?,
            ipam: keys.ipam.map(|ipam| ipam.read(document, runtime.ip_ranges)).transpose()?,
            bridge: if keys.bridge.is_empty() { BRIDGE.to_owned() } else { keys.bridge },
            gateway: keys.is_gateway || keys.is_default_gateway == Some(true),
            // A container that only the node can reach would be of little use.
            default_gateway: keys.is_default_gateway.unwrap_or(keys.mode == Mode::Ptp),
            mode: keys.mode,
            force_address: keys.force_address,
            mtu: Some(keys.mtu).filter(|mtu| *mtu != 0),
            hairpin: keys.hairpin_mode,
            promiscuous: keys.promisc_mode,
            isolated: keys.port_isolation,
            vlans: keys.vlans.read()?,
            dns: dns.unwrap_or(keys.dns),
            tuning: Tuning {
                queue: keys.queue,
                promiscuous: keys.promisc,
                all_multicast: keys.allmulti,
                ..Tuning::default()
            },
            settings: sysctl::read(&keys.sysctl, ifname)?,
            agent: agent(keys.status_file, keys.status_max_age),
        })
    }
}

impl Config {
    /// The link that has the gateways' addresses: the bridge, or the one of the pod's VLAN, named as the reference plugin
    /// names it.
    pub fn gateway_link(&self) -> String {
        match self.vlans.as_ref().and_then(Vlans::access) {
            Some(id) => vlan::link_name(&self.bridge, id),
            None => self.bridge.clone(),
        }
    }
}

fn agent(file: PathBuf, max_age: Option<u32>) -> Option<(PathBuf, Duration)> {
    let max_age = max_age.map_or(AGENT_MAX_AGE, |seconds| Duration::from_secs(seconds.into()));
    (!file.as_os_str().is_empty()).then_some((file, max_age))
}

fn refuse(place: &str, map: &Map<String, Value>, keys: &[(&str, &'static str)]) -> Result<(), Error> {
    for (key, hint) in keys {
        let asks = |value: &&Value| match value {
            Value::Null => false,
            Value::Bool(on) => *on,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
        };
        if let Some(value) = map.get(*key).filter(asks) {
            return Err(Error::Unsupported { key: format!("{place}{key}"), value: value.to_string(), hint });
        }
    }
    Ok(())
}

fn check_bridge(keys: &Keys) -> Result<(), Error> {
    let name = &keys.bridge;
    let invalid = |key, problem| Err(Error::Invalid { key, problem });
    if name.len() > heddle_netlink::link::NAME_MAX
        || name.contains(['/', ':', '%'])
        || name.contains(char::is_whitespace)
    {
        return invalid("bridge", format!("{name:?} is no name for a link"));
    }
    if keys.hairpin_mode && keys.promisc_mode {
        return invalid("hairpinMode", "it cannot be set together with promiscMode".to_owned());
    }
    if keys.mode == Mode::Ptp {
        for (key, set) in [
            ("bridge", !keys.bridge.is_empty()),
            ("promiscMode", keys.promisc_mode),
            ("portIsolation", keys.port_isolation),
            (keys.vlans.asks().unwrap_or_default(), keys.vlans.asks().is_some()),
        ] {
            if set {
                return invalid(key, "there is no bridge with mode ptp".to_owned());
            }
        }
    }
    keys.vlans.check_names(name)?;
    // The smallest that IPv4 allows (RFC 791), and the largest of a veth.
    if keys.mtu != 0 && !(68..=65535).contains(&keys.mtu) {
        return invalid("mtu", format!("{} is not between 68 and 65535", keys.mtu));
    }
    Ok(())
}
