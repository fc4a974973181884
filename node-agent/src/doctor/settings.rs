//! Kernel settings on which pods' packets depend. Pure.

use super::check::{Check, list};
use super::facts::Facts;
use heddle_netlink::bridge::is_passing;
use heddle_netlink::link::{Link, LinkIndex};
use heddle_netlink::route::PROTOCOL_RA;
use heddle_proxy::model::Node;
use std::collections::BTreeSet;

/// Judges them.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = forwarding(facts);
    checks.extend(announcements(facts));
    checks.extend(reverse_path(facts));
    checks.extend(bridges(facts));
    checks.extend(neighbours(facts));
    checks.push(connections(facts));
    checks
}

/// Which settings of a family say whether the node forwards.
fn forwarding(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "forwarding";
    let (sysctls, mut faults) = (&facts.sysctls, Vec::new());
    let off = |setting: &str, family: &str| {
        let remedy = if facts.agent.is_ok() {
            "heddle-node switches it on when it may: its log says why it could not (in a container, --sysctl-dir)."
        } else {
            "Start heddle-node, which switches it on, or write 1 with `sysctl -w`."
        };
        let found = format!("{setting} is 0: {family} packets of pods go nowhere but to this node.");
        Check::failed(NAME, found, remedy)
    };
    if sysctls.says("ipv4/ip_forward", "0") {
        faults.push(off("net.ipv4.ip_forward", "IPv4"));
    }
    let has_v6_pods = facts.cluster.is_err() || facts.pod_ranges().any(|range| range.is_ipv6());
    if sysctls.says("ipv6/conf/all/forwarding", "0") && has_v6_pods {
        faults.push(off("net.ipv6.conf.all.forwarding", "IPv6"));
    }
    let bridges = facts.pod_bridges().map(|bridge| bridge.name.as_str());
    let ways: BTreeSet<&str> = facts.uplinks().into_iter().chain(bridges).collect();
    let is_off = |link: &&str| sysctls.says(&format!("ipv4/conf/{link}/forwarding"), "0");
    if faults.is_empty() {
        faults.extend(ways.into_iter().filter(is_off).map(|link| {
            let found =
                format!("net.ipv4.conf.{link}.forwarding is 0: what comes by {link} is not passed on.");
            Check::failed(
                NAME,
                found,
                "Write 1 with `sysctl -w`, and find out what writes 0 (`grep -r forwarding /etc/sysctl.d`).",
            )
        }));
    }
    if sysctls.0.is_empty() {
        return vec![Check::unread(NAME, "/proc/sys/net is not readable")];
    }
    Check::or_ok(faults, NAME, "the node passes packets on")
}

/// A kernel that forwards ignores what routers announce, unless `accept_ra` is 2.
fn announcements(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "router announcements";
    let routes = facts.seen.iter().flat_map(|seen| &seen.routes);
    let announced: BTreeSet<LinkIndex> =
        routes.filter(|route| route.protocol == PROTOCOL_RA).map(|route| route.link).collect();
    if announced.is_empty() {
        return vec![Check::not_applicable(NAME, "no route of this node comes from one")];
    }
    let is_deaf = |link: &&Link| {
        facts.sysctls.says("ipv6/conf/all/forwarding", "1")
            && facts.sysctls.says(&format!("ipv6/conf/{}/accept_ra", link.name), "1")
    };
    let fault = |Link { name, .. }: &Link| {
        let found = format!(
            "{name} has routes that a router announced, and this node forwards with accept_ra 1: they go when they \
             expire, and the default route with them."
        );
        let remedy = format!("`sysctl -w net.ipv6.conf.{name}.accept_ra=2`, and the same in /etc/sysctl.d.");
        Check::failed(NAME, found, remedy)
    };
    let links = announced.iter().filter_map(|index| facts.link(*index));
    Check::or_ok(links.filter(is_deaf).map(fault).collect(), NAME, "what they say goes on to count")
}

/// The strict filter drops what comes by another link than the answer would leave by: another node's pods come by the link
/// that their node is on.
fn reverse_path(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "rp_filter";
    if facts.peers().next().is_none() {
        return vec![Check::not_applicable(NAME, "no other node is known")];
    }
    let strict = |link: &Link| {
        let of = |name: &str| facts.sysctls.number(&format!("ipv4/conf/{name}/rp_filter")).unwrap_or(0);
        // The kernel takes the higher one; 2 is the loose filter.
        of("all").max(of(&link.name)) == 1
    };
    let crossed = |node: &Node| {
        let range = node.pod_cidrs.iter().find(|range| range.is_ipv4())?;
        let comes = facts.route_to(*node.addresses.iter().find(|ip| ip.is_ipv4())?)?;
        let leaves = facts.route_to(range.network())?;
        // Inside of other packets, pods' come by a link of their own.
        let is_direct = comes.gateway.is_none() && leaves.encap.is_none() && comes.link != leaves.link;
        facts.link(comes.link).filter(|link| is_direct && strict(link)).map(|link| (node.name.clone(), link))
    };
    let dropped: Vec<_> = facts.peers().filter_map(crossed).collect();
    let Some((_, link)) = dropped.first() else {
        return vec![Check::ok(NAME, "it lets pods' packets pass")];
    };
    let found = format!(
        "packets from pods of {} come by {} and the answers leave by another link: the strict filter drops the packets.",
        list(dropped.iter().map(|(node, _)| node)),
        link.name
    );
    let remedy = format!(
        "Remove the other route to their range (see \"routes of others\"), or `sysctl -w net.ipv4.conf.{}.rp_filter=2`.",
        link.name
    );
    vec![Check::failed(NAME, found, remedy)]
}

/// Between the ports of a bridge, the node's rules see packets only if the bridge hands them over.
fn bridges(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "bridge netfilter";
    let bridges: Vec<&Link> = facts.pod_bridges().collect();
    if bridges.is_empty() {
        return vec![Check::not_applicable(NAME, "no pod of heddle-cni is on a bridge")];
    }
    let keys = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"];
    let everywhere = keys.iter().all(|key| facts.sysctls.says(key, "1"));
    let is_loaded = keys.iter().any(|key| facts.sysctls.0.contains_key(*key));
    // heddle-proxy says so where no connection of a pod is rewritten.
    let passes =
        |bridge: &Link| is_passing(bridge) || is_loaded && (everywhere || bridge.netfilter == Some(true));
    let fault = |bridge: &Link| {
        let found = format!(
            "pods on {} that connect to a Service whose endpoint is on the same bridge get no answer: the bridge does not \
             hand its packets to the node's rules.",
            bridge.name
        );
        let remedy = if is_loaded {
            "`sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1`; heddle-cni sets it for \
             its bridge with the next pod."
        } else {
            "`modprobe br_netfilter`, and its name in /etc/modules-load.d."
        };
        Check::warning(NAME, found, remedy)
    };
    let faults = bridges.iter().filter(|bridge| !passes(bridge)).map(|bridge| fault(bridge));
    Check::or_ok(
        faults.collect(),
        NAME,
        "bridges with pods hand packets to the node's rules where these are needed",
    )
}

/// The kernel's tables of neighbours have one size for all links.
fn neighbours(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "neighbour table";
    let pods = facts.pod_links().count();
    let mut faults = Vec::new();
    for (family, is_v4) in [("ipv4", true), ("ipv6", false)] {
        let size = |threshold| facts.sysctls.number(&format!("{family}/neigh/default/gc_thresh{threshold}"));
        let (Some(soft), Some(hard)) = (size(2), size(3)) else { continue };
        let nodes =
            facts.peers().filter(|node| node.addresses.iter().any(|ip| ip.is_ipv4() == is_v4)).count();
        let needed = u64::try_from(nodes + pods).unwrap_or(u64::MAX);
        let found = format!(
            "{nodes} nodes and {pods} pods are up to {needed} neighbours, and {family} has room for {hard}"
        );
        let remedy = format!(
            "Raise net.{family}.neigh.default.gc_thresh1, 2 and 3 to {needed}, {} and {} at least.",
            needed.saturating_mul(2),
            needed.saturating_mul(4)
        );
        if needed > hard {
            faults.push(Check::failed(NAME, format!("{found}: packets are dropped."), remedy));
        } else if needed > soft {
            let found =
                format!("{found}, {soft} without haste: the kernel forgets and asks again all the time.");
            faults.push(Check::warning(NAME, found, remedy));
        }
    }
    if facts.cluster.is_err() || facts.sysctls.number("ipv4/neigh/default/gc_thresh3").is_none() {
        return vec![Check::not_applicable(NAME, "nodes or the table's size are not known here")];
    }
    Check::or_ok(faults, NAME, "it has room for all nodes and pods")
}

fn connections(facts: &Facts) -> Check {
    const NAME: &str = "connection table";
    let number = |name| facts.sysctls.number(&format!("netfilter/nf_conntrack_{name}"));
    let (Some(count), Some(max)) = (number("count"), number("max")) else {
        return Check::not_applicable(NAME, "the kernel tracks no connections yet");
    };
    let found = format!("{count} of at most {max} connections are tracked");
    if count.saturating_mul(10) < max.saturating_mul(9) {
        return Check::ok(NAME, found);
    }
    let remedy = "Raise net.netfilter.nf_conntrack_max (heddle-proxy: --conntrack-max-per-core).";
    if count < max {
        Check::warning(NAME, format!("{found}: soon new ones are dropped."), remedy)
    } else {
        Check::failed(NAME, format!("{found}: new ones are dropped."), remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{healthy, outcome};
    use super::*;
    use crate::doctor::check::Outcome;
    use heddle_netlink::bridge::PASSING;
    use heddle_netlink::route::Route;

    fn with(settings: &[(&str, &str)]) -> Facts {
        let mut facts = healthy();
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        facts.sysctls.0.extend(settings);
        facts
    }

    fn of(settings: &[(&str, &str)], name: &str) -> Outcome {
        outcome(&judge(&with(settings)), name)
    }

    #[test]
    fn a_node_that_forwards_nothing_of_a_family_or_by_a_link_has_failed() {
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/eth0/forwarding"] {
            assert_eq!(of(&[(setting, "0")], "forwarding"), Outcome::Failed, "{setting}");
        }
        assert_eq!(of(&[("ipv4/conf/other/forwarding", "0")], "forwarding"), Outcome::Ok);
    }

    #[test]
    fn what_to_do_about_forwarding_depends_on_whether_the_agent_runs() {
        let mut facts = with(&[("ipv4/ip_forward", "0")]);
        assert!(judge(&facts)[0].remedy.as_ref().unwrap().contains("its log"));
        facts.agent = Err("it is silent".to_owned());
        assert!(judge(&facts)[0].remedy.as_ref().unwrap().contains("Start heddle-node"));
    }

    /// cni:#32
    #[test]
    fn announced_routes_need_accept_ra_2_on_a_node_that_forwards() {
        let mut facts = healthy();
        assert_eq!(outcome(&judge(&facts), "router announcements"), Outcome::NotApplicable);
        let everywhere = "::/0".parse().unwrap();
        let announced = Route { protocol: PROTOCOL_RA, ..Route::new(everywhere, None, LinkIndex(2)) };
        facts.seen.as_mut().unwrap().routes.push(announced);
        assert_eq!(outcome(&judge(&facts), "router announcements"), Outcome::Failed);
        facts.sysctls.0.insert("ipv6/conf/eth0/accept_ra".to_owned(), "2".to_owned());
        assert_eq!(outcome(&judge(&facts), "router announcements"), Outcome::Ok);
    }

    #[test]
    fn the_strict_filter_is_a_fault_where_answers_leave_by_another_link() {
        let mut facts = healthy();
        assert_eq!(outcome(&judge(&facts), "rp_filter"), Outcome::Ok);
        let elsewhere = Route::new("10.244.2.0/24".parse().unwrap(), None, LinkIndex(7));
        facts.seen.as_mut().unwrap().routes.push(elsewhere);
        assert_eq!(outcome(&judge(&facts), "rp_filter"), Outcome::Failed);
        facts.sysctls.0.insert("ipv4/conf/eth0/rp_filter".to_owned(), "2".to_owned());
        assert_eq!(outcome(&judge(&facts), "rp_filter"), Outcome::Ok);
    }

    #[test]
    fn bridges_with_pods_hand_packets_over_by_themselves_or_all_of_them_do() {
        let mut facts = healthy();
        facts.links.as_mut().unwrap()[1].netfilter = Some(false);
        assert_eq!(outcome(&judge(&facts), "bridge netfilter"), Outcome::Warning);
        facts.links.as_mut().unwrap()[1].alias = Some(PASSING.to_owned());
        assert_eq!(outcome(&judge(&facts), "bridge netfilter"), Outcome::Ok);
        facts.links.as_mut().unwrap()[1].alias = None;
        let all = ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"];
        facts.sysctls.0.extend(all.map(|key| (key.to_owned(), "1".to_owned())));
        assert_eq!(outcome(&judge(&facts), "bridge netfilter"), Outcome::Ok);
        all.iter().for_each(|key| _ = facts.sysctls.0.remove(*key));
        assert_eq!(outcome(&judge(&facts), "bridge netfilter"), Outcome::Warning, "the module is not loaded");
        facts.links.as_mut().unwrap().pop();
        assert_eq!(outcome(&judge(&facts), "bridge netfilter"), Outcome::NotApplicable);
    }

    #[test]
    fn the_neighbour_table_has_room_for_the_nodes() {
        let of = |soft, hard| {
            of(
                &[("ipv4/neigh/default/gc_thresh2", soft), ("ipv4/neigh/default/gc_thresh3", hard)],
                "neighbour table",
            )
        };
        assert_eq!(of("512", "1024"), Outcome::Ok);
        assert_eq!(of("2", "1024"), Outcome::Warning);
        assert_eq!(of("1", "2"), Outcome::Failed);
        let mut facts = healthy();
        facts.sysctls.0.remove("ipv4/neigh/default/gc_thresh3");
        assert_eq!(outcome(&judge(&facts), "neighbour table"), Outcome::NotApplicable);
    }

    #[test]
    fn a_connection_table_is_told_before_it_is_full() {
        let of = |count| {
            of(
                &[("netfilter/nf_conntrack_count", count), ("netfilter/nf_conntrack_max", "100")],
                "connection table",
            )
        };
        assert_eq!([of("89"), of("90"), of("100")], [Outcome::Ok, Outcome::Warning, Outcome::Failed]);
    }
}
