//! Tables on the real kernel, each test in a network namespace of its own that goes with its thread.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "nft/refused.rs"]
mod refused;
#[path = "nft/sent.rs"]
mod sent;

use heddle_netlink::Protocol;
use heddle_netlink::nft::{
    Cells, Chain, Data, DataType, End, Field, Hook, HookKind, HookPoint, Op, Policy, Sense, Set, SetType,
    Statement, Table, TableFamily, Transaction, Type,
};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;

const NAME: &str = "heddle-test";

/// Runs a test on a thread in a fresh network namespace. The namespace is gone when the thread is.
fn in_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        #[expect(
            unsafe_code,
            reason = "only this thread, which shares no file descriptors, leaves the namespace"
        )]
        // SAFETY: NEWNET does not unshare the file descriptor table.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        test()
    });
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn address(family: TableFamily) -> (Type, std::net::IpAddr) {
    match family {
        TableFamily::Ip => (Type::Ipv4Addr, [10, 96, 0, 10].into()),
        TableFamily::Ip6 => (Type::Ipv6Addr, [0xfd00, 0x96, 0, 0, 0, 0, 0, 10].into()),
    }
}

/// The first and last address of a network.
fn range(family: TableFamily) -> (std::net::IpAddr, std::net::IpAddr) {
    match family {
        TableFamily::Ip => ([192, 168, 0, 0].into(), [192, 168, 255, 255].into()),
        TableFamily::Ip6 => {
            let last = [0xfd01, 0, 0, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff];
            ([0xfd01, 0, 0, 0, 0, 0, 0, 0].into(), last.into())
        }
    }
}

/// Rules with every other statement that a filter chain can have.
fn matches(family: TableFamily, fields: &[Field]) -> Vec<Vec<Statement>> {
    let network = IpNetwork::new(range(family).0, 20).unwrap();
    let source = [fields, &[Field::Saddr]].concat();
    vec![
        vec![Statement::StateNew, Statement::NotInSet(source, "sources".into()), Statement::Drop],
        vec![
            Statement::Address(End::Source, Sense::Is, network),
            Statement::Local(End::Destination, Sense::IsNot),
            Statement::Drop,
        ],
        vec![
            Statement::Address(End::Destination, Sense::IsNot, address(family).1.into()),
            Statement::SetLabel(127),
        ],
        vec![Statement::HasLabel(127), Statement::Local(End::Source, Sense::Is), Statement::Reject],
        vec![
            Statement::Iif(Sense::Is, "cni0".into()),
            Statement::Iif(Sense::IsNot, "veth*".into()),
            Statement::Drop,
        ],
        vec![
            Statement::Port(Protocol::Sctp, 65535),
            Statement::NotInSet(vec![Field::Saddr], "nodes".into()),
            Statement::Drop,
        ],
    ]
}

/// A table with every kind of thing in it.
#[expect(clippy::too_many_lines, reason = "a list of equals")]
fn full_table(family: TableFamily) -> Table {
    let (kind, ip) = address(family);
    let (low, high) = range(family);
    let key = Cells::default().address(ip).protocol(6).port(80);
    let fields = vec![Field::Daddr, Field::L4Proto, Field::Dport];
    let key_types = vec![kind, Type::InetProto, Type::InetService];
    let set = |key: &[Type], data, elements: Vec<(Cells, Data)>| Set {
        kind: SetType {
            key: key.to_vec(),
            data,
            dynamic: None,
            counted: false,
            comment: "for people".into(),
        },
        elements: elements.into_iter().collect(),
    };
    let mut counted = set(&key_types, DataType::Verdict, vec![(key, Data::Goto("n3".into()))]);
    counted.kind.counted = true;
    let hook = |kind, point| Some(Hook { kind, point, priority: -100, policy: Policy::Accept });
    let mut table = Table::new(family, NAME);
    let slot_types = [&key_types[..], &[Type::Slot]].concat();
    let endpoints = (0..1200).map(|i| {
        (key.slot(i), Data::Cells(Cells::default().address(ip).port(u16::try_from(i).unwrap() + 1)))
    });
    table.sets = BTreeMap::from([
        ("node-ports".into(), counted),
        ("services".into(), set(&key_types, DataType::Verdict, vec![(key, Data::Goto("n3".into()))])),
        (
            "endpoints".into(),
            set(&slot_types, DataType::Cells(vec![kind, Type::InetService]), endpoints.collect()),
        ),
        (
            "sources".into(),
            set(
                &[&key_types[..], &[kind]].concat(),
                DataType::Ranges,
                vec![
                    (key.address(ip), Data::Until(key.address(ip))),
                    (key.address(low), Data::Until(key.address(high))),
                ],
            ),
        ),
        (
            "ids".into(),
            set(
                &key_types,
                DataType::Cells(vec![Type::Mark]),
                vec![(key, Data::Cells(Cells::default().mark(0x1234_5678)))],
            ),
        ),
        ("clients".into(), {
            let mut clients = set(
                &[kind, Type::InetProto, Type::Mark],
                DataType::Cells(vec![kind, Type::InetService]),
                vec![],
            );
            clients.kind.dynamic = Some(65_536);
            clients
        }),
        ("nodes".into(), set(&[kind], DataType::None, vec![(Cells::default().address(ip), Data::None)])),
        (
            "hairpin".into(),
            set(&[kind, kind], DataType::None, vec![(Cells::default().address(ip).address(ip), Data::None)]),
        ),
    ]);
    let slots = [&fields[..], &[Field::Random(3)]].concat();
    let chain = |hook, rules| Chain { hook, rules };
    let client = vec![Field::Saddr, Field::L4Proto, Field::CtMark];
    let endpoint = vec![Field::Daddr, Field::Dport];
    let sticky = vec![
        vec![Statement::SetCtMark(fields.clone(), "ids".into())],
        vec![Statement::Dnat(client.clone(), "clients".into())],
    ];
    let remember = vec![vec![Statement::Remember(client, endpoint, "clients".into(), 10_800)]];
    let raw = |point| {
        let hook = Hook { kind: HookKind::Filter, point, priority: -300, policy: Policy::Accept };
        chain(Some(hook), vec![vec![Statement::Port(Protocol::Udp, 4789), Statement::Notrack]])
    };
    let mut forward = vec![vec![Statement::StateNew, Statement::Reject]];
    forward.extend(matches(family, &fields));
    table.chains = BTreeMap::from([
        ("sticky".into(), chain(None, sticky)),
        ("remember".into(), chain(None, remember)),
        ("n3".into(), chain(None, vec![vec![Statement::Dnat(slots, "endpoints".into())]])),
        (
            "prerouting".into(),
            chain(
                hook(HookKind::Nat, HookPoint::Prerouting),
                vec![vec![Statement::Vmap(fields, "services".into())]],
            ),
        ),
        (
            "postrouting".into(),
            chain(
                hook(HookKind::Nat, HookPoint::Postrouting),
                vec![vec![
                    Statement::StatusDnat,
                    Statement::InSet(vec![Field::Saddr, Field::Daddr], "hairpin".into()),
                    Statement::Masquerade,
                ]],
            ),
        ),
        ("forward".into(), chain(hook(HookKind::Filter, HookPoint::Forward), forward)),
        ("raw-prerouting".into(), raw(HookPoint::Prerouting)),
        ("raw-output".into(), raw(HookPoint::Output)),
    ]);
    table
}

/// Compares two tables by what one line says and the other does not: a whole table is too long to read.
fn difference(left: Option<&Table>, right: Option<&Table>) -> Vec<String> {
    let lines = |table: Option<&Table>| table.map(|t| format!("{t}")).unwrap_or_default();
    let (left_text, right_text) = (lines(left), lines(right));
    let only = |sign: &str, a: &str, b: &str| -> Vec<String> {
        a.lines().filter(|l| !b.contains(*l)).map(|l| format!("{sign}{l}")).take(9).collect()
    };
    let mut found = only("-", &left_text, &right_text);
    found.extend(only("+", &right_text, &left_text));
    if found.is_empty() && left != right {
        found.push("they print alike and differ".to_owned());
    }
    found
}

fn make(table: &Table) -> Transaction {
    let mut transaction = Transaction::new(table.family, table.name.clone(), "a test");
    let ops = &mut transaction.ops;
    ops.push(Op::AddTable);
    for (name, set) in &table.sets {
        ops.push(Op::AddSet(name.clone(), set.kind.clone()));
    }
    for (name, chain) in &table.chains {
        ops.push(Op::AddChain(name.clone(), chain.hook));
        ops.extend(chain.rules.iter().map(|rule| Op::AddRule(name.clone(), rule.clone())));
    }
    for (name, set) in &table.sets {
        ops.extend(set.elements.iter().map(|(k, d)| Op::AddElement(name.clone(), k, d)));
    }
    transaction
}
