//! Which endpoint stands in which slot.

use heddle_netlink::nft::Cells;
use std::collections::BTreeSet;

/// Places `wanted` into as many slots: what is in one of them already stays, the others fill the gaps in order.
pub fn assign(before: &[Option<Cells>], mut wanted: BTreeSet<Cells>) -> Vec<Cells> {
    let count = wanted.len();
    let mut slots: Vec<Option<Cells>> = before.iter().take(count).copied().collect();
    slots.resize(count, None);
    for slot in &mut slots {
        *slot = slot.filter(|cells| wanted.remove(cells));
    }
    let mut rest = wanted.into_iter();
    slots.into_iter().filter_map(|slot| slot.or_else(|| rest.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cells(ports: &[u16]) -> Vec<Cells> {
        ports.iter().map(|port| Cells::default().port(*port)).collect()
    }

    #[test]
    fn a_removed_endpoint_leaves_the_others_in_their_slots() {
        let before: Vec<Option<Cells>> = cells(&[1, 2, 3, 4]).into_iter().map(Some).collect();
        let after = assign(&before, cells(&[1, 3, 4]).into_iter().collect());
        assert_eq!(after, cells(&[1, 4, 3]), "only the last one moves, into the gap");
    }

    #[test]
    fn a_replaced_endpoint_takes_the_slot_of_the_old_one() {
        let before: Vec<Option<Cells>> = cells(&[1, 2, 3]).into_iter().map(Some).collect();
        assert_eq!(assign(&before, cells(&[1, 9, 3]).into_iter().collect()), cells(&[1, 9, 3]));
    }

    proptest! {
        #[test]
        fn every_wanted_endpoint_has_one_slot_and_few_slots_change(
            before in prop::collection::btree_set(0..20_u16, 0..12),
            wanted in prop::collection::btree_set(0..20_u16, 0..12),
        ) {
            let old: Vec<Option<Cells>> =
                before.iter().map(|port| Some(Cells::default().port(*port))).collect();
            let wanted_cells: BTreeSet<Cells> = wanted.iter().map(|port| Cells::default().port(*port)).collect();
            let after = assign(&old, wanted_cells.clone());
            prop_assert_eq!(after.len(), wanted.len());
            prop_assert_eq!(after.iter().copied().collect::<BTreeSet<_>>(), wanted_cells);
            let longest = after.len().max(old.len());
            let changed = (0..longest).filter(|i| old.get(*i).copied().flatten() != after.get(*i).copied()).count();
            let differing = before.symmetric_difference(&wanted).count();
            prop_assert!(changed <= 2 * differing, "{} slots for {} differences", changed, differing);
        }
    }
}
