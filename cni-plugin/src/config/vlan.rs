//! The keys for VLANs on the bridge: `vlan`, `vlanTrunk` and `preserveDefaultVlan`, as the reference plugin has them.
//!
//! Whether the kernel has VLANs is not its question. Invariant: the ranges that it gives out are in order, inside of 1 to
//! 4094, and do not overlap.

use crate::spec::Error;
use heddle_netlink::link::NAME_MAX;
use heddle_netlink::vlan::{ID_MAX, Range, Tagging};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;

/// The VLANs of a pod's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// Those that are asked for: one of an access port, or the ranges of a trunk.
    pub ranges: Vec<Range>,
    /// The port keeps the VLAN that the bridge gives to every port (`preserveDefaultVlan`).
    pub keep_default: bool,
}

impl Vlans {
    /// The one VLAN of a pod that knows nothing of VLANs.
    pub fn access(&self) -> Option<u16> {
        self.ranges.iter().find(|range| range.tagging == Tagging::ACCESS).map(|range| range.first)
    }

    /// What is said when the kernel has none.
    pub fn unsupported(&self) -> Error {
        Error::Unsupported {
            key: if self.access().is_some() { "vlan" } else { "vlanTrunk" }.to_owned(),
            value: self.to_string(),
            hint: "bridges of this kernel know no VLANs: it was built without CONFIG_BRIDGE_VLAN_FILTERING",
        }
    }
}

impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |range: &Range| match range.first == range.last {
            true => range.first.to_string(),
            false => format!("{}-{}", range.first, range.last),
        };
        f.write_str(&self.ranges.iter().map(write).collect::<Vec<_>>().join(","))
    }
}

/// The keys as they are written; any number, so that a wrong one is named.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Keys {
    vlan: i64,
    vlan_trunk: Vec<Entry>,
    preserve_default_vlan: Option<bool>,
}

/// One VLAN, those between two, or both.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    id: Option<i64>,
    #[serde(rename = "minID")]
    min: Option<i64>,
    #[serde(rename = "maxID")]
    max: Option<i64>,
}

impl Keys {
    /// The key that asks for VLANs, if there is one.
    pub(super) fn asks(&self) -> Option<&'static str> {
        let asked = [("vlan", self.vlan != 0), ("vlanTrunk", !self.vlan_trunk.is_empty())];
        asked.iter().find(|(_, asks)| *asks).map(|(key, _)| *key)
    }

    /// Checks that the gateway's link of any VLAN has a name that fits.
    pub(super) fn check_names(&self, bridge: &str) -> Result<(), Error> {
        let name = link_name(bridge, ID_MAX);
        if self.vlan == 0 || name.len() <= NAME_MAX {
            return Ok(());
        }
        Err(invalid("bridge", format!("{bridge:?} is too long: with a VLAN, links are named as {name}")))
    }

    /// Checks the keys; `None` when they ask for nothing.
    pub(super) fn read(&self) -> Result<Option<Vlans>, Error> {
        let ranges = match (self.vlan, &self.vlan_trunk[..]) {
            (0, []) => return Ok(None),
            (0, trunk) => ranges(&ids(trunk)?),
            (id, []) => {
                let id = number("vlan", id)?;
                vec![Range { first: id, last: id, tagging: Tagging::ACCESS }]
            }
            _ => return Err(invalid("vlan", "it cannot be set together with vlanTrunk".to_owned())),
        };
        Ok(Some(Vlans { ranges, keep_default: self.preserve_default_vlan.unwrap_or(true) }))
    }
}

/// The link with the gateways' addresses in one VLAN.
pub(super) fn link_name(bridge: &str, id: u16) -> String {
    format!("{bridge}.{id}")
}

fn invalid(key: &'static str, problem: String) -> Error {
    Error::Invalid { key, problem }
}

fn number(key: &'static str, id: i64) -> Result<u16, Error> {
    let fits = u16::try_from(id).ok().filter(|id| (1..=ID_MAX).contains(id));
    fits.ok_or_else(|| invalid(key, format!("{id} is not between 1 and {ID_MAX}")))
}

fn ids(trunk: &[Entry]) -> Result<BTreeSet<u16>, Error> {
    const KEY: &str = "vlanTrunk";
    let mut ids = BTreeSet::new();
    for Entry { id, min, max } in trunk {
        match (min, max) {
            (Some(min), Some(max)) if min > max => {
                return Err(invalid(KEY, format!("minID {min} is greater than maxID {max}")));
            }
            (Some(min), Some(max)) => ids.extend(number(KEY, *min)?..=number(KEY, *max)?),
            (None, None) if id.is_some() => {}
            _ => return Err(invalid(KEY, "an entry has id, or minID and maxID".to_owned())),
        }
        ids.extend(id.map(|id| number(KEY, id)).transpose()?);
    }
    Ok(ids)
}

/// Neighbours as one range each.
fn ranges(ids: &BTreeSet<u16>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for id in ids.iter().copied() {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == id => range.last = id,
            _ => ranges.push(Range { first: id, last: id, tagging: Tagging::TRUNK }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(keys: Value) -> Result<Option<Vlans>, String> {
        let keys: Keys = serde_json::from_value(keys).unwrap();
        keys.read().map_err(|error| error.to_string())
    }

    #[test]
    fn an_access_port_has_one_vlan_and_keeps_the_default_unless_told_otherwise() {
        let ranges = vec![Range { first: 7, last: 7, tagging: Tagging::ACCESS }];
        let vlans = Vlans { ranges, keep_default: true };
        assert_eq!(read(json!({"vlan": 7})), Ok(Some(vlans.clone())));
        assert_eq!((vlans.access(), vlans.to_string()), (Some(7), "7".to_owned()));
        let alone = read(json!({"vlan": 7, "preserveDefaultVlan": false}));
        assert_eq!(alone, Ok(Some(Vlans { keep_default: false, ..vlans })));
    }

    #[test]
    fn a_trunk_is_in_order_and_its_entries_may_overlap() {
        let trunk = json!([{"id": 30}, {"minID": 10, "maxID": 12, "id": 4094}, {"minID": 12, "maxID": 14}]);
        let vlans = read(json!({"vlanTrunk": trunk})).unwrap().unwrap();
        assert_eq!((vlans.to_string(), vlans.access()), ("10-14,30,4094".to_owned(), None));
        assert!(vlans.ranges.iter().all(|range| range.tagging == Tagging::TRUNK));
    }

    #[test]
    fn keys_that_ask_for_nothing_give_nothing() {
        for keys in [json!({}), json!({"vlan": 0, "vlanTrunk": []}), json!({"preserveDefaultVlan": false})] {
            assert_eq!(read(keys), Ok(None));
        }
    }

    #[test]
    fn numbers_and_entries_that_make_no_sense_are_named() {
        for (keys, problem) in [
            (json!({"vlan": -1}), "vlan: -1 is not between 1 and 4094"),
            (json!({"vlan": 4095}), "vlan: 4095 is not between 1 and 4094"),
            (json!({"vlan": 7, "vlanTrunk": [{"id": 8}]}), "vlan: it cannot be set together with vlanTrunk"),
            (json!({"vlanTrunk": [{"id": 0}]}), "vlanTrunk: 0 is not between 1 and 4094"),
            (json!({"vlanTrunk": [{"minID": 0, "maxID": 9}]}), "vlanTrunk: 0 is not between 1 and 4094"),
            (
                json!({"vlanTrunk": [{"minID": 1, "maxID": 65541}]}),
                "vlanTrunk: 65541 is not between 1 and 4094",
            ),
            (json!({"vlanTrunk": [{"minID": 9, "maxID": 8}]}), "vlanTrunk: minID 9 is greater than maxID 8"),
            (json!({"vlanTrunk": [{"minID": 9}]}), "vlanTrunk: an entry has id, or minID and maxID"),
            (json!({"vlanTrunk": [{"maxID": 9, "id": 8}]}), "vlanTrunk: an entry has id, or minID and maxID"),
            (json!({"vlanTrunk": [{}]}), "vlanTrunk: an entry has id, or minID and maxID"),
        ] {
            assert_eq!(read(keys), Err(problem.to_owned()));
        }
    }
}
