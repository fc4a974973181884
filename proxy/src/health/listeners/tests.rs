use super::*;
use crate::nft::settings::NodePortAddresses;

fn checks(list: &[(IpFamily, &str, u16)]) -> BTreeMap<Key, Check> {
    let check = |&(family, name, port): &(IpFamily, &str, u16)| {
        ((family, ObjectName::new("shop", name)), Check { port, local: 0 })
    };
    list.iter().map(check).collect()
}

fn settings(networks: &[&str]) -> Settings {
    let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
    Settings { node_port_addresses: NodePortAddresses::Networks(networks), ..Settings::default() }
}

fn addresses(of_links: &[(&str, u32)]) -> Addresses {
    let of_links = of_links.iter().map(|(ip, link)| (ip.parse().unwrap(), *link)).collect();
    Addresses { of_object: Vec::new(), of_links }
}

/// The listeners as `address service`.
fn listed(checks: &BTreeMap<Key, Check>, settings: &Settings, addresses: &Addresses) -> Vec<String> {
    let wanted = wanted(checks, settings, addresses);
    wanted.iter().map(|l| format!("{} {}", l.address, l.service.name)).collect()
}

const BOTH: &[(IpFamily, &str, u16)] = &[(IpFamily::V4, "web", 30_001), (IpFamily::V6, "web", 30_001)];

/// kp:G6
#[test]
fn where_node_ports_are_on_all_addresses_one_listener_a_family_has_them_all() {
    let here = addresses(&[("10.0.0.1", 2), ("fd00::1", 2)]);
    let all = ["0.0.0.0:30001 web", "[::]:30001 web"];
    assert_eq!(listed(&checks(BOTH), &settings(&[]), &here), all);
    assert_eq!(listed(&checks(BOTH), &settings(&["0.0.0.0/0", "::/0"]), &here), all);
    assert_eq!(listed(&checks(&BOTH[..1]), &settings(&[]), &here), all[..1]);
}

/// kp:G6, kp:P9
#[test]
fn otherwise_each_matching_address_has_its_own_while_it_is_there() {
    let only = settings(&["10.0.0.0/8", "fd00::/8"]);
    let mut here = addresses(&[("10.0.0.1", 2), ("10.1.0.1", 3), ("192.0.2.1", 3), ("fd00::1", 2)]);
    let listed_here = ["10.0.0.1:30001 web", "10.1.0.1:30001 web", "[fd00::1]:30001 web"];
    assert_eq!(listed(&checks(BOTH), &only, &here), listed_here);
    here.of_links.remove(&("10.0.0.1".parse().unwrap(), 2));
    assert_eq!(listed(&checks(BOTH), &only, &here), listed_here[1..]);
    assert!(listed(&checks(BOTH), &only, &addresses(&[])).is_empty());
}

/// kp:G6: an address in the Node object that no link has matches nothing.
#[test]
fn the_primary_address_is_listened_on_if_the_node_has_it() {
    let primary = Settings::default();
    let mut here = addresses(&[("10.0.0.1", 2), ("10.0.0.2", 2), ("fd00::1", 2)]);
    here.of_object = vec!["203.0.113.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(listed(&checks(BOTH), &primary, &here), ["[fd00::1]:30001 web"]);
    here.of_object = vec!["10.0.0.2".parse().unwrap()];
    assert_eq!(listed(&checks(BOTH), &primary, &here), ["10.0.0.2:30001 web", "[::]:30001 web"]);
}

#[test]
fn each_link_local_address_has_a_listener_on_its_link_and_others_have_one() {
    let only = settings(&["fe80::/10", "fd00::/8"]);
    let here = addresses(&[("fe80::1", 2), ("fe80::1", 3), ("fd00::1", 2), ("fd00::1", 3)]);
    let listed = listed(&checks(&BOTH[1..]), &only, &here);
    assert_eq!(listed, ["[fd00::1]:30001 web", "[fe80::1%2]:30001 web", "[fe80::1%3]:30001 web"]);
}

#[test]
fn services_that_claim_one_port_both_want_it() {
    let twice = checks(&[(IpFamily::V4, "one", 30_001), (IpFamily::V4, "two", 30_001)]);
    let listed = listed(&twice, &settings(&[]), &addresses(&[]));
    assert_eq!(listed, ["0.0.0.0:30001 one", "0.0.0.0:30001 two"]);
}
