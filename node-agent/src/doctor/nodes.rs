//! Whether the agent runs, and what the cluster says of its nodes. Pure.
//!
//! What is wrong with Nodes is what the agent's own plan finds wrong: nothing is decided a second time.

use super::check::{Check, list};
use super::facts::Facts;
use crate::overlay::Obstacle;
use crate::problem::Problem;
use std::net::IpAddr;

/// Judges them.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![agent(facts)];
    match &facts.cluster {
        Ok(cluster) => {
            checks.push(Check::ok("nodes", format!("{} are known", cluster.nodes().count())));
            checks.extend(planned(facts));
            checks.push(addresses(facts));
        }
        Err(why) => {
            let found = format!("the Nodes cannot be read: {why}.");
            let remedy = "Say where they are as heddle-node is told: --kubeconfig, --master or --manifests.";
            checks.push(Check::warning("nodes", found, remedy));
            checks.extend(STEPS.map(|(name, _)| Check::unread(name, "no Node is known")));
            checks.push(Check::unread(ADDRESSES, "no Node is known"));
        }
    }
    checks
}

fn agent(facts: &Facts) -> Check {
    const NAME: &str = "agent";
    let running = match &facts.agent {
        Ok(running) => running,
        Err(why) => {
            return Check::warning(
                NAME,
                format!("what changes in the cluster does not reach this node: {why}"),
                "Start it: its DaemonSet must have a pod here (`kubectl -n kube-system get pods -o wide`). When it runs, name \
                 its socket with --status-socket.",
            );
        }
    };
    let why = running.why.as_deref().unwrap_or("it does not say why");
    match running.state.as_str() {
        "whole" => Check::ok(NAME, "heddle-node runs, and the kernel has all that it planned"),
        "waiting" => Check::warning(
            NAME,
            format!("heddle-node runs and waits: {why}."),
            "Look in its log whether the API server answers, and whether it may list Nodes.",
        ),
        _ => Check::failed(
            NAME,
            format!("heddle-node runs, and the kernel refuses something: {why}."),
            "The steps below may say why; its log and `heddle-node status` say what.",
        ),
    }
}

/// The steps that a plan's problems belong to, with what it means that there is none.
const STEPS: [(&str, &str); 3] =
    [("own node", "it is there, with pod ranges"), ("pod ranges", "no two nodes have the same"), PEERS];
const PEERS: (&str, &str) = ("peers", "every other node can be reached");

fn step_of(problem: &Problem) -> &'static str {
    match problem {
        Problem::NoOwnNode { .. } | Problem::NoOwnRanges { .. } => STEPS[0].0,
        Problem::Overlap { .. } => STEPS[1].0,
        _ => PEERS.0,
    }
}

fn planned(facts: &Facts) -> Vec<Check> {
    let Some(plan) = facts.plan() else {
        return STEPS.map(|(name, _)| Check::unread(name, "the node's routes cannot be read")).to_vec();
    };
    let problems: Vec<&Problem> = plan.problems.iter().filter(|problem| !is_anothers(problem)).collect();
    let judge = |(name, fine): (&'static str, &str)| {
        let faults = problems.iter().filter(|problem| step_of(problem) == name);
        let faults = faults.map(|problem| Check::failed(name, format!("{problem}."), remedy(problem)));
        Check::or_ok(faults.collect(), name, fine)
    };
    STEPS.into_iter().flat_map(judge).collect()
}

/// Routes of others and a device that is not there are steps of their own.
fn is_anothers(problem: &Problem) -> bool {
    matches!(problem, Problem::OtherRoute { .. } | Problem::NoTunnels(Obstacle::NoDevice))
}

fn remedy(problem: &Problem) -> String {
    match problem {
        Problem::NoOwnNode { .. } => "Give the Node's name with --hostname-override; `kubectl get nodes` lists them.".to_owned(),
        Problem::NoOwnRanges { .. } => {
            "Start the controller manager with --allocate-node-cidrs and --cluster-cidr, or write the Node's spec.podCIDRs."
                .to_owned()
        }
        Problem::NoAddress { node, .. } => {
            format!("Give {node}'s kubelet both addresses with --node-ip.")
        }
        Problem::IsThisHost { node, .. } => {
            format!("Give this node's name with --hostname-override; if {node} is another machine, one of the two addresses is wrong.")
        }
        Problem::Overlap { node, .. } => {
            format!("Delete Node {node} and let it register again, so that it gets another range.")
        }
        Problem::NotOnLink { .. } => "Start heddle-node with --mode auto, which takes VXLAN where there is no link.".to_owned(),
        Problem::NoTunnels(_) => "Do that, or put all nodes on one link.".to_owned(),
        _ => "The node needs a route to that one, mostly the default route.".to_owned(),
    }
}

const ADDRESSES: &str = "own address";

/// Others send pods' packets to the address that our Node has.
fn addresses(facts: &Facts) -> Check {
    let Some(own) = facts.own() else { return Check::unread(ADDRESSES, "our own Node is not known") };
    let seen = match &facts.seen {
        Ok(seen) => seen,
        Err(why) => return Check::unread(ADDRESSES, why),
    };
    let (here, missing): (Vec<&IpAddr>, Vec<&IpAddr>) =
        own.addresses.iter().partition(|ip| seen.addresses.contains_key(ip));
    if own.addresses.is_empty() {
        return Check::failed(
            ADDRESSES,
            format!("Node {} has no address: no other node reaches its pods.", own.name),
            "Look why its kubelet reports none (--node-ip).",
        );
    }
    // External addresses are often a router's, and others take the first one.
    if missing.is_empty() || missing.iter().all(|ip| here.iter().any(|has| has.is_ipv4() == ip.is_ipv4())) {
        return Check::ok(ADDRESSES, list(here));
    }
    Check::failed(
        ADDRESSES,
        format!(
            "this host does not have {}, which Node {} has: other nodes send its pods' packets elsewhere.",
            list(missing),
            own.name
        ),
        "Give the right Node's name with --hostname-override, or its kubelet the right address with --node-ip.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{cluster, healthy, net, node, outcome};
    use super::*;
    use crate::doctor::check::Outcome;
    use crate::plan::Mode;

    fn after(change: impl Fn(&mut Facts), name: &str) -> Outcome {
        let mut facts = healthy();
        change(&mut facts);
        outcome(&judge(&facts), name)
    }

    #[test]
    fn without_nodes_it_says_so_and_judges_none() {
        let away = |facts: &mut Facts| facts.cluster = Err("nobody answers".to_owned());
        assert_eq!(after(away, "nodes"), Outcome::Warning);
        assert_eq!(after(away, "own node"), Outcome::NotApplicable);
        assert_eq!(after(away, "own address"), Outcome::NotApplicable);
    }

    #[test]
    fn an_agent_that_is_silent_or_waits_is_a_warning_and_one_that_is_refused_something_a_fault() {
        let says = |state: &'static str| {
            move |facts: &mut Facts| facts.agent.as_mut().unwrap().state = state.to_owned()
        };
        assert_eq!(after(|facts| facts.agent = Err("no socket".to_owned()), "agent"), Outcome::Warning);
        assert_eq!(after(says("waiting"), "agent"), Outcome::Warning);
        assert_eq!(after(says("failing"), "agent"), Outcome::Failed);
    }

    #[test]
    fn our_own_node_must_be_there_with_ranges_and_with_an_address_of_this_host() {
        assert_eq!(after(|facts| facts.node = "another".into(), "own node"), Outcome::Failed);
        let bare = |facts: &mut Facts| {
            let own = heddle_proxy::model::Node { pod_cidrs: Vec::new(), addresses: Vec::new(), ..node(1) };
            facts.cluster = Ok(cluster([own, node(2)]));
        };
        assert_eq!(after(bare, "own node"), Outcome::Failed);
        assert_eq!(after(bare, "own address"), Outcome::Failed);
        let moved = |facts: &mut Facts| {
            facts.seen.as_mut().unwrap().addresses.remove(&[192, 168, 0, 11].into());
        };
        assert_eq!(after(moved, "own address"), Outcome::Failed);
        // The address of the router in front of it is behind the one that others take.
        let external = |facts: &mut Facts| {
            let mut own = node(1);
            own.addresses.push([203, 0, 113, 7].into());
            facts.cluster = Ok(cluster([own]));
        };
        assert_eq!(after(external, "own address"), Outcome::Ok);
    }

    #[test]
    fn what_the_plan_finds_wrong_with_nodes_is_told_at_its_step() {
        let same = |facts: &mut Facts| {
            let twin = heddle_proxy::model::Node { pod_cidrs: vec![net("10.244.2.0/24")], ..node(3) };
            facts.cluster = Ok(cluster([node(1), node(2), twin]));
        };
        assert_eq!(after(same, "pod ranges"), Outcome::Failed);
        assert_eq!(after(same, "peers"), Outcome::Ok);
        let far = |facts: &mut Facts| {
            let far = heddle_proxy::model::Node { addresses: vec![[10, 9, 9, 9].into()], ..node(3) };
            facts.cluster = Ok(cluster([node(1), far]));
        };
        assert_eq!(after(far, "peers"), Outcome::Failed);
        let straight = |facts: &mut Facts| {
            far(facts);
            facts.mode = Mode::Routes;
        };
        assert_eq!(after(straight, "peers"), Outcome::Failed);
        assert_eq!(after(far, "pod ranges"), Outcome::Ok);
    }
}
