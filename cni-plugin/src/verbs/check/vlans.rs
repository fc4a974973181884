//! What CHECK says of a port's VLANs.
//!
//! Pure. VLANs beside those that are asked for are a difference only where the default one is not kept: then nothing but
//! what is asked for may pass.

use crate::config::vlan::Vlans;
use heddle_netlink::vlan::{Filter, Tagging};
use std::collections::BTreeMap;

/// Compares a port of this bridge with what it should be.
pub(super) fn compare(
    wanted: &Vlans,
    (bridge, filter): (&str, Option<Filter>),
    seen: &BTreeMap<u16, Tagging>,
) -> Vec<String> {
    let mut differences = Vec::new();
    if !filter.is_some_and(|filter| filter.on) {
        differences.push(format!("bridge {bridge} does not tell VLANs apart"));
    }
    let each =
        wanted.ranges.iter().flat_map(|range| (range.first..=range.last).map(|id| (id, range.tagging)));
    let ids: BTreeMap<_, _> = each.collect();
    let lost = ids.iter().filter(|(id, tagging)| seen.get(id) != Some(tagging)).map(|(id, _)| *id);
    let foreign = seen.keys().filter(|id| !wanted.keep_default && !ids.contains_key(id)).copied();
    differences.extend(listed("the port is not, or not so, in VLAN", lost));
    differences.extend(listed("the port is also in VLAN", foreign));
    differences
}

fn listed(what: &str, ids: impl Iterator<Item = u16>) -> Option<String> {
    const MOST: usize = 8;
    let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
    let more = if ids.len() > MOST { format!(" and {} more", ids.len() - MOST) } else { String::new() };
    (!ids.is_empty()).then(|| format!("{what} {}{more}", ids[..ids.len().min(MOST)].join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_netlink::vlan::Range;

    const ON: Option<Filter> = Some(Filter { on: true, default: 1 });

    #[test]
    fn a_port_in_its_vlan_is_no_difference_and_the_default_counts_when_it_is_not_kept() {
        let ranges = vec![Range { first: 7, last: 7, tagging: Tagging::ACCESS }];
        let (kept, alone) =
            (Vlans { ranges: ranges.clone(), keep_default: true }, Vlans { ranges, keep_default: false });
        let left = Tagging { pvid: false, untagged: true };
        let seen = BTreeMap::from([(1, left), (7, Tagging::ACCESS)]);
        assert_eq!(compare(&kept, ("cni0", ON), &seen), [""; 0]);
        assert_eq!(compare(&alone, ("cni0", ON), &seen), ["the port is also in VLAN 1"]);
    }

    #[test]
    fn a_vlan_that_is_lost_or_tagged_otherwise_is_named_and_many_are_counted() {
        let ranges = vec![Range { first: 10, last: 20, tagging: Tagging::TRUNK }];
        let trunk = Vlans { ranges, keep_default: true };
        let seen: BTreeMap<_, _> = (10..=19).map(|id| (id, Tagging::TRUNK)).collect();
        assert_eq!(compare(&trunk, ("cni0", ON), &seen), ["the port is not, or not so, in VLAN 20"]);
        let otherwise = (10..=20).map(|id| (id, Tagging::ACCESS)).collect();
        let expected = [
            "bridge cni0 does not tell VLANs apart",
            "the port is not, or not so, in VLAN 10, 11, 12, 13, 14, 15, 16, 17 and 3 more",
        ];
        assert_eq!(compare(&trunk, ("cni0", None), &otherwise), expected);
    }
}
