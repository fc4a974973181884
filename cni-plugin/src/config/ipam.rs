//! The object `ipam`: our own leases, or another plugin that gives out addresses.

use crate::delegate::Delegate;
use crate::ranges::{RangeSet, Written};
use crate::route::{self, Route};
use crate::spec::{Document, Error};
use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Where the leases are, unless `ipam.dataDir` says otherwise.
const LEASES: &str = "/var/lib/heddle/leases";
/// Longer than what others remember of a pod for a moment: a SYN that was not answered, a neighbour's address.
const COOLDOWN: Duration = Duration::from_secs(30);
/// The value of `ipam.type` that means ourselves.
const OWN: &str = "heddle";

/// Who gives out addresses.
#[derive(Clone, Debug)]
pub enum Ipam {
    /// We do.
    Own(Own),
    /// The plugin of this name (`ipam.type`), which is started as the specification says.
    Delegate(Delegate),
}

/// Our own addresses.
#[derive(Clone, Debug)]
pub struct Own {
    /// Where addresses come from (`ipam.ranges`); one address from each.
    pub sets: Vec<RangeSet>,
    /// Routes in the pod (`ipam.routes`).
    pub routes: Vec<Route>,
    /// Where leases are kept (`ipam.dataDir`).
    pub leases: PathBuf,
    /// How long an address rests before it is given again, as long as there are others (`ipam.cooldown`, in seconds).
    pub cooldown: Duration,
    /// The file to take name servers from when `dns` is empty (`ipam.resolvConf`).
    pub resolv_conf: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Keys {
    r#type: String,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct OwnKeys {
    ranges: Vec<Vec<Written>>,
    #[serde(flatten)]
    single: Written,
    routes: Vec<route::Written>,
    data_dir: Option<PathBuf>,
    cooldown: Option<u32>,
    resolv_conf: Option<PathBuf>,
}

impl Keys {
    /// Checks them; ranges that the runtime gives come before those that are configured, as in host-local.
    pub(super) fn read(self, document: &Document, from_runtime: Vec<Vec<Written>>) -> Result<Ipam, Error> {
        if self.r#type != OWN {
            return delegate(self.r#type, document).map(Ipam::Delegate);
        }
        // Another plugin's keys are its own affair, so ours are looked at only now.
        let keys: OwnKeys = serde_json::from_value(Value::Object(self.rest)).map_err(Error::Decode)?;
        Ok(Ipam::Own(Own {
            sets: read_sets(from_runtime, keys.single, keys.ranges)?,
            routes: keys.routes.iter().map(read_route).collect::<Result<_, _>>()?,
            leases: leases(keys.data_dir),
            cooldown: keys.cooldown.map_or(COOLDOWN, |seconds| Duration::from_secs(seconds.into())),
            resolv_conf: keys.resolv_conf.filter(|path| !path.as_os_str().is_empty()),
        }))
    }
}

/// Where our leases are, from a configuration of which nothing else is looked at.
pub fn read_leases(document: &Document) -> PathBuf {
    let directory = document.keys.get("ipam").and_then(|ipam| ipam.get("dataDir")).and_then(Value::as_str);
    leases(directory.map(PathBuf::from))
}

/// The other plugin that gives out addresses, from a configuration of which nothing else is looked at.
pub fn read_delegate(document: &Document) -> Option<Delegate> {
    let kind = document.keys.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str)?;
    (kind != OWN).then(|| delegate(kind.to_owned(), document).ok()).flatten()
}

/// The name is looked up in folders and must not lead out of them.
fn delegate(kind: String, document: &Document) -> Result<Delegate, Error> {
    let ourselves = document.keys.get("type").and_then(Value::as_str) == Some(&kind);
    let problem = match &*kind {
        "" => {
            "it is missing; write \"heddle\", which takes the keys of host-local, or the name of an IPAM plugin"
        }
        "." | ".." => "it is no name of a program",
        _ if kind.contains('/') => "it is the name of a program in CNI_PATH, without folders",
        _ if ourselves => "it is this plugin, which would start itself for ever; write \"heddle\"",
        _ => {
            return Ok(Delegate { kind, path: document.path.clone(), stdin: document.stdin.clone() });
        }
    };
    Err(Error::Invalid { key: "ipam.type", problem: format!("{kind:?}: {problem}") })
}

fn leases(directory: Option<PathBuf>) -> PathBuf {
    directory.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| LEASES.into())
}

/// The old form with one range beside the list is one more set, before the others.
fn read_sets(
    mut sets: Vec<Vec<Written>>,
    single: Written,
    listed: Vec<Vec<Written>>,
) -> Result<Vec<RangeSet>, Error> {
    if single.subnet.is_none() && !single.exclude.is_empty() {
        let problem = "write it into the range that it is about".to_owned();
        return Err(Error::Invalid { key: "ipam.exclude", problem });
    }
    sets.extend(single.subnet.is_some().then(|| vec![single]));
    sets.extend(listed);
    if sets.is_empty() {
        let problem = "no range of addresses is given".to_owned();
        return Err(Error::Invalid { key: "ipam.ranges", problem });
    }
    Ok(RangeSet::read_all(&sets)?)
}

fn read_route(written: &route::Written) -> Result<Route, Error> {
    written.read().map_err(|problem| Error::Invalid { key: "ipam.routes", problem })
}
