//! Selection against its meaning, written a second time from what frontends say.

use super::*;
use crate::abi::mapped;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// Maps in memory.
#[derive(Default)]
struct Memory {
    frontends: BTreeMap<Frontend, u32>,
    rows: Vec<Row>,
    slots: Vec<Slot>,
    ports: BTreeSet<(u8, u16)>,
    addresses: BTreeSet<Address>,
    namespace: Cell<u64>,
    now: Cell<u64>,
    random: Cell<u32>,
    kept: RefCell<BTreeMap<(u64, u64), Kept>>,
    epoch: u32,
    left_out: BTreeSet<u64>,
    /// How often it was asked which namespaces are left out.
    asked_who: Cell<u32>,
}

const NODE: u64 = 1;
const POD: u64 = 2;

impl World for Memory {
    fn frontend(&self, frontend: &Frontend) -> Option<u32> {
        self.frontends.get(frontend).copied()
    }
    fn row(&self, row: u32) -> Option<Row> {
        self.rows.get(row as usize).copied()
    }
    fn slot(&self, slot: u32) -> Option<Slot> {
        self.slots.get(slot as usize).copied()
    }
    fn find(&self, list: List, address: &Address, port: u16) -> Option<Slot> {
        let slots = (list.first()..).take(list.count() as usize).filter_map(|i| self.slot(i));
        slots.into_iter().find(|slot| slot.address == *address && slot.port == port)
    }
    fn is_node_port(&self, protocol: u8, port: u16) -> bool {
        self.ports.contains(&(protocol, port))
    }
    fn is_node_address(&self, address: &Address) -> bool {
        self.addresses.contains(address)
    }
    fn epoch(&self) -> u32 {
        self.epoch
    }
    fn namespace(&self) -> u64 {
        self.namespace.get()
    }
    fn node_namespace(&self) -> u64 {
        NODE
    }
    fn leaves_out(&self) -> bool {
        !self.left_out.is_empty()
    }
    fn is_left_out(&self, namespace: u64) -> bool {
        self.asked_who.set(self.asked_who.get() + 1);
        self.left_out.contains(&namespace)
    }
    fn now(&self) -> u64 {
        self.now.get()
    }
    fn random(&self) -> u32 {
        self.random.replace(self.random.get().wrapping_add(1))
    }
    fn kept(&self, client: &Client) -> Option<Kept> {
        self.kept.borrow().get(&(client.namespace, client.affinity)).copied()
    }
    fn keep(&self, client: &Client, kept: &Kept) {
        self.kept.borrow_mut().insert((client.namespace, client.affinity), *kept);
    }
}

impl Memory {
    fn put(&mut self, frontend: Frontend, row: Row, endpoints: &[Slot]) -> u32 {
        let first = u32::try_from(self.slots.len()).unwrap();
        self.slots.extend_from_slice(endpoints);
        let count = u16::try_from(endpoints.len()).unwrap();
        let number = *self.frontends.entry(frontend).or_insert_with(|| {
            self.rows.push(Row::default());
            u32::try_from(self.rows.len() - 1).unwrap()
        });
        let generation = self.rows[number as usize].list.generation() + 1;
        self.rows[number as usize] = Row { list: List::new(first, count, generation), ..row };
        number
    }
}

fn at(last: u8, port: u16, scope: u8) -> Frontend {
    let address = if scope == HERE { mapped(u32::from_ne_bytes([10, 96, 0, last])) } else { [0; 4] };
    Frontend { address, port: port.to_be(), protocol: TCP, scope }
}

fn endpoint(last: u8) -> Slot {
    Slot {
        address: mapped(u32::from_ne_bytes([10, 244, 1, last])),
        port: 8080_u16.to_be(),
        unused: 0,
        counter: last.into(),
    }
}

fn ask(frontend: &Frontend) -> Ask {
    Ask { address: frontend.address, port: frontend.port, protocol: frontend.protocol }
}

fn chosen(answer: Answer) -> Option<u32> {
    match answer {
        Answer::To(choice) => Some(choice.slot.counter),
        _ => None,
    }
}

/// kp:E1 kp:E2: what is remembered is renewed by each connection, and ends with its time.
#[test]
fn a_client_keeps_its_endpoint_for_its_time_after_its_last_connection() {
    let mut memory = Memory::default();
    let web = at(1, 80, HERE);
    let row = Row { affinity: 7, seconds: 10, ..Row::default() };
    memory.put(web, row, &[endpoint(1), endpoint(2), endpoint(3)]);
    let mut seen = Vec::new();
    for second in [0_u64, 9, 18, 27, 38] {
        memory.now.set(second * NANOSECONDS);
        seen.push(chosen(select(&memory, &ask(&web))).unwrap());
    }
    assert_eq!(seen, [1, 1, 1, 1, 2]);
    memory.namespace.set(POD);
    assert_eq!(chosen(select(&memory, &ask(&web))), Some(3), "another client has its own");
}

/// kp:E3
#[test]
fn a_client_whose_endpoint_is_gone_gets_another_and_keeps_that() {
    let mut memory = Memory::default();
    let web = at(1, 80, HERE);
    let row = Row { affinity: 7, seconds: 10, ..Row::default() };
    memory.put(web, row, &[endpoint(1), endpoint(2)]);
    assert_eq!(chosen(select(&memory, &ask(&web))), Some(1));
    memory.put(web, row, &[endpoint(2), endpoint(1), endpoint(3)]);
    assert_eq!(chosen(select(&memory, &ask(&web))), Some(1), "it only moved");
    memory.put(web, row, &[endpoint(3)]);
    assert_eq!(chosen(select(&memory, &ask(&web))), Some(3));
    memory.put(web, row, &[endpoint(1), endpoint(3)]);
    assert_eq!(chosen(select(&memory, &ask(&web))), Some(3));
    memory.epoch += 1;
    let Answer::To(choice) = select(&memory, &ask(&web)) else { panic!("it has endpoints") };
    assert!(choice.kept && choice.slot.counter == 3, "other maps know the same endpoint");
}

#[test]
fn a_datagram_goes_where_the_one_before_went_while_the_frontend_has_it() {
    let mut memory = Memory::default();
    let dns = Frontend { protocol: UDP, ..at(1, 53, HERE) };
    memory.put(dns, Row::default(), &[endpoint(1), endpoint(2)]);
    let Answer::To(first) = select(&memory, &ask(&dns)) else { panic!("it has endpoints") };
    for _ in 0..4 {
        assert_eq!(again(&memory, &ask(&dns), &first), Answer::To(first));
    }
    memory.put(dns, Row::default(), &[endpoint(2), endpoint(1)]);
    let Answer::To(moved) = again(&memory, &ask(&dns), &first) else { panic!("it has endpoints") };
    assert!(moved.slot == first.slot && moved.stamp != first.stamp);
    memory.put(dns, Row::default(), &[endpoint(2)]);
    assert_eq!(chosen(again(&memory, &ask(&dns), &moved)), Some(2));
    memory.put(dns, Row { flags: REFUSES, ..Row::default() }, &[]);
    assert_eq!(again(&memory, &ask(&dns), &moved), Answer::Refuse(moved.stamp.row));
    memory.frontends.clear();
    memory.rows.clear();
    assert_eq!(again(&memory, &ask(&dns), &moved), Answer::Pass);
}

#[test]
fn a_node_port_is_served_on_addresses_of_the_node_and_nowhere_else() {
    let mut memory = Memory::default();
    memory.put(at(0, 30_080, NODE_V4), Row::default(), &[endpoint(1)]);
    memory.ports.insert((TCP, 30_080_u16.to_be()));
    let node = mapped(u32::from_ne_bytes([192, 168, 0, 11]));
    memory.addresses.insert(node);
    let to = |address, port: u16, protocol| Ask { address, port: port.to_be(), protocol };
    assert_eq!(chosen(select(&memory, &to(node, 30_080, TCP))), Some(1));
    assert_eq!(select(&memory, &to(node, 30_080, UDP)), Answer::Pass);
    assert_eq!(select(&memory, &to(node, 30_081, TCP)), Answer::Pass);
    assert_eq!(select(&memory, &to(mapped(1), 30_080, TCP)), Answer::Pass);
    // The port is that of IPv4 alone.
    memory.addresses.insert([1, 2, 3, 4]);
    assert_eq!(select(&memory, &to([1, 2, 3, 4], 30_080, TCP)), Answer::Pass);
    // An address of its own comes first.
    memory.put(Frontend { address: node, ..at(0, 30_080, HERE) }, Row::default(), &[endpoint(2)]);
    assert_eq!(chosen(select(&memory, &to(node, 30_080, TCP))), Some(2));
}

#[test]
fn what_is_not_for_pods_is_left_to_their_packets() {
    let mut memory = Memory::default();
    let web = at(1, 80, HERE);
    memory.put(web, Row { flags: NOT_FOR_PODS, ..Row::default() }, &[endpoint(1)]);
    memory.namespace.set(POD);
    assert_eq!(select(&memory, &ask(&web)), Answer::Pass);
    memory.namespace.set(NODE);
    assert_eq!(chosen(select(&memory, &ask(&web))), Some(1));
}

#[test]
fn who_is_left_out_gets_no_answer_of_any_kind_and_nothing_is_remembered_of_it() {
    let mut memory = Memory::default();
    let (sticky, refused) = (at(1, 80, HERE), at(2, 80, HERE));
    memory.put(sticky, Row { affinity: 7, seconds: 10, ..Row::default() }, &[endpoint(1)]);
    memory.put(refused, Row { flags: REFUSES, ..Row::default() }, &[]);
    memory.left_out.insert(POD);
    memory.namespace.set(POD);
    for frontend in [&sticky, &refused] {
        assert_eq!(select(&memory, &ask(frontend)), Answer::Pass);
    }
    assert!(memory.kept.borrow().is_empty());
    memory.namespace.set(NODE);
    assert_eq!(chosen(select(&memory, &ask(&sticky))), Some(1));
    assert_eq!(select(&memory, &ask(&refused)), Answer::Refuse(1));
}

/// The list that it was chosen from still stands, which else is reason enough.
#[test]
fn the_next_datagram_of_who_is_left_out_passes_and_follows_when_it_is_served_again() {
    let mut memory = Memory::default();
    let dns = Frontend { protocol: UDP, ..at(1, 53, HERE) };
    memory.put(dns, Row::default(), &[endpoint(1)]);
    memory.namespace.set(POD);
    let Answer::To(first) = select(&memory, &ask(&dns)) else { panic!("it has endpoints") };
    memory.left_out.insert(POD);
    assert_eq!(again(&memory, &ask(&dns), &first), Answer::Pass);
    memory.left_out.clear();
    assert_eq!(again(&memory, &ask(&dns), &first), Answer::To(first));
}

#[test]
fn while_nobody_is_left_out_nobody_is_asked_who() {
    let mut memory = Memory::default();
    let web = at(1, 80, HERE);
    memory.put(web, Row::default(), &[endpoint(1)]);
    let Answer::To(first) = select(&memory, &ask(&web)) else { panic!("it has endpoints") };
    again(&memory, &ask(&web), &first);
    assert_eq!(memory.asked_who.get(), 0);
    memory.left_out.insert(POD);
    again(&memory, &ask(&web), &first);
    // Nor for what is no Service's.
    select(&memory, &ask(&at(9, 80, HERE)));
    assert_eq!(memory.asked_who.get(), 1);
}

proptest! {
    /// Every endpoint of the list, and nothing but those, with the same chance: counted out over all numbers.
    #[test]
    fn each_endpoint_has_its_share(count in 0_u8..40, refuses in any::<bool>(), start in any::<u32>()) {
        let mut memory = Memory::default();
        let web = at(1, 80, HERE);
        memory.put(at(2, 80, HERE), Row::default(), &[endpoint(200)]);
        let endpoints: Vec<Slot> = (0..count).map(endpoint).collect();
        let flags = if refuses { REFUSES } else { 0 };
        memory.put(web, Row { flags, ..Row::default() }, &endpoints);
        memory.random.set(start & 0x7fff_ffff);
        let mut seen = BTreeMap::new();
        for _ in 0..usize::from(count) * 3 {
            *seen.entry(chosen(select(&memory, &ask(&web)))).or_insert(0) += 1;
        }
        let expected: BTreeMap<_, _> = (0..count).map(|i| (Some(u32::from(i)), 3)).collect();
        prop_assert_eq!(seen, expected);
        if count == 0 {
            let answer = if refuses { Answer::Refuse(1) } else { Answer::Pass };
            prop_assert_eq!(select(&memory, &ask(&web)), answer);
        }
    }

    /// What is neither TCP nor UDP is nobody's.
    #[test]
    fn other_protocols_pass(protocol in any::<u8>()) {
        prop_assume!(protocol != TCP && protocol != UDP);
        let mut memory = Memory::default();
        let web = at(1, 80, HERE);
        memory.put(web, Row::default(), &[endpoint(1)]);
        prop_assert_eq!(select(&memory, &Ask { protocol, ..ask(&web) }), Answer::Pass);
    }
}
