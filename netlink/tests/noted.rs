//! Elements with notes on the real kernel, each test in a network namespace of its own that goes with its thread.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use heddle_netlink::nft::noted::{Committed, Edit, Noted, commit, generation, load};
use heddle_netlink::nft::{
    self, Cells, Data, DataType, Elements, Op, Set, SetType, Table, TableFamily, Transaction, Type,
};
use heddle_netlink::{Errno, Family, Socket};

const TABLE: &str = "heddle-test";
const SET: &str = "ports";

/// Runs a test on a thread in a fresh network namespace, with an empty map in both families.
fn with_a_map(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        #[expect(
            unsafe_code,
            reason = "only this thread, which shares no file descriptors, leaves the namespace"
        )]
        // SAFETY: NEWNET does not unshare the file descriptor table.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        for family in TableFamily::ALL {
            let ops = vec![Op::AddTable, Op::AddSet(SET.into(), map().kind)];
            nft::commit(&mut socket, &Transaction { ops, ..Transaction::new(family, TABLE.into(), "") })
                .unwrap();
        }
        test(&mut socket);
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn map() -> Set {
    let (key, data) = (vec![Type::InetProto, Type::InetService], DataType::Cells(vec![Type::Ipv4Addr]));
    Set {
        kind: SetType { key, data, dynamic: None, counted: false, comment: "".into() },
        elements: Elements::default(),
    }
}

fn element(port: u16, note: &str) -> Noted {
    let data = Data::Cells(Cells::default().address([10, 0, 0, 2].into()));
    Noted { set: SET.into(), key: Cells::default().protocol(6).port(port), data, note: note.to_owned() }
}

fn edit(family: TableFamily, gone: &[Noted], new: &[Noted]) -> Edit {
    Edit { family, table: TABLE.into(), gone: gone.to_vec(), new: new.to_vec() }
}

fn has(socket: &mut Socket, family: TableFamily) -> Vec<Noted> {
    let mut all = load(socket, family, (TABLE, SET)).unwrap();
    all.sort_by_key(|element| element.key);
    all
}

#[test]
fn notes_are_read_back_and_both_families_change_at_once() {
    with_a_map(|socket| {
        let (mine, theirs) = (element(80, "mine"), element(81, &"x".repeat(127)));
        let edits = TableFamily::ALL.map(|family| edit(family, &[], &[mine.clone(), theirs.clone()]));
        let now = generation(socket).unwrap();
        assert_eq!(commit(socket, now, &edits).unwrap(), Committed::Yes);
        for family in TableFamily::ALL {
            assert_eq!(has(socket, family), [mine.clone(), theirs.clone()]);
        }
        let now = generation(socket).unwrap();
        let edits = [edit(TableFamily::Ip, &[mine], &[]), edit(TableFamily::Ip6, &[theirs], &[])];
        assert_eq!(commit(socket, now, &edits).unwrap(), Committed::Yes);
        let left = TableFamily::ALL.map(|family| has(socket, family)[0].key);
        assert_eq!(left, [element(81, "").key, element(80, "").key]);
    });
}

/// Of two edits that were made from the same reading, one is refused: even when they have nothing in common.
#[test]
fn an_edit_that_was_overtaken_changes_nothing() {
    with_a_map(|socket| {
        let seen = generation(socket).unwrap();
        let (first, second) = (element(80, "first"), element(81, "second"));
        let come = |element: &Noted| [edit(TableFamily::Ip, &[], std::slice::from_ref(element))];
        assert_eq!(commit(socket, seen, &come(&first)).unwrap(), Committed::Yes);
        assert_eq!(commit(socket, seen, &come(&second)).unwrap(), Committed::Overtaken);
        assert_eq!(has(socket, TableFamily::Ip), [first]);
        assert_eq!(
            commit(socket, seen, &[edit(TableFamily::Ip, &[], &[])]).unwrap(),
            Committed::Yes,
            "nothing"
        );
    });
}

#[test]
fn a_key_that_is_there_is_refused_with_the_whole_edit() {
    with_a_map(|socket| {
        let now = generation(socket).unwrap();
        commit(socket, now, &[edit(TableFamily::Ip, &[], &[element(80, "first")])]).unwrap();
        let now = generation(socket).unwrap();
        // The same data: without NLM_F_EXCL the kernel would call it done.
        let both = [element(81, "second"), element(80, "second")];
        let refused = commit(socket, now, &[edit(TableFamily::Ip, &[], &both)]).unwrap_err();
        assert_eq!((refused.errno(), has(socket, TableFamily::Ip).len()), (Some(Errno::EXIST), 1));
    });
}

#[test]
fn what_is_missing_has_no_elements() {
    with_a_map(|socket| {
        assert_eq!(load(socket, TableFamily::Ip, ("none", SET)).unwrap(), []);
        assert_eq!(load(socket, TableFamily::Ip, (TABLE, "none")).unwrap(), []);
        assert_eq!(nft::load_rules(socket, TableFamily::Ip, "none").unwrap().len(), 0);
        let loaded = nft::load(socket, TableFamily::Ip, TABLE).unwrap();
        let wanted = Table { sets: [(SET.into(), map())].into(), ..Table::new(TableFamily::Ip, TABLE) };
        assert_eq!(loaded, Some(wanted));
    });
}
