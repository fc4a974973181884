use super::{Fault, Passage, evaluate};
use crate::model::Protocol;
use crate::packet::{Outcome, Packet};
use heddle_netlink::nft::{
    Cells, Chain, Data, DataType, End, Field, Hook, HookKind, HookPoint, Policy, Rule, Sense, Set, SetType,
    Statement, Table, TableFamily, Type,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

const HOST: &str = "192.168.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn base(kind: HookKind, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(Hook { kind, point, priority, policy: Policy::Accept }), rules }
}

fn set(key: &[Type], data: DataType, elements: Vec<(Cells, Data)>) -> Set {
    let kind = SetType { key: key.to_vec(), data, dynamic: None, counted: false, comment: "".into() };
    Set { kind, elements: elements.into_iter().collect() }
}

/// A table that sends TCP to 10.0.0.1 to one of two endpoints, by a draw.
fn table() -> Table {
    let mut table = Table::new(TableFamily::Ip, "test");
    let endpoint = |address, port| Data::Cells(Cells::default().address(ip(address)).port(port));
    let slot = |n| Cells::default().address(ip("10.0.0.1")).slot(n);
    table.sets = [
        (
            "services".into(),
            set(
                &[Type::Ipv4Addr, Type::InetService],
                DataType::Verdict,
                vec![(Cells::default().address(ip("10.0.0.1")).port(80), Data::Goto("two".into()))],
            ),
        ),
        (
            "endpoints".into(),
            set(
                &[Type::Ipv4Addr, Type::Slot],
                DataType::Cells(vec![Type::Ipv4Addr, Type::InetService]),
                vec![(slot(0), endpoint("10.1.0.1", 8080)), (slot(1), endpoint(HOST, 8081))],
            ),
        ),
        (
            "refused".into(),
            set(
                &[Type::Ipv4Addr],
                DataType::None,
                vec![(Cells::default().address(ip("10.0.0.9")), Data::None)],
            ),
        ),
    ]
    .into();
    let two = vec![vec![Statement::Dnat(vec![Field::Daddr, Field::Random(2)], "endpoints".into())]];
    table.chains = [("two".into(), Chain { hook: None, rules: two })].into();
    table
}

fn to_services() -> Rule {
    vec![Statement::Vmap(vec![Field::Daddr, Field::Dport], "services".into())]
}

fn refused() -> Rule {
    vec![Statement::StateNew, Statement::InSet(vec![Field::Daddr], "refused".into()), Statement::Reject]
}

fn with(chains: impl IntoIterator<Item = (&'static str, Chain)>) -> Table {
    let mut table = table();
    table.chains.extend(chains.into_iter().map(|(name, chain)| (name.into(), chain)));
    table
}

fn packet(in_interface: Option<&str>, destination: &str) -> Packet {
    Packet {
        source: ip("172.16.0.9"),
        in_interface: in_interface.map(Into::into),
        destination: ip(destination),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

fn pass<'a>(tables: &'a [Table], packet: &Packet, draw: u32) -> Result<Passage<'a>, Fault> {
    static ADDRESSES: LazyLock<BTreeSet<IpAddr>> = LazyLock::new(|| BTreeSet::from([ip(HOST)]));
    evaluate(tables, &ADDRESSES, packet, draw)
}

fn outcome(tables: &[Table], packet: &Packet) -> Outcome {
    pass(tables, packet, 0).unwrap().outcome
}

fn endpoint(address: &str, port: u16, source_kept: bool) -> Outcome {
    Outcome::Endpoint { address: ip(address), port, source_kept }
}

#[test]
fn a_draw_chooses_the_slot() {
    let tables = [with([("pre", base(HookKind::Nat, HookPoint::Prerouting, -100, vec![to_services()]))])];
    let to = |draw| pass(&tables, &packet(Some("eth0"), "10.0.0.1"), draw).unwrap().outcome;
    assert_eq!(to(0), endpoint("10.1.0.1", 8080, true));
    assert_eq!(to(1), endpoint(HOST, 8081, true));
    assert_eq!(to(2), to(0));
    assert!(pass(&tables, &packet(Some("eth0"), "10.0.0.1"), 0).unwrap().choices > 1);
    assert_eq!(pass(&tables, &packet(Some("eth0"), "10.0.0.2"), 0).unwrap().choices, 1);
}

#[test]
fn the_path_names_the_rules_that_did_something() {
    let rules = vec![vec![Statement::StatusDnat, Statement::Reject], to_services()];
    let tables = [with([("pre", base(HookKind::Nat, HookPoint::Prerouting, -100, rules))])];
    assert_eq!(
        pass(&tables, &packet(Some("eth0"), "10.0.0.1"), 0).unwrap().told(),
        [
            "pre: ip daddr . th dport vmap @services",
            "two: dnat ip to ip daddr . numgen random mod 2 map @endpoints"
        ]
    );
}

#[test]
fn a_map_without_the_element_falls_through_to_the_next_rule() {
    let rules = vec![to_services(), vec![Statement::Reject]];
    let tables = [with([("pre", base(HookKind::Filter, HookPoint::Prerouting, 0, rules))])];
    assert_eq!(outcome(&tables, &packet(Some("eth0"), "10.0.0.2")), Outcome::Reject);
}

#[test]
fn the_end_of_a_chain_that_was_gone_to_is_the_end_of_its_base_chain() {
    let mut table = with([("pre", base(HookKind::Nat, HookPoint::Prerouting, -100, vec![to_services()]))]);
    table.chains.get_mut("two").unwrap().rules.clear();
    table.chains.get_mut("pre").unwrap().rules.push(vec![Statement::Reject]);
    assert_eq!(outcome(&[table.clone()], &packet(Some("eth0"), "10.0.0.1")), Outcome::Untouched);
    table.chains.get_mut("pre").unwrap().hook.as_mut().unwrap().policy = Policy::Drop;
    assert_eq!(outcome(&[table], &packet(Some("eth0"), "10.0.0.1")), Outcome::Drop);
}

#[test]
fn an_accepted_packet_still_meets_the_other_base_chains_of_its_hook() {
    let nat = || base(HookKind::Nat, HookPoint::Prerouting, -100, vec![to_services()]);
    let filter = |priority| base(HookKind::Filter, HookPoint::Prerouting, priority, vec![refused()]);
    let to_refused = packet(Some("eth0"), "10.0.0.9");
    assert_eq!(outcome(&[with([("pre", nat()), ("late", filter(0))])], &to_refused), Outcome::Reject);
    let mut table = with([("pre", nat()), ("late", filter(0))]);
    let element = (Cells::default().address(ip("10.1.0.1")), Data::None);
    table.sets.get_mut("refused").unwrap().elements.extend([element]);
    let translated = packet(Some("eth0"), "10.0.0.1");
    assert_eq!(outcome(&[table.clone()], &translated), Outcome::Reject, "sees the new destination");
    table.chains.insert("late".into(), filter(-110));
    assert_eq!(outcome(&[table], &translated), endpoint("10.1.0.1", 8080, true), "comes before it");
}

#[test]
fn a_translated_packet_skips_the_nat_chains_that_follow() {
    let nat = |priority| base(HookKind::Nat, HookPoint::Prerouting, priority, vec![vec![Statement::Reject]]);
    let mut table = with([("pre", base(HookKind::Nat, HookPoint::Prerouting, -100, vec![to_services()]))]);
    table.chains.insert("later".into(), nat(-90));
    assert_eq!(outcome(&[table], &packet(Some("eth0"), "10.0.0.1")), endpoint("10.1.0.1", 8080, true));
}

#[test]
fn routing_after_the_translation_chooses_input_or_forward() {
    let table = with([
        ("pre", base(HookKind::Nat, HookPoint::Prerouting, -100, vec![to_services()])),
        ("in", base(HookKind::Filter, HookPoint::Input, 0, vec![vec![Statement::Reject]])),
        ("post", base(HookKind::Nat, HookPoint::Postrouting, 100, vec![vec![Statement::Masquerade]])),
    ]);
    let to =
        |draw| pass(std::slice::from_ref(&table), &packet(Some("eth0"), "10.0.0.1"), draw).unwrap().outcome;
    assert_eq!(to(0), endpoint("10.1.0.1", 8080, false), "forwarded");
    assert_eq!(to(1), Outcome::Reject, "for the host itself");
}

#[test]
fn what_a_host_sends_to_itself_comes_in_again() {
    let table = with([
        ("out", base(HookKind::Nat, HookPoint::Output, -100, vec![to_services()])),
        ("pre", base(HookKind::Nat, HookPoint::Prerouting, -100, vec![vec![Statement::Reject]])),
        ("in", base(HookKind::Filter, HookPoint::Input, 0, vec![vec![Statement::Reject]])),
    ]);
    let (out, to_itself) = (packet(None, "10.0.0.1"), packet(None, HOST));
    let tables = [table];
    assert_eq!(outcome(&tables, &out), endpoint("10.1.0.1", 8080, true));
    let passage = pass(&tables, &to_itself, 0).unwrap();
    assert_eq!(passage.outcome, Outcome::Reject);
    assert_eq!(passage.told(), ["in: reject"], "its nat was decided on the way out");
}

#[test]
fn tables_of_the_other_family_or_switched_off_do_nothing() {
    let mut table =
        with([("in", base(HookKind::Filter, HookPoint::Forward, 0, vec![vec![Statement::Reject]]))]);
    assert_eq!(outcome(&[table.clone()], &packet(Some("eth0"), "10.0.0.2")), Outcome::Reject);
    assert_eq!(outcome(&[table.clone()], &packet(Some("eth0"), "fd00::2")), Outcome::Untouched);
    table.dormant = true;
    assert_eq!(outcome(&[table], &packet(Some("eth0"), "10.0.0.2")), Outcome::Untouched);
}

#[test]
fn a_packet_that_is_not_tracked_is_the_first_of_nothing() {
    let reject = vec![Statement::StateNew, Statement::Reject];
    let forward = base(HookKind::Filter, HookPoint::Forward, 0, vec![reject]);
    let first = base(HookKind::Filter, HookPoint::Prerouting, -300, vec![vec![Statement::Notrack]]);
    let to = packet(Some("eth0"), "10.0.0.2");
    assert_eq!(outcome(&[with([("in", forward.clone())])], &to), Outcome::Reject);
    assert_eq!(outcome(&[with([("in", forward), ("first", first)])], &to), Outcome::Untouched);
}

#[test]
fn a_table_that_does_not_hold_together_is_a_fault() {
    let fault = |rule: Rule| {
        let table = with([("in", base(HookKind::Filter, HookPoint::Forward, 0, vec![rule]))]);
        pass(&[table], &packet(Some("eth0"), "10.0.0.2"), 0).unwrap_err()
    };
    assert_eq!(fault(vec![Statement::Foreign]), Fault::Foreign { chain: "in".into() });
    let key = vec![Field::Daddr];
    assert_eq!(fault(vec![Statement::InSet(key, "gone".into())]), Fault::NoSet { set: "gone".into() });
    let mut table = with([("in", base(HookKind::Filter, HookPoint::Forward, 0, vec![to_services()]))]);
    let to_services = packet(Some("eth0"), "10.0.0.1");
    table.chains.get_mut("two").unwrap().rules = table.chains["in"].rules.clone();
    let endless = pass(&[table.clone()], &to_services, 0).unwrap_err();
    assert_eq!(endless, Fault::Endless { chain: "two".into() });
    table.chains.remove("two");
    let no_chain = pass(&[table], &to_services, 0).unwrap_err();
    assert_eq!(no_chain, Fault::NoChain { chain: "two".into() });
}

/// Whether a packet to 10.0.0.1 is rejected by a rule with these matches, in a chain that comes first on every way.
fn matches(statements: &[Statement], packet: &Packet) -> bool {
    let rule = || vec![[statements, &[Statement::Reject]].concat()];
    let table = with([
        ("pre", base(HookKind::Filter, HookPoint::Prerouting, -110, rule())),
        ("out", base(HookKind::Filter, HookPoint::Output, -110, rule())),
    ]);
    outcome(&[table], packet) == Outcome::Reject
}

#[test]
fn an_interface_is_matched_by_its_name_or_the_beginning_of_it() {
    let by = |sense, name: &str| [Statement::Iif(sense, name.into())];
    let from_veth = packet(Some("veth12"), "10.0.0.1");
    assert!(matches(&by(Sense::Is, "veth12"), &from_veth));
    assert!(!matches(&by(Sense::Is, "veth1"), &from_veth));
    assert!(matches(&by(Sense::Is, "veth*"), &from_veth));
    assert!(matches(&by(Sense::IsNot, "eth*"), &from_veth));
    assert!(!matches(&by(Sense::Is, "veth*"), &packet(None, "10.0.0.1")), "comes in by nothing");
    assert!(matches(&by(Sense::IsNot, "veth*"), &packet(None, "10.0.0.1")));
}

#[test]
fn addresses_are_matched_by_network_and_by_whose_they_are() {
    let in_network = |end, sense, network: &str| [Statement::Address(end, sense, network.parse().unwrap())];
    let (abroad, home) = (packet(Some("eth0"), "10.0.0.1"), packet(Some("eth0"), HOST));
    assert!(matches(&in_network(End::Source, Sense::Is, "172.16.0.0/24"), &abroad));
    assert!(!matches(&in_network(End::Destination, Sense::Is, "172.16.0.0/24"), &abroad));
    assert!(matches(&in_network(End::Destination, Sense::IsNot, "10.0.0.2/32"), &abroad));
    assert!(matches(&[Statement::Local(End::Destination, Sense::Is)], &home));
    assert!(!matches(&[Statement::Local(End::Destination, Sense::Is)], &abroad));
    assert!(!matches(&[Statement::Local(End::Source, Sense::Is)], &home));
    assert!(matches(&[Statement::Local(End::Destination, Sense::Is)], &packet(Some("eth0"), "127.0.0.2")));
}

#[test]
fn a_port_is_matched_with_its_protocol() {
    let packet = packet(Some("eth0"), "10.0.0.1");
    assert!(matches(&[Statement::Port(Protocol::Tcp, 80)], &packet));
    assert!(!matches(&[Statement::Port(Protocol::Udp, 80)], &packet));
    assert!(!matches(&[Statement::Port(Protocol::Tcp, 81)], &packet));
}

#[test]
fn a_label_stays_with_the_connection() {
    let table = with([
        ("pre", base(HookKind::Filter, HookPoint::Prerouting, 0, vec![vec![Statement::SetLabel(3)]])),
        (
            "forward",
            base(
                HookKind::Filter,
                HookPoint::Forward,
                0,
                vec![
                    vec![Statement::HasLabel(4), Statement::Reject],
                    vec![Statement::HasLabel(3), Statement::Drop],
                ],
            ),
        ),
    ]);
    assert_eq!(outcome(&[table], &packet(Some("eth0"), "10.0.0.2")), Outcome::Drop);
}

#[test]
fn a_set_of_ranges_holds_what_each_cell_says() {
    let mut table = table();
    let key = |address, port| Cells::default().address(ip(address)).port(port);
    let range = (key("10.0.0.1", 80), Data::Until(key("10.0.0.1", 90)));
    table
        .sets
        .insert("ranges".into(), set(&[Type::Ipv4Addr, Type::InetService], DataType::Ranges, vec![range]));
    let statement = Statement::NotInSet(vec![Field::Daddr, Field::Dport], "ranges".into());
    let chain = base(HookKind::Filter, HookPoint::Forward, 0, vec![vec![statement, Statement::Drop]]);
    table.chains.insert("forward".into(), chain);
    let to = |port| {
        let packet = Packet { port, ..packet(Some("eth0"), "10.0.0.1") };
        outcome(std::slice::from_ref(&table), &packet)
    };
    assert_eq!(
        [79, 80, 85, 90, 91].map(to).map(|o| o == Outcome::Untouched),
        [false, true, true, true, false]
    );
}

#[test]
fn what_a_packet_writes_into_a_map_is_told_unless_it_is_there() {
    let mut table = table();
    table.sets.insert(
        "clients".into(),
        set(&[Type::Ipv4Addr], DataType::Cells(vec![Type::Ipv4Addr, Type::InetService]), Vec::new()),
    );
    let (key, data) = (vec![Field::Saddr], vec![Field::Daddr, Field::Dport]);
    let rule = vec![Statement::Remember(key, data, "clients".into(), 60)];
    table.chains.insert("forward".into(), base(HookKind::Filter, HookPoint::Forward, 0, vec![rule]));
    let to = |table: &Table, address| {
        let packet = packet(Some("eth0"), address);
        pass(std::slice::from_ref(table), &packet, 0).unwrap().remembered
    };
    let first = to(&table, "10.0.0.2");
    let client = Cells::default().address(ip("172.16.0.9"));
    let endpoint = Data::Cells(Cells::default().address(ip("10.0.0.2")).port(80));
    assert_eq!(first, [("clients".into(), client, endpoint.clone())]);
    table.sets.get_mut("clients").unwrap().elements.insert(client, &endpoint);
    assert_eq!(to(&table, "10.0.0.3"), []);
}
