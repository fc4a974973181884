//! What the kernel refuses: the fake refuses the same, and the operation is named.

use super::{NAME, address, difference, full_table, in_namespace, make, range};
use heddle_netlink::nft::{
    self, Cells, Data, Field, Hook, HookKind, Op, Statement, Table, TableFamily, Transaction, commit, load,
};
use heddle_netlink::{Errno, Family, Socket};
use proptest::prelude::*;

/// Operations on the full IPv4 table, and what the kernel says.
#[expect(clippy::too_many_lines, reason = "a list of equals")]
fn cases() -> Vec<(Vec<Op>, Result<(), Errno>)> {
    let family = TableFamily::Ip;
    let table = full_table(family);
    let (_, ip) = address(family);
    let key = Cells::default().address(ip).protocol(6).port(80);
    let other = Cells::default().address(ip).protocol(17).port(80);
    let (low, high) = range(family);
    // A range of ports, and of addresses.
    let between = |first, last| {
        let at = |port, end| Cells::default().address(ip).protocol(6).port(port).address(end);
        Op::AddElement("sources".into(), at(first, low), Data::Until(at(last, high)))
    };
    let base = table.chains["prerouting"].hook;
    let filter = Some(Hook { kind: HookKind::Filter, ..base.unwrap() });
    vec![
        (vec![Op::AddTable], Ok(())),
        (vec![Op::AddElement("services".into(), key, Data::Goto("n3".into()))], Ok(())),
        (vec![Op::AddElement("services".into(), other, Data::Goto("n4".into()))], Err(Errno::NOENT)),
        (
            vec![Op::AddElement("services".into(), other, Data::Goto("prerouting".into()))],
            Err(Errno::OPNOTSUPP),
        ),
        (vec![Op::AddElement("nothing".into(), key, Data::None)], Err(Errno::NOENT)),
        (vec![Op::AddElement("services".into(), other, Data::None)], Err(Errno::INVAL)),
        (
            vec![Op::AddElement(
                "endpoints".into(),
                key.slot(0),
                Data::Cells(Cells::default().address(ip).port(9)),
            )],
            Err(Errno::EXIST),
        ),
        (vec![Op::DeleteElement("services".into(), other, Data::None)], Err(Errno::NOENT)),
        (vec![Op::DeleteChain("n3".into())], Err(Errno::BUSY)),
        (
            vec![
                Op::DeleteElement("services".into(), key, Data::None),
                Op::DeleteElement("node-ports".into(), key, Data::None),
                Op::DeleteChain("n3".into()),
            ],
            Ok(()),
        ),
        (vec![Op::DeleteElement("sources".into(), key.address(ip), Data::Until(key.address(ip)))], Ok(())),
        (vec![Op::AddElement("sources".into(), key.address(low), Data::Until(key.address(high)))], Ok(())),
        (
            vec![Op::AddElement("sources".into(), key.address(low), Data::Until(key.address(low)))],
            Err(Errno::EXIST),
        ),
        (
            vec![Op::AddElement("sources".into(), key.address(high), Data::Until(key.address(high)))],
            Err(Errno::EXIST),
        ),
        (
            vec![Op::AddElement("sources".into(), other.address(low), Data::Until(other.address(high)))],
            Ok(()),
        ),
        (
            vec![Op::AddElement(
                "sources".into(),
                key.address([192, 0, 0, 0].into()),
                Data::Until(key.address(high)),
            )],
            Err(Errno::EXIST),
        ),
        (vec![between(81, 90)], Ok(())),
        (vec![between(79, 80)], Err(Errno::EXIST)),
        (vec![Op::AddRule("forward".into(), vec![Statement::Goto("n3".into())])], Err(Errno::OPNOTSUPP)),
        (
            vec![
                Op::AddChain("n4".into(), None),
                Op::AddRule("forward".into(), vec![Statement::Goto("n4".into())]),
            ],
            Ok(()),
        ),
        (
            vec![
                Op::AddChain("n4".into(), None),
                Op::AddRule("forward".into(), vec![Statement::Goto("n4".into())]),
                Op::DeleteChain("n4".into()),
            ],
            Err(Errno::BUSY),
        ),
        (vec![Op::AddRule("forward".into(), vec![Statement::Goto("n9".into())])], Err(Errno::NOENT)),
        (vec![Op::DeleteChain("n9".into())], Err(Errno::NOENT)),
        (vec![Op::FlushChain("n9".into())], Err(Errno::NOENT)),
        (vec![Op::FlushChain("n3".into())], Ok(())),
        (vec![Op::DeleteSet("hairpin".into())], Err(Errno::BUSY)),
        (vec![Op::AddRule("n9".into(), vec![Statement::Reject])], Err(Errno::NOENT)),
        (
            vec![Op::AddRule("n3".into(), vec![Statement::Vmap(vec![Field::Daddr], "none".into())])],
            Err(Errno::NOENT),
        ),
        (vec![Op::AddSet("services".into(), table.sets["hairpin"].kind.clone())], Err(Errno::EXIST)),
        (vec![Op::AddChain("prerouting".into(), base)], Ok(())),
        (vec![Op::AddChain("prerouting".into(), filter)], Err(Errno::EXIST)),
        (vec![Op::AddChain("forward".into(), None), Op::DeleteTable, Op::AddTable], Ok(())),
        (vec![Op::DeleteTable, Op::FlushChain("n3".into())], Err(Errno::NOENT)),
    ]
}

#[test]
fn the_kernel_and_the_fake_refuse_the_same_operations_with_the_same_error() {
    let family = TableFamily::Ip;
    let table = full_table(family);
    for (ops, expected) in cases() {
        let have = table.clone();
        in_namespace(move || {
            let mut socket = Socket::open(Family::Netfilter).unwrap();
            commit(&mut socket, &make(&have)).unwrap();
            let transaction =
                Transaction { ops: ops.clone(), ..Transaction::new(family, NAME.into(), "a test") };
            let fake = Table::after(Some(&have), &transaction);
            let real = commit(&mut socket, &transaction);
            let real_errno = real.map_err(|e| e.source.errno().unwrap());
            assert_eq!(real_errno, expected, "kernel, {transaction}");
            assert_eq!(fake.as_ref().map(|_| ()).map_err(|r| r.errno), expected, "fake, {transaction}");
            let left = fake.unwrap_or(Some(have));
            let kernel = load(&mut socket, family, NAME).unwrap();
            assert_eq!(difference(kernel.as_ref(), left.as_ref()), [""; 0], "{transaction}");
        });
    }
}

#[test]
fn a_refusal_names_the_operation() {
    in_namespace(|| {
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        let mut transaction = make(&full_table(TableFamily::Ip));
        transaction.ops.push(Op::FlushChain("n9".into()));
        let error = commit(&mut socket, &transaction).unwrap_err();
        let last = transaction.ops.len() - 1;
        let [refused] = &error.refused[..] else { panic!("{error}") };
        assert_eq!((&refused.ops, &*refused.first), (&(last..last + 1), &Op::FlushChain("n9".into())));
        assert_eq!(load(&mut socket, TableFamily::Ip, NAME).unwrap(), None, "nothing of it was applied");
    });
}

#[test]
fn every_refused_element_is_named_when_each_has_its_own_message() {
    in_namespace(|| {
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        let table = full_table(TableFamily::Ip);
        let mut transaction = make(&table);
        let endpoints: Vec<usize> = (0..transaction.ops.len())
            .filter(|i| matches!(&transaction.ops[*i], Op::AddElement(set, ..) if &**set == "endpoints"))
            .collect();
        let bad = [endpoints[3], endpoints[7], endpoints[700]];
        for at in bad {
            let Op::AddElement(_, _, data) = &mut transaction.ops[at] else { unreachable!() };
            *data = Data::Cells(Cells::default().address("fd00::1".parse().unwrap()).port(80));
        }
        let refused = |error: nft::CommitError| -> Vec<_> {
            error.refused.into_iter().map(|r| (r.ops, r.why.errno)).collect()
        };
        let start = endpoints[0];
        let messages = [(start..start + 500, Errno::INVAL), (start + 500..start + 1000, Errno::INVAL)];
        assert_eq!(refused(commit(&mut socket, &transaction).unwrap_err()), messages);
        transaction.singly = messages.map(|(ops, _)| ops).into();
        let alone = bad.map(|at| (at..at + 1, Errno::INVAL));
        assert_eq!(refused(commit(&mut socket, &transaction).unwrap_err()), alone);
    });
}

/// Small random transactions over a small set of names, most of them refused somewhere.
fn operation() -> impl Strategy<Value = Op> {
    let chain = prop::sample::select(vec!["n3", "n4", "prerouting"]);
    let slot = 1198..1203_u32;
    let (_, ip) = address(TableFamily::Ip);
    let key = Cells::default().address(ip).protocol(6).port(80);
    let datum = move |port| Data::Cells(Cells::default().address(ip).port(port));
    prop_oneof![
        chain.clone().prop_map(|c| Op::AddChain(c.into(), None)),
        chain.clone().prop_map(|c| Op::DeleteChain(c.into())),
        chain.clone().prop_map(|c| Op::FlushChain(c.into())),
        chain.clone().prop_map(|c| Op::AddRule(c.into(), vec![Statement::Masquerade])),
        (chain, 80..82_u16).prop_map(move |(c, port)| {
            let key = Cells::default().address(ip).protocol(6).port(port);
            Op::AddElement("services".into(), key, Data::Goto(c.into()))
        }),
        (80..82_u16).prop_map(move |port| {
            Op::DeleteElement(
                "services".into(),
                Cells::default().address(ip).protocol(6).port(port),
                Data::None,
            )
        }),
        (slot.clone(), 1199..1201_u16).prop_map(move |(s, port)| Op::AddElement(
            "endpoints".into(),
            key.slot(s),
            datum(port)
        )),
        slot.prop_map(move |s| Op::DeleteElement("endpoints".into(), key.slot(s), Data::None)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_transaction_ends_alike_on_the_kernel_and_on_the_fake(ops in prop::collection::vec(operation(), 1..5)) {
        let (kernel, fake) = in_namespace(move || {
            let mut socket = Socket::open(Family::Netfilter).unwrap();
            let have = full_table(TableFamily::Ip);
            commit(&mut socket, &make(&have)).unwrap();
            let transaction = Transaction { ops, ..Transaction::new(TableFamily::Ip, NAME.into(), "a test") };
            let fake = Table::after(Some(&have), &transaction);
            let real = commit(&mut socket, &transaction);
            assert_eq!(real.is_ok(), fake.is_ok(), "{real:?} {fake:?} {transaction}");
            (load(&mut socket, TableFamily::Ip, NAME).unwrap(), fake.unwrap_or(Some(have)))
        });
        prop_assert_eq!(difference(kernel.as_ref(), fake.as_ref()), Vec::<String>::new());
    }
}
