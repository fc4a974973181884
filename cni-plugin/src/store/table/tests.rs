//! The table against a model of what it should do, and against disks that stop in the middle.

use super::super::choose;
use super::super::memory::Memory;
use super::*;
use crate::ipam::{self, Ask, Granted};
use crate::ranges::Written;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Few, so that chains are long.
const BUCKETS: u32 = 3;
const COOLDOWN: Duration = Duration::from_secs(30);

fn range(subnet: &str) -> Written {
    Written { subnet: Some(subnet.to_owned()), ..Written::default() }
}

/// Six addresses of each family; those of the first from two ranges, with one excluded.
fn sets() -> Vec<RangeSet> {
    let excluding = Written { exclude: vec!["10.0.1.4".to_owned()], ..range("10.0.1.0/29") };
    let more = Written { range_end: Some("10.0.2.2".to_owned()), ..range("10.0.2.0/24") };
    RangeSet::read_all(&[vec![range("10.0.0.0/30"), excluding, more], vec![range("fd00::/125")]]).unwrap()
}

fn usable(set: &RangeSet) -> VecDeque<IpAddr> {
    let one = |range: &crate::ranges::Range, from| range.usable_from(from);
    let all = set.ranges().iter().flat_map(|range| {
        std::iter::successors(one(range, 0), |ip| one(range, number(*ip) + 1)).collect::<Vec<_>>()
    });
    all.collect()
}

fn table(sets: &[RangeSet]) -> (Memory, Table<Memory>) {
    let memory = Memory::default();
    let mut table = Table::make(memory.clone(), "boot", (sets, BUCKETS)).unwrap();
    table.publish();
    (memory, table)
}

fn owner(number: u8) -> Owner {
    Owner::new(&format!("container-{number}"), "eth0")
}

fn ask<'a>(sets: &'a [RangeSet], wanted: &'a [IpAddr]) -> Ask<'a> {
    Ask { sets, wanted, cooldown: COOLDOWN, avoid: &[] }
}

fn ips(granted: &Granted) -> Vec<IpAddr> {
    granted.addresses.iter().map(|assigned| assigned.address.ip()).collect()
}

/// All that a table says.
type Said = (BTreeMap<Owner, Vec<IpAddr>>, Vec<(IpAddr, Uptime)>);

impl<D: Disk> Table<D> {
    fn said(&self) -> Result<Said, Error> {
        let leases = self.leases().map(|held| held.map(|held| (held.owner, held.addresses)));
        Ok((leases.collect::<Result<_, _>>()?, self.resting()?))
    }

    /// Every slot is reached in exactly the way that its content says.
    fn check_whole(&self) {
        let (leases, resting) = self.said().unwrap();
        let mut seen = BTreeSet::new();
        for (owner, addresses) in &leases {
            assert!(self.find_lease(owner).unwrap().is_some(), "{owner:?}");
            for ip in addresses {
                assert!(seen.insert(*ip), "{ip} has two owners");
                let lease = self.find_address(*ip).unwrap().unwrap().1.lease.unwrap();
                assert_eq!(self.lease(lease).unwrap().owner, *owner);
            }
        }
        for (ip, _) in &resting {
            assert!(seen.insert(*ip), "{ip} is held, or rests twice");
            assert_eq!(self.find_address(*ip).unwrap().unwrap().1.lease, None);
        }
        let slots = (1..=self.head.used).map(|n| self.slot(Id::new(n).unwrap()).unwrap());
        let (mut addresses, mut free, mut held, mut rest) = (0, 0, 0, 0);
        for slot in slots {
            match slot {
                Slot::Address(_) => addresses += 1,
                Slot::Free { .. } => free += 1,
                Slot::Pool(pool) => (held, rest) = (held + pool.held, rest + pool.resting),
                Slot::Lease(_) => {}
            }
        }
        assert_eq!(addresses, seen.len());
        assert_eq!(rest as usize, resting.len());
        assert_eq!(held as usize, leases.values().map(Vec::len).sum::<usize>());
        let mut next = self.head.free;
        while let Some(id) = next {
            let Slot::Free { next: after } = self.slot(id).unwrap() else { panic!("{id:?} is not free") };
            (next, free) = (after, free - 1);
        }
        assert_eq!(free, 0, "slots are lost");
    }
}

/// What the table should do, in the plainest words.
#[derive(Clone, Debug, Default)]
struct Model {
    never: Vec<VecDeque<IpAddr>>,
    resting: Vec<VecDeque<(IpAddr, Uptime)>>,
    held: BTreeMap<Owner, Vec<IpAddr>>,
}

impl Model {
    fn new(sets: &[RangeSet]) -> Self {
        let never: Vec<_> = sets.iter().map(usable).collect();
        Self { resting: vec![VecDeque::new(); never.len()], never, held: BTreeMap::new() }
    }

    fn release(&mut self, owner: &Owner, now: Uptime) {
        for (set, ip) in self.held.remove(owner).into_iter().flatten().enumerate() {
            self.resting[set].push_back((ip, now));
        }
    }

    fn grant(&mut self, owner: &Owner, wanted: Option<IpAddr>, now: Uptime) -> Option<Vec<IpAddr>> {
        if let Some(held) = self.held.get(owner).filter(|held| wanted.is_none_or(|ip| held.contains(&ip))) {
            return Some(held.clone());
        }
        let mut next = self.clone();
        next.release(owner, now);
        let chosen = (0..next.never.len()).map(|set| next.take(set, wanted)).collect::<Option<Vec<_>>>()?;
        next.held.insert(owner.clone(), chosen.clone());
        *self = next;
        Some(chosen)
    }

    fn take(&mut self, set: usize, wanted: Option<IpAddr>) -> Option<IpAddr> {
        let (never, resting) = (&mut self.never[set], &mut self.resting[set]);
        match wanted.filter(|ip| ip.is_ipv4() == (set == 0)) {
            Some(ip) => {
                let free = never.contains(&ip) || resting.iter().any(|(r, _)| *r == ip);
                never.retain(|n| *n != ip);
                resting.retain(|(r, _)| *r != ip);
                free.then_some(ip)
            }
            None => never.pop_front().or_else(|| resting.pop_front().map(|(ip, _)| ip)),
        }
    }

    fn said(&self) -> Said {
        let mut resting: Vec<_> = self.resting.iter().flatten().copied().collect();
        resting.sort_by_key(|(_, since)| *since);
        (self.held.clone(), resting)
    }
}

#[derive(Clone, Debug)]
struct Step {
    who: u8,
    arrives: bool,
    wanted: Option<usize>,
    /// Bytes after which the process is killed.
    killed: Option<usize>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wanted = prop_oneof![3 => Just(None), 1 => (0_usize..12).prop_map(Some)];
    let killed = prop_oneof![2 => Just(None), 1 => (0_usize..4000).prop_map(Some)];
    let step = (0_u8..8, prop_oneof![3 => Just(true), 2 => Just(false)], wanted, killed);
    let step = step.prop_map(|(who, arrives, wanted, killed)| Step { who, arrives, wanted, killed });
    proptest::collection::vec(step, 0..60)
}

/// Does the step on both, and says whether they agree about its outcome.
fn agree(
    table: &mut Table<Memory>,
    model: &mut Model,
    (step, sets): (&Step, &[RangeSet]),
    now: Uptime,
) -> bool {
    let who = owner(step.who);
    let all: Vec<_> = sets.iter().flat_map(usable).collect();
    let wanted = step.wanted.map(|i| all[i]);
    if !step.arrives {
        let held = model.held.contains_key(&who);
        model.release(&who, now);
        return table.change(|table| table.remove(&who, now)).is_ok_and(|did| did == held);
    }
    let expected = model.grant(&who, wanted, now);
    match table.grant(&who, &ask(sets, wanted.as_slice()), now) {
        Ok(granted) => Some(ips(&granted)) == expected,
        Err(choose::Error::Refused(_)) => expected.is_none(),
        Err(choose::Error::Disk(_)) => false,
    }
}

proptest! {
    /// First in, first out, both families or none, requested addresses, and kills in between: after every step the
    /// table says what the model says, or, after a kill, what it said before the step.
    #[test]
    fn any_sequence_of_grants_releases_and_kills_is_what_the_model_says(steps in steps()) {
        let sets = sets();
        let (memory, mut table) = table(&sets);
        let mut model = Model::new(&sets);
        for (step, now) in steps.iter().zip((1..).map(Uptime)) {
            let before = model.clone();
            step.killed.inspect(|bytes| memory.kill_after(*bytes));
            let agreed = agree(&mut table, &mut model, (step, &sets), now);
            memory.revive();
            table = Table::open(memory.clone()).unwrap();
            let said = table.said().unwrap();
            if !agreed {
                prop_assert!(step.killed.is_some(), "{step:?}");
                model = if said == before.said() { before } else { model };
            }
            prop_assert_eq!(said, model.said(), "{:?}", step);
            table.check_whole();
        }
    }
}

/// cni:6.2 (SIGKILL at each step): no address is lost and none given twice, wherever the process stops.
#[test]
fn a_kill_during_any_change_leaves_the_table_as_before_or_after_it() {
    let sets = sets();
    let (memory, mut table) = table(&sets);
    for who in 0..4 {
        table.grant(&owner(who), &ask(&sets, &[]), Uptime(1)).unwrap();
    }
    table.change(|table| table.remove(&owner(1), Uptime(2))).unwrap();
    let wanted = ["10.0.0.2".parse().unwrap()];
    type Change<'a> = &'a dyn Fn(&mut Table<Memory>) -> bool;
    let changes: [Change; 4] = [
        &|table| table.grant(&owner(9), &ask(&sets, &[]), Uptime(3)).is_ok(),
        &|table| table.change(|table| table.remove(&owner(2), Uptime(3))).is_ok(),
        &|table| table.change(|table| table.remove(&owner(0), Uptime(3))).is_ok(),
        &|table| table.grant(&owner(3), &ask(&sets, &wanted), Uptime(4)).is_ok(),
    ];
    for change in changes {
        let before = table.said().unwrap();
        let written = memory.written();
        let start = memory.copy();
        assert!(change(&mut table));
        let after = table.said().unwrap();
        for budget in 0..memory.written() - written {
            let killed = start.copy();
            let mut table = Table::open(killed.clone()).unwrap();
            killed.kill_after(budget);
            assert!(!change(&mut table), "killed after {budget} bytes");
            killed.revive();
            let table = Table::open(killed).unwrap();
            let said = table.said().unwrap();
            assert!(said == before || said == after, "killed after {budget} bytes: {said:?}");
            table.check_whole();
        }
    }
}

/// cni:6.2 (truncated and zeroed state): damage is noticed, or does no harm.
#[test]
fn zeros_and_cuts_anywhere_double_no_address() {
    let sets = sets();
    let (memory, mut table) = table(&sets);
    let mut held = BTreeSet::new();
    for who in 0..3 {
        held.extend(ips(&table.grant(&owner(who), &ask(&sets, &[]), Uptime(1)).unwrap()));
    }
    table.change(|table| table.remove(&owner(1), Uptime(2))).unwrap();
    let free: Vec<_> = table.resting().unwrap().into_iter().map(|(ip, _)| ip).collect();
    held.retain(|ip| !free.contains(ip));
    let end = usize::try_from(memory.length().unwrap()).unwrap();
    let hurt = |damage: &dyn Fn(&mut Vec<u8>)| {
        let hurt = memory.copy();
        hurt.damage(damage);
        // The process that meets the damage ends there; until then it may have given addresses.
        let Ok(mut table) = Table::open(hurt) else { return };
        for ip in &held {
            let given = table.grant(&owner(30), &ask(&sets, &[*ip]), Uptime(3));
            assert!(given.is_err(), "{ip} is given twice, by name");
        }
        for who in 10..20 {
            let Ok(granted) = table.grant(&owner(who), &ask(&sets, &[]), Uptime(3)) else { return };
            assert!(ips(&granted).iter().all(|ip| !held.contains(ip)), "{granted:?} is given twice");
        }
    };
    for at in (0..128).chain(usize::try_from(INDEX).unwrap()..end).step_by(8) {
        for length in [8, BLOCK, 4096] {
            hurt(&|bytes| bytes[at..(at + length).min(end)].fill(0));
        }
    }
    (0..end).rev().step_by(61).for_each(|length| hurt(&|bytes| bytes.truncate(length)));
}

/// cni:#28: an address that was given back rests for its cooldown while there are others, and is reused before a range
/// without end makes the table grow.
#[test]
fn a_full_rest_is_reused_from_the_oldest_on_once_that_has_cooled_down() {
    let sets = RangeSet::read_all(&[vec![range("fd00::/64")]]).unwrap();
    let mut table = Table::make(Memory::default(), "boot", (&sets, 1 << 12)).unwrap();
    let pool = Id::new(1).unwrap();
    let ip = |n: u64| IpAddr::V6((number("fd00::".parse().unwrap()) + u128::from(n)).into());
    table.change(|table| (2..4098).try_for_each(|n| table.insert_resting(ip(n), pool, Uptime(n)))).unwrap();
    let mut next = |who, now, cooldown| {
        let ask = Ask { sets: &sets, wanted: &[], cooldown, avoid: &[] };
        ips(&table.grant(&owner(who), &ask, Uptime(now)).unwrap())[0]
    };
    assert_eq!(next(1, 30_001, COOLDOWN), ip(4098), "all have to rest for another millisecond");
    assert_eq!(next(2, 30_002, COOLDOWN), ip(2));
    assert_eq!(next(3, 30_003, COOLDOWN), ip(4099), "one less rests now");
}

#[test]
fn without_another_address_the_one_that_rested_longest_is_given_at_once() {
    let sets = RangeSet::read_all(&[vec![range("10.0.0.0/30")], vec![range("fd00::/64")]]).unwrap();
    let (_, mut table) = table(&sets);
    let given = |table: &mut Table<_>, who| table.grant(&owner(who), &ask(&sets, &[]), Uptime(5));
    given(&mut table, 1).unwrap();
    let error = given(&mut table, 2).unwrap_err();
    assert_eq!(error.to_string(), "no address left in range set 10.0.0.1-10.0.0.2 (1 held)");
    assert_eq!(table.said().unwrap().0.len(), 1, "nor one of the other family");
    table.change(|table| table.remove(&owner(1), Uptime(5))).unwrap();
    let both = ["10.0.0.2", "fd00::3"].map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(ips(&given(&mut table, 2).unwrap()), both);
}

#[test]
fn an_address_to_avoid_is_not_given_and_not_lost() {
    let sets = RangeSet::read_all(&[vec![range("10.0.0.0/29")]]).unwrap();
    let (_, mut table) = table(&sets);
    let mut avoid: Vec<IpAddr> = Vec::new();
    for last in 2..=6 {
        let ask = Ask { avoid: &avoid, ..ask(&sets, &[]) };
        let given = ips(&table.grant(&owner(1), &ask, Uptime(last)).unwrap());
        assert_eq!(given, [format!("10.0.0.{last}").parse::<IpAddr>().unwrap()]);
        avoid.extend(given);
    }
    let all = Ask { avoid: &avoid, ..ask(&sets, &[]) };
    assert!(matches!(
        table.grant(&owner(1), &all, Uptime(9)),
        Err(choose::Error::Refused(ipam::Error::Exhausted { .. }))
    ));
    table.change(|table| table.remove(&owner(1), Uptime(9))).unwrap();
    assert_eq!(table.said().unwrap().1.len(), 5);
    assert_eq!(ips(&table.grant(&owner(2), &ask(&sets, &[]), Uptime(9)).unwrap())[0], avoid[0]);
}

#[test]
fn wanted_addresses_are_given_or_refused_with_the_reason() {
    let sets = RangeSet::read_all(&[vec![range("10.0.0.0/24")], vec![range("fd00::/64")]]).unwrap();
    let (_, mut table) = table(&sets);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut given = |who, wanted: &[IpAddr]| match table.grant(&owner(who), &ask(&sets, wanted), Uptime(1)) {
        Err(choose::Error::Refused(e)) => Err(e),
        granted => Ok(ips(&granted.unwrap())),
    };
    assert_eq!(given(1, &[ip("fd00::9")]), Ok(vec![ip("10.0.0.2"), ip("fd00::9")]));
    let taken = ipam::Error::Taken { address: ip("fd00::9"), container: "container-1".to_owned() };
    assert_eq!(given(2, &[ip("fd00::9")]), Err(taken));
    for wrong in ["10.0.0.1", "10.0.0.255", "10.0.1.7"].map(ip) {
        assert_eq!(given(2, &[wrong]), Err(ipam::Error::NotOurs { address: wrong }));
    }
    let two = [ip("10.0.0.8"), ip("10.0.0.9")];
    assert_eq!(given(2, &two), Err(ipam::Error::NotOurs { address: two[1] }));
    assert_eq!(given(1, &[]), Ok(vec![ip("10.0.0.2"), ip("fd00::9")]), "a retry gets the same");
    assert_eq!(given(1, &[ip("10.0.0.9")]), Ok(vec![ip("10.0.0.9"), ip("fd00::2")]));
}
