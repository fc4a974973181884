//! Routes to pods: ours, and what goes before them; and addresses that mean two things. Pure.

use super::check::{Check, list};
use super::facts::Facts;
use crate::cluster::Cluster;
use crate::diff::diff;
use crate::overlay::DEVICE;
use crate::plan::place_of;
use heddle_netlink::address::Address;
use heddle_netlink::route::{Route, TABLE_MAIN};
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;

/// Judges them.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![planned(facts), tunnels(facts), left(facts)];
    checks.extend(others(facts));
    checks.extend(on_links(facts));
    checks.push(services(facts));
    checks.push(tables(facts));
    checks
}

/// What brings ours back.
fn remedy(facts: &Facts) -> &'static str {
    if facts.agent.is_ok() {
        "Look in heddle-node's log: it tries again, and says why."
    } else {
        "Start heddle-node."
    }
}

fn planned(facts: &Facts) -> Check {
    const NAME: &str = "routes";
    let (Some(plan), Ok(seen)) = (facts.plan(), &facts.seen) else {
        return Check::unread(NAME, "Nodes or routes cannot be read");
    };
    let is_there = |route: &Route| seen.ours().any(|ours| ours == route);
    let missing: Vec<_> =
        plan.routes.values().filter(|route| !is_there(route)).map(|route| route.to).collect();
    if missing.is_empty() {
        return Check::ok(NAME, format!("all {} to other nodes' pods are there", plan.routes.len()));
    }
    let found =
        format!("there is no route of ours to {}: those pods are not reached from here.", list(missing));
    Check::failed(NAME, found, remedy(facts))
}

/// The device, whom it knows, and the rules that lead our pods' packets to it.
fn tunnels(facts: &Facts) -> Check {
    const NAME: &str = "tunnels";
    let (Some(plan), Ok(seen)) = (facts.plan(), &facts.seen) else {
        return Check::unread(NAME, "Nodes or routes cannot be read");
    };
    let steps = diff(seen, &plan);
    let is_so = steps.overlay.is_empty() && steps.rules.is_empty() && steps.leaving.is_empty();
    match (&plan.overlay, is_so) {
        (None, true) => Check::not_applicable(NAME, "no node needs VXLAN to be reached"),
        (Some(overlay), true) => {
            let ranges = overlay.neighbours.len();
            Check::ok(NAME, format!("{DEVICE} leads to {ranges} ranges of other nodes"))
        }
        (None, false) => Check::warning(
            NAME,
            format!("{DEVICE} or rules to it are left, and no node needs VXLAN to be reached."),
            remedy(facts),
        ),
        (Some(_), false) => Check::failed(
            NAME,
            format!(
                "{DEVICE}, its neighbours or the rules that lead to it are not as planned: pods behind it are not reached."
            ),
            remedy(facts),
        ),
    }
}

fn left(facts: &Facts) -> Check {
    const NAME: &str = "routes left";
    let seen = match &facts.seen {
        Ok(seen) => seen,
        Err(why) => return Check::unread(NAME, why),
    };
    let plan = facts.plan();
    let is_wanted =
        |route: &&Route| plan.as_ref().is_some_and(|plan| plan.routes.contains_key(&place_of(route)));
    let (_, stale): (Vec<&Route>, Vec<&Route>) = seen.ours().partition(is_wanted);
    if stale.is_empty() {
        return Check::ok(NAME, "no route of ours leads to a node that is gone");
    }
    let ranges = list(stale.iter().map(|route| route.to));
    if plan.is_none() {
        if facts.agent.is_ok() {
            return Check::unread(NAME, "no Node is known");
        }
        let found = format!(
            "routes of ours to {ranges} are there and nobody keeps them: they may lead to nodes that are gone."
        );
        return Check::warning(
            NAME,
            found,
            "Start heddle-node, or remove them with `heddle-node --cleanup`.",
        );
    }
    let found = format!(
        "routes of ours lead to {ranges}, which no node has: packets to those addresses go to a wrong node."
    );
    let remedy = if facts.agent.is_ok() {
        remedy(facts)
    } else {
        "Start heddle-node, or remove them with `heddle-node --cleanup`."
    };
    Check::warning(NAME, found, remedy)
}

/// Others' routes to other nodes' pods that packets take in place of ours: as long or longer prefixes. One that leads to the
/// same node does no harm.
fn others(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "routes of others";
    let (Some(plan), Ok(seen)) = (facts.plan(), &facts.seen) else {
        return vec![Check::unread(NAME, "Nodes or routes cannot be read")];
    };
    let claims = facts.peers().flat_map(|node| node.pod_cidrs.iter().map(move |range| (node, *range)));
    let mut faults = Vec::new();
    for (node, range) in claims {
        let metric = |route: &Route| route.priority.unwrap_or(0);
        let ours = plan.routes.get(&(TABLE_MAIN, range)).map(metric);
        let goes_before = |route: &&Route| {
            let is_longer = route.to.prefix() > range.prefix();
            let is_before = route.to == range && ours.is_none_or(|ours| metric(route) <= ours);
            range.contains(route.to.network()) && (is_longer || is_before)
        };
        let leads_elsewhere =
            |route: &&Route| !route.gateway.is_some_and(|via| node.addresses.contains(&via));
        let routes = seen.others().filter(goes_before).filter(leads_elsewhere);
        faults.extend(routes.map(|route| before(facts, (node, range), route)));
    }
    Check::or_ok(faults, NAME, "none goes before ours")
}

fn before(facts: &Facts, (node, range): (&Node, IpNetwork), route: &Route) -> Check {
    let (to, link) = (route.to, facts.link(route.link).map_or("?", |link| link.name.as_str()));
    let via = route.gateway.map(|via| format!(" via {via}")).unwrap_or_default();
    let metric = route.priority.unwrap_or(0);
    let found = format!(
        "another program's route to {to}{via} by {link} (metric {metric}, {}) goes before ours to Node {} ({range}): pods \
         there are not reached.",
        protocol(route.protocol),
        node.name,
    );
    let family = if to.is_ipv6() { "-6 " } else { "" };
    let remedy = format!(
        "Stop what made it if it still runs, then `ip {family}route delete {to}{via} dev {link} metric {metric}`; ours is there \
         and takes over at once."
    );
    Check::failed("routes of others", found, remedy)
}

/// Who made a route, by `/etc/iproute2/rt_protos`.
fn protocol(number: u8) -> String {
    match number {
        2 => "the kernel's own".to_owned(),
        3 => "made by `ip` or a plugin".to_owned(),
        4 => "static".to_owned(),
        12 => "BIRD's".to_owned(),
        16 => "from DHCP".to_owned(),
        80 => "Calico's".to_owned(),
        186 => "from BGP".to_owned(),
        number => format!("protocol {number}"),
    }
}

/// A host that has a pods' network on another link keeps packets for pods to itself.
fn on_links(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "pod ranges on links";
    let addresses = match (&facts.addresses, &facts.cluster) {
        (Ok(addresses), Ok(_)) => addresses,
        (Err(why), _) | (_, Err(why)) => return vec![Check::unread(NAME, why)],
    };
    let bridges: Vec<_> = facts.pod_bridges().map(|bridge| bridge.index).collect();
    let own = facts.own().map_or(&[][..], |node| &node.pod_cidrs);
    let is_pods = |has: &Address| {
        let kind = facts.link(has.link).and_then(|link| link.kind.as_deref());
        let leads_to_pods =
            bridges.contains(&has.link) || matches!(kind, Some("bridge" | "veth" | "vlan" | "vxlan"));
        let is_within =
            |range: &IpNetwork| range.contains(has.address.ip()) && has.address.prefix() >= range.prefix();
        leads_to_pods && own.iter().any(is_within)
    };
    let mut faults = Vec::new();
    for has in addresses.iter().filter(|has| !is_pods(has)) {
        let meant = facts.cluster.iter().flat_map(Cluster::nodes);
        let range = meant.flat_map(|node| &node.pod_cidrs).find(|range| overlap(**range, has.address));
        let Some(range) = range else { continue };
        let (network, link) = (has.address, facts.link(has.link).map_or("?", |link| link.name.as_str()));
        let found = format!(
            "{link} has {network}, which overlaps the pod range {range}: addresses there mean two things."
        );
        let remedy = format!(
            "When {link} is another network's leftover, `ip address delete {network} dev {link}`; otherwise the cluster needs \
             other pod ranges."
        );
        faults.push(Check::failed(NAME, found, remedy));
    }
    Check::or_ok(faults, NAME, "no other link has addresses of pods")
}

fn services(facts: &Facts) -> Check {
    const NAME: &str = "service range";
    if facts.service_ranges.is_empty() {
        return Check::not_applicable(NAME, "it is not known (--service-cidr)");
    }
    let meant: Vec<IpNetwork> = facts.pod_ranges().collect();
    let networks = facts.addresses.iter().flatten().map(|has| has.address);
    let clash = |range: &IpNetwork| {
        let others = meant.iter().copied().chain(networks.clone());
        others.filter(|other| overlap(*range, *other)).map(|other| (*range, other)).next()
    };
    match facts.service_ranges.iter().find_map(clash) {
        None => Check::ok(NAME, format!("{} overlaps nothing", list(&facts.service_ranges))),
        Some((range, other)) => Check::failed(
            NAME,
            format!(
                "the service range {range} overlaps {other}: cluster IPs and other addresses are the same."
            ),
            "Give the API server another --service-cluster-ip-range, or the nodes other pod ranges.",
        ),
    }
}

fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.is_ipv4() == other.is_ipv4() && (one.contains(other.network()) || other.contains(one.network()))
}

/// Without the agent, what is masqueraded is what it last knew.
fn tables(facts: &Facts) -> Check {
    const NAME: &str = "tables";
    let seen = match &facts.seen {
        Ok(seen) => seen,
        Err(why) => return Check::unread(NAME, why),
    };
    let names = seen.tables.keys().map(|family| format!("{family} {}", crate::ruleset::TABLE));
    if seen.tables.is_empty() {
        return Check::ok(NAME, "there is none, nothing is masqueraded");
    }
    let names = list(names);
    match &facts.agent {
        Ok(_) => Check::ok(NAME, names),
        Err(_) => Check::warning(
            NAME,
            format!(
                "{names} stand without heddle-node: what leaves new pod ranges or goes to new nodes is masqueraded as it last knew."
            ),
            "Start heddle-node, or remove them with `heddle-node --cleanup`.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{cluster, healthy, net, node, outcome};
    use super::*;
    use crate::doctor::check::Outcome;
    use crate::plan::Mode;
    use heddle_netlink::link::LinkIndex;
    use heddle_netlink::nft::{Table, TableFamily};

    fn after(change: impl Fn(&mut Facts), name: &str) -> Outcome {
        let mut facts = healthy();
        change(&mut facts);
        outcome(&judge(&facts), name)
    }

    fn add(facts: &mut Facts, to: &str, via: Option<&str>) {
        let route = Route::new(net(to), via.map(|via| via.parse().unwrap()), LinkIndex(2));
        facts.seen.as_mut().unwrap().routes.push(route);
    }

    #[test]
    fn a_planned_route_that_is_missing_is_a_fault() {
        let missing = |facts: &mut Facts| facts.seen.as_mut().unwrap().routes.truncate(4);
        assert_eq!(after(missing, "routes"), Outcome::Failed);
        assert_eq!(after(|facts| facts.cluster = Err("away".to_owned()), "routes"), Outcome::NotApplicable);
    }

    #[test]
    fn a_device_that_is_needed_must_be_as_planned() {
        assert_eq!(after(|_| (), "tunnels"), Outcome::NotApplicable);
        let always = |facts: &mut Facts| facts.mode = Mode::Vxlan;
        assert_eq!(after(always, "tunnels"), Outcome::Failed);
        let whole = |facts: &mut Facts| {
            always(facts);
            let seen = facts.seen.clone().unwrap();
            let plan = facts.plan().unwrap();
            let tables = seen.tables.clone();
            let first = seen.after(&diff(&seen, &plan)).unwrap();
            facts.seen = Ok(first.clone());
            // The routes come once the device is there.
            let second = first.after(&diff(&first, &facts.plan().unwrap())).unwrap();
            facts.seen = Ok(crate::seen::Seen { tables, ..second });
        };
        assert_eq!(after(whole, "tunnels"), Outcome::Ok);
        assert_eq!(after(whole, "routes"), Outcome::Ok);
        let needless = |facts: &mut Facts| {
            whole(facts);
            facts.mode = Mode::Auto;
        };
        assert_eq!(after(needless, "tunnels"), Outcome::Warning);
    }

    #[test]
    fn routes_to_nodes_that_are_gone_are_left() {
        let gone = |facts: &mut Facts| facts.cluster = Ok(cluster([node(1), node(2)]));
        assert_eq!(after(gone, "routes left"), Outcome::Warning);
        let unknown = |facts: &mut Facts| facts.cluster = Err("away".to_owned());
        assert_eq!(after(unknown, "routes left"), Outcome::NotApplicable);
        let alone = |facts: &mut Facts| {
            unknown(facts);
            facts.agent = Err("no socket".to_owned());
        };
        assert_eq!(after(alone, "routes left"), Outcome::Warning);
    }

    #[test]
    fn a_route_before_ours_is_a_fault_unless_it_leads_to_the_same_node() {
        let elsewhere = |facts: &mut Facts| add(facts, "10.244.2.0/24", Some("192.168.0.1"));
        assert_eq!(after(elsewhere, "routes of others"), Outcome::Failed);
        let narrower = |facts: &mut Facts| add(facts, "10.244.2.64/26", None);
        assert_eq!(after(narrower, "routes of others"), Outcome::Failed);
        let same = |facts: &mut Facts| add(facts, "10.244.2.0/24", Some("192.168.0.12"));
        assert_eq!(after(same, "routes of others"), Outcome::Ok);
        let behind = |facts: &mut Facts| {
            add(facts, "10.244.2.0/24", Some("192.168.0.1"));
            facts.seen.as_mut().unwrap().routes.last_mut().unwrap().priority = Some(9000);
        };
        assert_eq!(after(behind, "routes of others"), Outcome::Ok);
        let wider = |facts: &mut Facts| add(facts, "10.244.0.0/16", None);
        assert_eq!(after(wider, "routes of others"), Outcome::Ok);
    }

    #[test]
    fn a_link_with_addresses_of_other_nodes_pods_is_a_fault_and_our_own_bridge_is_none() {
        let leftover = |address: &'static str, link| {
            move |facts: &mut Facts| {
                let address = Address { link: LinkIndex(link), address: net(address) };
                facts.addresses.as_mut().unwrap().push(address);
            }
        };
        assert_eq!(after(leftover("10.244.2.1/24", 3), "pod ranges on links"), Outcome::Failed);
        assert_eq!(after(leftover("10.0.0.1/8", 2), "pod ranges on links"), Outcome::Failed);
        assert_eq!(after(leftover("10.244.1.77/32", 2), "pod ranges on links"), Outcome::Failed);
        assert_eq!(after(leftover("10.244.1.77/32", 3), "pod ranges on links"), Outcome::Ok);
    }

    #[test]
    fn a_service_range_overlaps_neither_pods_nor_links() {
        let range = |range: &'static str| move |facts: &mut Facts| facts.service_ranges = vec![net(range)];
        assert_eq!(after(range("10.244.0.0/12"), "service range"), Outcome::Failed);
        assert_eq!(after(range("192.168.0.0/16"), "service range"), Outcome::Failed);
        assert_eq!(after(|facts| facts.service_ranges.clear(), "service range"), Outcome::NotApplicable);
    }

    #[test]
    fn tables_without_the_agent_are_told() {
        let tables = |facts: &mut Facts| {
            let table = Table::new(TableFamily::Ip, crate::ruleset::TABLE);
            facts.seen.as_mut().unwrap().tables.insert(TableFamily::Ip, table);
        };
        assert_eq!(after(tables, "tables"), Outcome::Ok);
        let alone = |facts: &mut Facts| {
            tables(facts);
            facts.agent = Err("no socket".to_owned());
        };
        assert_eq!(after(alone, "tables"), Outcome::Warning);
    }
}
