//! Whether packets as large as our links take arrive at the other nodes. Pure: which are sent, and what the answers mean.
//!
//! Not how they are sent: that is [`probe`](super::probe). They go to a port that nobody listens at, so that its refusal says
//! that they arrived.

use super::check::{Check, list};
use super::facts::Facts;
use crate::overlay::DEVICE;
use crate::plan::Mode;
use heddle_netlink::route::PROTOCOL_HEDDLE_NODE;
use heddle_proxy::model::Node;
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// So many addresses at most are asked at one time: each takes two open files, of which a process may have 1024.
pub const MOST: usize = 240;

/// Which way a packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Through {
    /// From node to node, where pods' packets go by the same way.
    Underlay,
    /// From node to node, where pods' packets go inside of others, which may be cut.
    Outside,
    /// To the other node's bridge, as pods' packets go.
    Pods,
    /// To the other node's device, as pods' packets go inside of others.
    Tunnel,
}

/// An address that is to get a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its node.
    pub node: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// The largest packet in bytes that this node would send there.
    pub size: u32,
    /// The way.
    pub through: Through,
}

/// What became of the packets for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The full size arrived.
    Whole,
    /// Somebody on the way takes packets of this many bytes at most, and says so.
    Smaller(u32),
    /// Small packets arrive, and large ones vanish.
    Lost,
    /// Somebody says that there is no way there.
    Refused(String),
    /// Nobody answered.
    Silent,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Probed {
    /// The targets that were asked.
    pub answers: Vec<(Target, Answer)>,
    /// How many were left out.
    pub left_out: usize,
}

/// Everything that could be asked, nodes before pods.
pub fn targets(facts: &Facts) -> Vec<Target> {
    let nodes = facts.peers().flat_map(|node| {
        let of = |is_v4: bool| node.addresses.iter().copied().find(move |ip| ip.is_ipv4() == is_v4);
        [true, false].into_iter().filter_map(of).map(move |address| (node, address))
    });
    let underlay = nodes.filter_map(|(node, address)| {
        let is_far = facts.route_to(address).is_some_and(|route| route.gateway.is_some());
        let is_inside = facts.mode == Mode::Vxlan || facts.mode == Mode::Auto && is_far;
        target(facts, node, address, if is_inside { Through::Outside } else { Through::Underlay })
    });
    let ranges = facts.peers().flat_map(|node| node.pod_cidrs.iter().map(move |range| (node, *range)));
    let pods = ranges.filter_map(|(node, range)| {
        let route = facts.route_to(range.network()).filter(|route| route.protocol == PROTOCOL_HEDDLE_NODE)?;
        // The device of the other node has the first address; on links, the plugin's bridge has the second.
        match route.encap {
            Some(_) => target(facts, node, range.network(), Through::Tunnel),
            None => target(facts, node, first_host(range)?, Through::Pods),
        }
    });
    underlay.chain(pods).collect()
}

/// The most that are asked, from all over the list.
pub fn sample(all: Vec<Target>) -> (Vec<Target>, usize) {
    let (count, chosen) = (all.len(), all.len().min(MOST));
    let is_chosen = |at: usize| (at + 1) * chosen / count > at * chosen / count;
    let kept = all.into_iter().enumerate().filter(|(at, _)| is_chosen(*at)).map(|(_, target)| target);
    (kept.collect(), count - chosen)
}

fn target(facts: &Facts, node: &Node, address: IpAddr, through: Through) -> Option<Target> {
    let route = facts.route_to(address)?;
    let link = facts.link(route.link).filter(|link| !link.loopback)?;
    let size = route.mtu.unwrap_or(link.mtu).min(link.mtu);
    Some(Target { node: node.name.clone(), address, size, through })
}

/// What the plugin gives the bridge.
fn first_host(range: IpNetwork) -> Option<IpAddr> {
    match range {
        IpNetwork::V4(range) => range.nth(1).map(IpAddr::V4),
        IpNetwork::V6(range) => range.iter().nth(1).map(IpAddr::V6),
    }
}

/// Judges the answers.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let pods = |target: &Target| matches!(target.through, Through::Pods | Through::Tunnel);
    let nodes = |target: &Target| !pods(target);
    let mut checks = judge_ways(&facts.probed, nodes, "mtu to nodes");
    checks.extend(judge_ways(&facts.probed, pods, "mtu to pods"));
    checks
}

fn judge_ways(probed: &Probed, is_meant: impl Fn(&Target) -> bool, name: &'static str) -> Vec<Check> {
    let answers = probed.answers.iter().filter(|(target, _)| is_meant(target));
    let mut by_answer: BTreeMap<String, (&Target, &Answer, Vec<String>)> = BTreeMap::new();
    for (target, answer) in answers {
        let entry = by_answer.entry(format!("{answer:?} {:?} {}", target.through, target.size));
        let (_, _, names) = entry.or_insert_with(|| (target, answer, Vec::new()));
        names.push(format!("{} ({})", target.node, target.address));
    }
    if by_answer.is_empty() {
        return vec![Check::not_applicable(name, "there is no such way to another node")];
    }
    let whole = by_answer.values().filter(|(_, answer, _)| **answer == Answer::Whole);
    let whole: usize = whole.map(|(.., names)| names.len()).sum();
    let faults: Vec<_> = by_answer
        .values()
        .filter_map(|(target, answer, names)| fault(name, (target, answer), &list(names)))
        .collect();
    let sampled = if probed.left_out == 0 {
        String::new()
    } else {
        format!("; {} more were not asked", probed.left_out)
    };
    if whole == 0 && faults.is_empty() {
        return vec![Check::not_applicable(
            name,
            "no address of another node's pods answers: is there no pod yet?",
        )];
    }
    Check::or_ok(faults, name, format!("packets of full size arrive at {whole} addresses{sampled}"))
}

fn fault(name: &'static str, (target, answer): (&Target, &Answer), names: &str) -> Option<Check> {
    match (answer, target.through) {
        (Answer::Whole, _) | (Answer::Refused(_) | Answer::Silent, Through::Pods) => None,
        (Answer::Smaller(mtu), Through::Outside) => Some(Check::warning(
            name,
            format!(
                "packets of {} bytes, which this node's link takes, do not pass on the way to {names}, none above {mtu} do: \
                 pods' packets, which travel inside, are cut in pieces and slower.",
                target.size
            ),
            format!(
                "Set the MTU of the nodes' links to {mtu}, or raise it in the network between; then make the pods anew."
            ),
        )),
        (Answer::Smaller(mtu), _) => Some(Check::failed(
            name,
            format!(
                "packets of {} bytes, which this node's link takes, do not pass on the way to {names}, none above {mtu} do: \
                 UDP of full size is lost, and TCP stalls where the router's answers are.",
                target.size
            ),
            format!(
                "Set the MTU of the nodes' links to {mtu}, or raise it in the network between; then make the pods anew."
            ),
        )),
        (Answer::Lost, _) => Some(lost(name, target.size, names)),
        (Answer::Refused(_) | Answer::Silent, Through::Tunnel) => Some(Check::warning(
            name,
            format!("nothing comes back through VXLAN from {names}: pods there are not reached."),
            format!(
                "Look whether heddle-node runs on that node, and whether a firewall between drops UDP to the port of {DEVICE} (4789, \
                 if --vxlan-port does not say another)."
            ),
        )),
        (Answer::Refused(why), _) => Some(Check::warning(
            name,
            format!("{names} cannot be reached ({why}): nor can its pods."),
            "Look whether the node runs, and whether a firewall refuses UDP to it.",
        )),
        (Answer::Silent, _) => Some(Check::warning(
            name,
            format!(
                "{names} does not answer, to small packets either: it is away, or a firewall drops UDP to it or ICMP from it."
            ),
            "Look whether the node runs; a firewall between nodes must let all of the pods' packets pass.",
        )),
    }
}

fn lost(name: &'static str, size: u32, names: &str) -> Check {
    Check::failed(
        name,
        format!(
            "packets of {size} bytes, which this node's link takes, vanish on the way to {names} without an answer, and small \
             ones arrive: connections hang once they carry much."
        ),
        "Let ICMP \"too big\" pass in the network between, or lower the MTU of the nodes' links to what it takes (`ping -M do -s \
         SIZE` finds it); then make the pods anew.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{healthy, outcome};
    use super::*;
    use crate::doctor::check::Outcome;
    use heddle_netlink::route::{Route, Tunnel};

    /// After this answer of one node's addresses of a way; the other ways of that node are taken for this one.
    fn answered(through: Through, answer: &Answer) -> Vec<Check> {
        let mut facts = healthy();
        let is_pods = matches!(through, Through::Pods | Through::Tunnel);
        for (target, has) in &mut facts.probed.answers {
            if (target.through == Through::Pods) == is_pods && *target.node == *"node-2" {
                (target.through, *has) = (through, answer.clone());
            }
        }
        judge(&facts)
    }

    #[test]
    fn each_family_of_each_node_is_asked_and_the_bridges_where_our_routes_lead() {
        let mut facts = healthy();
        let all = targets(&facts);
        let addresses: Vec<String> = all.iter().map(|target| target.address.to_string()).collect();
        let nodes = ["192.168.0.12", "fd00:192::2", "192.168.0.13", "fd00:192::3"];
        let bridges = ["10.244.2.1", "fd00:244:0:2::1", "10.244.3.1", "fd00:244:0:3::1"];
        assert_eq!(addresses, [nodes, bridges].concat());
        assert!(all.iter().all(|target| target.size == 1500));
        facts.links.as_mut().unwrap()[0].mtu = 9000;
        facts.seen.as_mut().unwrap().routes.truncate(4);
        assert_eq!(targets(&facts).iter().map(|target| target.size).collect::<Vec<_>>(), [9000; 4]);
    }

    #[test]
    fn where_pods_travel_inside_the_nodes_are_asked_for_what_is_outside() {
        let mut facts = healthy();
        facts.mode = Mode::Vxlan;
        let through = |facts: &Facts| targets(facts).iter().map(|target| target.through).collect::<Vec<_>>();
        assert_eq!(through(&facts)[..4], [Through::Outside; 4]);
        let tunnel = Some(Tunnel { id: 1, to: [192, 168, 0, 12].into(), checksum: false });
        let ours = |route: &&mut Route| route.protocol == PROTOCOL_HEDDLE_NODE;
        facts.seen.as_mut().unwrap().routes.iter_mut().filter(ours).for_each(|route| route.encap = tunnel);
        assert_eq!(through(&facts)[4..], [Through::Tunnel; 4]);
        assert_eq!(targets(&facts)[4].address.to_string(), "10.244.2.0");
    }

    #[test]
    fn of_many_a_sample_is_asked_from_all_over() {
        let target = |number: usize| Target {
            node: format!("node-{number}").into(),
            address: [192, 168, 0, 1].into(),
            size: 1500,
            through: Through::Underlay,
        };
        let (few, none) = sample((0..3).map(target).collect());
        assert_eq!((few.len(), none), (3, 0));
        let (chosen, left_out) = sample((0..1000).map(target).collect());
        assert_eq!((chosen.len(), left_out), (MOST, 1000 - MOST));
        assert_eq!(&*chosen[MOST - 1].node, "node-999");
        assert_eq!(sample(Vec::new()), (Vec::new(), 0));
    }

    #[test]
    fn smaller_and_lost_packets_are_faults_on_either_way() {
        for (through, name) in [(Through::Underlay, "mtu to nodes"), (Through::Pods, "mtu to pods")] {
            for answer in [Answer::Smaller(1400), Answer::Lost] {
                assert_eq!(outcome(&answered(through, &answer), name), Outcome::Failed, "{answer:?}");
            }
        }
        assert_eq!(
            outcome(&answered(Through::Outside, &Answer::Smaller(1400)), "mtu to nodes"),
            Outcome::Warning
        );
        assert_eq!(outcome(&answered(Through::Outside, &Answer::Lost), "mtu to nodes"), Outcome::Failed);
        let found = &answered(Through::Underlay, &Answer::Smaller(1400))[0].found;
        assert!(found.contains("none above 1400 do"), "{found}");
        assert!(found.contains("node-2 (192.168.0.12), node-2 (fd00:192::2)"), "{found}");
    }

    #[test]
    fn a_silent_node_is_a_warning_and_a_silent_bridge_has_no_pods() {
        for answer in [Answer::Silent, Answer::Refused("no route to host".to_owned())] {
            assert_eq!(outcome(&answered(Through::Underlay, &answer), "mtu to nodes"), Outcome::Warning);
            assert_eq!(outcome(&answered(Through::Pods, &answer), "mtu to pods"), Outcome::Ok);
            assert_eq!(outcome(&answered(Through::Tunnel, &answer), "mtu to pods"), Outcome::Warning);
        }
        let mut facts = healthy();
        facts.probed.answers.iter_mut().for_each(|(_, answer)| *answer = Answer::Silent);
        assert_eq!(outcome(&judge(&facts), "mtu to pods"), Outcome::NotApplicable);
        facts.probed = Probed::default();
        assert_eq!(outcome(&judge(&facts), "mtu to nodes"), Outcome::NotApplicable);
    }
}
