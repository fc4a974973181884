//! The keys of the configuration: those of the reference `bridge` and `host-local` plugins, with their meaning.
//!
//! A configuration for those two needs only its types changed. Keys that nobody defined are tolerated, as the
//! specification wants; a key that asks for something that we do not do is refused with its name and value. Invariant:
//! nothing that is asked for is left out silently.

use crate::args::Args;
use crate::dns::Dns;
use crate::ranges::{RangeSet, Written};
use crate::spec::{Document, Error};
use heddle_netlink::link::Mac;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the leases are, unless `ipam.dataDir` says otherwise.
const LEASES: &str = "/var/lib/heddle/leases";
/// Longer than what others remember of a pod for a moment: a SYN that was not answered, a neighbour's address.
const COOLDOWN: Duration = Duration::from_secs(30);
const BRIDGE: &str = "cni0";

/// How a container is attached.
#[derive(Clone, Debug)]
pub struct Config {
    /// The bridge that pods are connected to (`bridge`).
    pub bridge: String,
    /// The bridge has the gateway's addresses, and the node forwards (`isGateway`).
    pub gateway: bool,
    /// Pods get default routes through the gateway (`isDefaultGateway`, which implies `isGateway`).
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
    /// Where addresses come from (`ipam.ranges`); one address from each.
    pub sets: Vec<RangeSet>,
    /// Routes in the pod (`ipam.routes`).
    pub routes: Vec<Route>,
    /// Where leases are kept (`ipam.dataDir`).
    pub leases: PathBuf,
    /// How long an address rests before it is given again, as long as there are others (`ipam.cooldown`, in seconds).
    pub cooldown: Duration,
    /// Name servers to report (`dns`).
    pub dns: Dns,
    /// The file to take them from when `dns` is empty (`ipam.resolvConf`).
    pub resolv_conf: Option<PathBuf>,
    /// Addresses that this pod must get.
    pub addresses: Vec<IpAddr>,
    /// The Ethernet address that this pod must get.
    pub mac: Option<Mac>,
}

/// A route that pods get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNetwork,
    /// Through whom; the gateway of the pod's first address of the same family when absent.
    pub gateway: Option<IpAddr>,
    /// Which route is taken when several fit: the lowest.
    pub priority: Option<u32>,
    /// The routing table, when not the main one.
    pub table: Option<u32>,
    /// How far away the destination is, in the kernel's numbers.
    pub scope: Option<u8>,
    /// Largest packet on this route in bytes.
    pub mtu: Option<u32>,
    /// Segment size announced to TCP peers, in bytes.
    pub advmss: Option<u32>,
}

impl Route {
    /// A route with nothing special about it.
    pub fn new(to: IpNetwork, gateway: Option<IpAddr>) -> Self {
        Self { to, gateway, priority: None, table: None, scope: None, mtu: None, advmss: None }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    bridge: String,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    mtu: u32,
    hairpin_mode: bool,
    promisc_mode: bool,
    port_isolation: bool,
    ipam: IpamKeys,
    dns: Dns,
    runtime_config: Map<String, Value>,
    args: ArgsKeys,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct IpamKeys {
    r#type: String,
    ranges: Vec<Vec<Written>>,
    #[serde(flatten)]
    single: Written,
    routes: Vec<RouteKeys>,
    data_dir: Option<PathBuf>,
    cooldown: Option<u32>,
    resolv_conf: Option<PathBuf>,
}

#[derive(Deserialize)]
struct RouteKeys {
    dst: String,
    #[serde(default)]
    gw: String,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
    mtu: Option<u32>,
    advmss: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ArgsKeys {
    cni: Map<String, Value>,
}

/// Keys of the reference plugins that ask for something when they are neither false, zero nor empty.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("ipMasq", "heddle-node masquerades once for all pods; remove the key or set it to false"),
    ("vlan", "VLANs on the bridge are not implemented"),
    ("vlanTrunk", "VLANs on the bridge are not implemented"),
    ("macspoofchk", "checks against forged Ethernet addresses are not implemented"),
    ("disableContainerInterface", "the container's interface is always set up"),
    ("enabledad", "addresses are handed out once only, so duplicates are not searched for"),
    ("prevResult", "put heddle-cni first in the list of plugins; it does not add to another one's interface"),
];

/// Keys of `runtimeConfig` that ask for something; runtimes write them in either case (containerd: `HostPort`).
const UNSUPPORTED_AT_RUNTIME: &[(&str, &str)] = &[
    ("portMappings", "remove the capability portMappings, or chain the portmap plugin"),
    ("bandwidth", "remove the capability bandwidth, or chain the bandwidth plugin"),
    ("ipRanges", "write the ranges into ipam.ranges"),
    ("infinibandGUID", "a veth pair has no such identifier"),
    ("deviceID", "no device is moved into the container"),
];

impl Config {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// The first key that is unsupported or makes no sense.
    pub fn read(mut document: Document, args: &Args) -> Result<Self, Error> {
        drop_nulls(&mut document);
        refuse("", &document, UNSUPPORTED)?;
        let keys: Keys = serde_json::from_value(Value::Object(document)).map_err(Error::Decode)?;
        refuse("runtimeConfig.", &keys.runtime_config, UNSUPPORTED_AT_RUNTIME)?;
        check_bridge(&keys)?;
        check_ipam_type(&keys.ipam.r#type)?;
        Ok(Self {
            addresses: wanted_addresses(&keys, args)?,
            mac: wanted_mac(&keys, args)?,
            sets: read_sets(keys.ipam.ranges, keys.ipam.single)?,
            routes: keys.ipam.routes.iter().map(read_route).collect::<Result<_, _>>()?,
            bridge: if keys.bridge.is_empty() { BRIDGE.to_owned() } else { keys.bridge },
            gateway: keys.is_gateway || keys.is_default_gateway,
            default_gateway: keys.is_default_gateway,
            force_address: keys.force_address,
            mtu: Some(keys.mtu).filter(|mtu| *mtu != 0),
            hairpin: keys.hairpin_mode,
            promiscuous: keys.promisc_mode,
            isolated: keys.port_isolation,
            leases: leases(keys.ipam.data_dir),
            cooldown: keys.ipam.cooldown.map_or(COOLDOWN, |seconds| Duration::from_secs(seconds.into())),
            dns: keys.dns,
            resolv_conf: keys.ipam.resolv_conf.filter(|path| !path.as_os_str().is_empty()),
        })
    }

    /// Where the leases are, from a configuration of which nothing else is looked at.
    pub fn read_leases(document: &Document) -> PathBuf {
        let directory = document.get("ipam").and_then(|ipam| ipam.get("dataDir")).and_then(Value::as_str);
        leases(directory.map(PathBuf::from))
    }
}

fn leases(directory: Option<PathBuf>) -> PathBuf {
    directory.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| LEASES.into())
}

/// Programs in Go write null for an absent list, and the reference plugins read it as one.
fn drop_nulls(map: &mut Document) {
    map.retain(|_, value| !value.is_null());
    map.values_mut().filter_map(Value::as_object_mut).for_each(drop_nulls);
}

fn refuse(place: &str, map: &Document, keys: &[(&str, &'static str)]) -> Result<(), Error> {
    for (key, hint) in keys {
        let asks = |value: &&Value| match value {
            Value::Null => false,
            Value::Bool(on) => *on,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
        };
        if let Some(value) = find(map, key).filter(asks) {
            return Err(Error::Unsupported { key: format!("{place}{key}"), value: value.to_string(), hint });
        }
    }
    Ok(())
}

/// The value of a key, whatever its case.
fn find<'a>(map: &'a Document, key: &str) -> Option<&'a Value> {
    map.get(key).or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| value))
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
    // The smallest that IPv4 allows (RFC 791), and the largest of a veth.
    if keys.mtu != 0 && !(68..=65535).contains(&keys.mtu) {
        return invalid("mtu", format!("{} is not between 68 and 65535", keys.mtu));
    }
    Ok(())
}

fn check_ipam_type(kind: &str) -> Result<(), Error> {
    if kind == "heddle" {
        return Ok(());
    }
    let problem = format!("{kind:?} is not known; write \"heddle\", which takes the keys of host-local");
    Err(Error::Invalid { key: "ipam.type", problem })
}

/// The old form with one range beside the list is one more set, before the others.
fn read_sets(mut ranges: Vec<Vec<Written>>, single: Written) -> Result<Vec<RangeSet>, Error> {
    if single.subnet.is_some() {
        ranges.insert(0, vec![single]);
    }
    if ranges.is_empty() {
        let problem = "no range of addresses is given".to_owned();
        return Err(Error::Invalid { key: "ipam.ranges", problem });
    }
    Ok(RangeSet::read_all(&ranges)?)
}

fn read_route(keys: &RouteKeys) -> Result<Route, Error> {
    let invalid = |problem| Error::Invalid { key: "ipam.routes", problem };
    let to = keys.dst.contains('/').then(|| keys.dst.parse::<IpNetwork>().ok()).flatten();
    let to = to.ok_or_else(|| invalid(format!("dst {:?} is not a network in CIDR notation", keys.dst)))?;
    let gateway = match &*keys.gw {
        "" => None,
        gw => Some(gw.parse::<IpAddr>().map_err(|_| invalid(format!("gw {gw:?} is not an IP address")))?),
    };
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != to.is_ipv4()) {
        return Err(invalid(format!("dst {to} and gw {} are of two address families", keys.gw)));
    }
    let to = IpNetwork::new(to.network(), to.prefix()).expect("the prefix is the one that was read");
    let RouteKeys { priority, table, scope, mtu, advmss, .. } = *keys;
    Ok(Route { to, gateway, priority, table, scope, mtu, advmss })
}

/// From the first place that has any: the capability, `args.cni`, and the deprecated `CNI_ARGS`.
fn wanted_addresses(keys: &Keys, args: &Args) -> Result<Vec<IpAddr>, Error> {
    let listed = |map| find(map, "ips").and_then(Value::as_array).filter(|list| !list.is_empty());
    let texts: Vec<&str> = match listed(&keys.runtime_config).or_else(|| listed(&keys.args.cni)) {
        Some(list) => list.iter().map(|text| text.as_str().unwrap_or_default()).collect(),
        None => args.ip.iter().flat_map(|list| list.split(',')).collect(),
    };
    let read = |text: &str| {
        let problem = || format!("{text:?} is not an IP address");
        let address = text.split('/').next().and_then(|address| address.parse().ok());
        address.ok_or_else(|| Error::Invalid { key: "ips", problem: problem() })
    };
    texts.into_iter().map(read).collect()
}

fn wanted_mac(keys: &Keys, args: &Args) -> Result<Option<Mac>, Error> {
    let written = |map| find(map, "mac").and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = written(&keys.runtime_config).or_else(|| written(&keys.args.cni)).or(args.mac.as_deref());
    text.map(str::parse)
        .transpose()
        .map_err(|e: heddle_netlink::link::BadMac| Error::Invalid { key: "mac", problem: e.to_string() })
}
