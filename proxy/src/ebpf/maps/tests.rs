//! What programs see while the maps change.

use super::*;
use crate::ebpf::memory::{Held, Memory};
use crate::model::Protocol;
use heddle_ebpf::select::{Answer, Ask, World, select};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::num::NonZeroU64;

/// Frontends that a test may have: two addresses, and a node port of each family.
fn frontend(which: u8) -> Frontend {
    let place = match which % 4 {
        0 => Place::Address([10, 96, 0, 1].into()),
        1 => Place::Address("fd00:96::1".parse().expect("an address")),
        2 => Place::Node(IpFamily::V4),
        _ => Place::Node(IpFamily::V6),
    };
    Frontend { place, protocol: if which < 4 { Protocol::Tcp } else { Protocol::Udp }, port: 30_080 }
}

fn leads(lasts: &[u8], sticky: bool) -> Leads {
    let endpoint = |last: &u8| Endpoint { address: [10, 244, 1, *last].into(), port: 8080, local: true };
    Leads {
        endpoints: lasts.iter().map(endpoint).collect(),
        affinity: sticky.then_some((NonZeroU64::MIN, 60)),
        refuses: lasts.is_empty(),
        not_for_pods: false,
    }
}

/// The node's addresses.
const NODE: [&str; 2] = ["192.168.0.11", "fd00:192::b"];

fn memory() -> Memory {
    let addresses = NODE.map(|address| plan::address(address.parse().expect("an address"))).into();
    Memory { held: Held { addresses, ..Held::default() }, history: Some(Vec::new()), ..Memory::default() }
}

/// Everything that a program may answer at a moment.
fn answers(held: &Held, frontend: &Frontend) -> BTreeSet<Option<SocketAddr>> {
    let key = plan::key(frontend).expect("TCP or UDP");
    let address = match frontend.place {
        Place::Address(address) => address,
        Place::Node(family) => NODE[usize::from(family == IpFamily::V6)].parse().expect("an address"),
    };
    let ask = Ask { address: plan::address(address), port: key.port, protocol: key.protocol };
    let one = |random| match select(&Held { random, ..held.clone() }, &ask) {
        Answer::Pass => None,
        Answer::Refuse(_) => Some("0.0.0.0:0".parse().expect("an address")),
        Answer::To(choice) => {
            Some(SocketAddr::new(plan::ip(choice.slot.address), u16::from_be(choice.slot.port)))
        }
    };
    (0..8).map(one).collect()
}

/// What they are to be.
fn meant(leads: Option<&Leads>) -> BTreeSet<Option<SocketAddr>> {
    match leads {
        None => BTreeSet::from([None]),
        Some(leads) if leads.endpoints.is_empty() => {
            BTreeSet::from([Some("0.0.0.0:0".parse().expect("an address"))])
        }
        Some(leads) => leads.endpoints.iter().map(|e| Some(SocketAddr::new(e.address, e.port))).collect(),
    }
}

#[derive(Clone, Debug)]
struct Change {
    which: u8,
    leads: Option<Leads>,
    /// Half seconds that pass before it.
    wait: u32,
}

fn change() -> impl Strategy<Value = Change> {
    let lasts = prop::collection::btree_set(1_u8..8, 0..6);
    let wanted = prop::option::weighted(0.8, (lasts, any::<bool>()));
    (0_u8..8, wanted, 0_u32..3).prop_map(|(which, wanted, wait)| {
        let leads = wanted.map(|(lasts, sticky)| leads(&lasts.into_iter().collect::<Vec<_>>(), sticky));
        Change { which, leads, wait }
    })
}

proptest! {
    /// ebpf:6.1 ebpf:6.15: between any two stores a program sees the old list or the new one, whole; and what it was on its way to when the
    /// change began is still there after it. ebpf:6.2: a node port is one row, whatever addresses the node has.
    #[test]
    fn a_reader_sees_the_old_endpoints_or_the_new_ones(changes in prop::collection::vec(change(), 1..24)) {
        let mut memory = memory();
        let (mut maps, mut now) = (Maps::default(), Instant::now());
        let mut wanted: BTreeMap<Frontend, Leads> = BTreeMap::new();
        let mut past: Vec<(Instant, Held, Frontend, Option<Leads>)> = Vec::new();
        for Change { which, leads, wait } in changes {
            now += GRACE / 2 * wait;
            let changed = frontend(which);
            let before = wanted.get(&changed).cloned();
            memory.take_moments();
            let started = memory.held.clone();
            maps.set(&mut memory, (&changed, leads.clone()), now).unwrap();
            for moment in memory.take_moments() {
                let seen = answers(&moment, &changed);
                let right = seen == meant(before.as_ref()) || seen == meant(leads.as_ref())
                    // Told not to refuse before it has endpoints, or after: its packets pass, and nftables serves them.
                    || seen == meant(None) && [&before, &leads].iter().any(|l| l.as_ref().is_none_or(|l| l.refuses));
                prop_assert!(right, "{seen:?} between {before:?} and {leads:?}");
                for (other, leads) in wanted.iter().filter(|(other, _)| **other != changed) {
                    prop_assert_eq!(answers(&moment, other), meant(Some(leads)));
                }
            }
            past.push((now, started, changed, before));
            past.retain(|(then, ..)| now.duration_since(*then) < GRACE);
            // Rows as a program read them before; slots as it finds them now.
            for (_, then, changed, before) in &past {
                let late = Held { slots: memory.held.slots.clone(), ..then.clone() };
                prop_assert_eq!(answers(&late, changed), meant(before.as_ref()));
            }
            match leads {
                Some(leads) => drop(wanted.insert(changed, leads)),
                None => drop(wanted.remove(&changed)),
            }
            prop_assert_eq!(memory.held.frontends.len(), wanted.len());
            prop_assert_eq!(memory.held.remembers, wanted.values().any(|leads| leads.affinity.is_some()));
            for which in 0..8 {
                prop_assert_eq!(answers(&memory.held, &frontend(which)), meant(wanted.get(&frontend(which))));
            }
        }
    }
}

/// All at once is the same as one after the other; of two that are the same, the first.
#[test]
fn the_first_content_is_seen_whole_and_changes_as_any_other() {
    let (mut maps, mut memory, now) = (Maps::default(), memory(), Instant::now());
    let all = (0..8).map(|which| (frontend(which), leads(&[which + 1, 9], which == 3)));
    let again = [(frontend(0), leads(&[5], false))];
    maps.fill(&mut memory, all.clone().chain(again)).unwrap();
    for moment in memory.take_moments() {
        assert!(moment.frontends.is_empty() || moment.frontends.len() == 8);
    }
    assert_eq!((maps.len(), memory.held.remembers), (8, true));
    for (frontend, leads) in all {
        assert_eq!(answers(&memory.held, &frontend), meant(Some(&leads)));
    }
    maps.set(&mut memory, (&frontend(3), None), now).unwrap();
    assert_eq!((answers(&memory.held, &frontend(3)), memory.held.remembers), (meant(None), false));
}

/// ebpf:6.1: what is retired is used anew, so that maps do not grow with changes.
#[test]
fn a_thousand_changes_take_the_room_of_a_few() {
    let (mut maps, mut memory, start) = (Maps::default(), Memory::default(), Instant::now());
    for i in 0..1000_u32 {
        let now = start + GRACE * i;
        let lasts: Vec<u8> = (0..5).map(|n| n + u8::try_from(i % 200).unwrap()).collect();
        maps.set(&mut memory, (&frontend(0), Some(leads(&lasts, false))), now).unwrap();
    }
    assert_eq!((memory.held.rows.len(), memory.held.slots.len()), (1, 16));
    assert!(maps.counters.extent() <= 10, "{}", maps.counters.extent());
}

/// What takes the kernel long is done before it is needed.
#[test]
fn changes_find_room_that_was_made_before() {
    let (mut maps, mut memory, now) = (Maps::default(), Memory::default(), Instant::now());
    maps.fill(&mut memory, (0..8).map(|which| (frontend(which), leads(&[1, 2, 3], false)))).unwrap();
    // Within the time that what is replaced is left as it is, so that each takes four more slots.
    let change = |maps: &mut Maps, memory: &mut Memory, i: u32| {
        let changed = leads(&[1, 2, u8::try_from(i % 200 + 3).unwrap()], false);
        maps.set(memory, (&frontend(0), Some(changed)), now).unwrap();
    };
    let before = memory.waits;
    for i in 1..=500 {
        change(&mut maps, &mut memory, i);
    }
    assert_eq!(memory.waits, before, "2000 slots of what was made at the start");
    for i in 501..5000 {
        change(&mut maps, &mut memory, i);
        if maps.are_short_of_room(&memory) {
            maps.make_spare_room(&mut memory).unwrap();
            let made = memory.waits;
            change(&mut maps, &mut memory, i + 1);
            assert_eq!(memory.waits, made);
        }
    }
}

/// ebpf:6.1: one frontend's change writes its own list and one word, whatever else there is.
#[test]
fn a_changed_endpoint_is_a_new_list_and_one_word() {
    let (mut maps, now) = (Maps::default(), Instant::now());
    let mut memory = memory();
    for which in 0..8 {
        maps.set(&mut memory, (&frontend(which), Some(leads(&[1, 2, 3], false))), now).unwrap();
    }
    memory.take_moments();
    maps.set(&mut memory, (&frontend(0), Some(leads(&[1, 2, 4], false))), now).unwrap();
    // Three slots, the two words that did not change, and the list; the last moment is the present.
    assert_eq!(memory.take_moments().len(), 3 + 2 + 1 + 1);
    let list = memory.held.row(0).unwrap().list;
    assert_eq!((list.count(), list.generation()), (3, 2));
}

#[test]
fn a_map_that_cannot_grow_is_an_error_and_what_was_there_stays() {
    let (mut maps, now) = (Maps::default(), Instant::now());
    let mut memory = Memory { limit: Some(2), ..memory() };
    for which in 0..2 {
        maps.set(&mut memory, (&frontend(which), Some(leads(&[1], false))), now).unwrap();
    }
    assert!(maps.set(&mut memory, (&frontend(2), Some(leads(&[1], false))), now).is_err());
    assert_eq!(maps.len(), 2);
    assert_eq!(answers(&memory.held, &frontend(1)), meant(Some(&leads(&[1], false))));
}
