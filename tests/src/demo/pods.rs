//! Nodes, and pods that reach each other and what is outside.

use crate::demo::stage::Stage;
use crate::demo::teller::{Teller, milliseconds};
use crate::demo::way::Way;
use crate::demo::{Error, SUBNETS};
use crate::lab::Node;
use std::net::IpAddr;
use std::time::Instant;

pub(super) fn nodes_come_up(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    let (nodes, subnets) = (stage.cluster.names().len(), SUBNETS.len());
    teller.say(&format!(
        "{nodes} nodes on {subnets} subnets, each a network namespace. The router between knows nothing of pods."
    ))?;
    stage.cluster.lab.nodes().iter().try_for_each(|node| introduce(node, teller))?;
    teller.head(
        "heddle-node and heddle-proxy start on each, and read from the API server which nodes there are.",
    )?;
    let begun = Instant::now();
    stage.start_programs()?;
    teller.measure(
        &format!("started on {nodes} nodes, all routes and rules in place"),
        milliseconds(begun.elapsed()),
    )?;
    let near = stage.near();
    teller.show(near.name(), "heddle-node status", (&stage.status(near)?, "peers"))
}

pub(super) fn join(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    teller.head("heddle-cni joins a pod to each node.")?;
    stage.add_pods()?;
    for (node, pod) in stage.pods() {
        teller.say(&format!("  {:<8} {:<40} on {}", pod.name(), join_up(pod.addresses()), node.name()))?;
    }
    Ok(())
}

pub(super) fn reach_each_other(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    teller.head(
        "Pods of different nodes reach each other, and are seen with their own addresses: there is no NAT.",
    )?;
    let client = stage.client();
    for (_, pod) in stage.webs() {
        Way::between(client, pod).iter().try_for_each(|way| way.show(teller))?;
    }
    let (_, last) = stage.webs().last().expect("there are nodes besides the client's");
    Way::between(last, client)[0].show(teller)
}

pub(super) fn leave_the_cluster(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    teller.head("What a pod sends out of the cluster has its node's address, so that answers find back.")?;
    for (node, pod) in stage.pods() {
        Way::out(stage, node, pod)[0].show(teller)?;
    }
    Ok(())
}

fn introduce(node: &Node, teller: &mut Teller<'_>) -> Result<(), Error> {
    let ranges: Vec<String> = node.pod_ranges().iter().map(ToString::to_string).collect();
    let addresses = join_up(&node.addresses());
    teller.say(&format!("  {:<8} {addresses:<32} pods {}", node.name(), ranges.join("  ")))
}

fn join_up(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join("  ")
}
