//! A Service whose pods are on other nodes than those who ask.

use crate::demo::stage::{Stage, of_family};
use crate::demo::teller::{Teller, milliseconds};
use crate::demo::way::{Way, await_all, await_nobody, own_addresses};
use crate::demo::{CLUSTER_IPS, Error, NODE_PORT, SERVICE};
use crate::lab::Node;
use crate::traffic::Outcome;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How many connections show that all pods serve: one of two is left out in one of 2^199 runs.
const MANY: usize = 200;
/// How long no answer must come to be called silence.
const SILENCE: Duration = Duration::from_millis(250);

pub(super) fn service(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    let (near, [ipv4, _]) = (stage.near().name(), CLUSTER_IPS);
    teller.head(&format!(
        "The API server gets the Service {SERVICE}, {ipv4}. None of its pods is on {near}."
    ))?;
    let begun = Instant::now();
    stage.serve("Cluster")?;
    // Not from the client: what it sends before the rules stand, connection tracking remembers for two minutes, and the next
    // connection from that port would go untranslated too.
    let took = await_all(&Way::from_node_to_service(stage), begun)?;
    for way in Way::to_service(stage) {
        way.show(teller)?;
        way.show_shares(MANY, teller)?;
    }
    teller.measure("a new Service, from the API server to the first answers", milliseconds(took))
}

pub(super) fn node_port(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    let (near, far) = (stage.near(), stage.far());
    let webs: Vec<&str> = stage.webs().map(|(_, pod)| pod.name()).collect();
    teller.head(&format!(
        "A client outside asks port {NODE_PORT} of {}. Policy Cluster: any node serves, by an address of its own.",
        near.name()
    ))?;
    let through_near = Way::in_by(stage, port_of(near), &webs, own_addresses(near));
    await_all(std::slice::from_ref(&through_near), Instant::now())?;
    through_near.show(teller)?;

    teller.head("Policy Local: only nodes with a pod serve, and the pod sees the client.")?;
    stage.serve("Local")?;
    let (_, silence) = await_nobody(&through_near, Instant::now(), SILENCE)?;
    if silence != Outcome::Timeout {
        return Err(Error::Wrong(format!("{} does not drop but gives {silence}", near.name())));
    }
    through_near.say("nobody answers", teller)?;
    let (_, web) = stage.webs().last().expect("there are nodes besides the client's");
    let client = of_family(&stage.cluster.lab.outside_addresses(), port_of(far).ip());
    let through_far = Way::in_by(stage, port_of(far), &[web.name()], vec![client]);
    await_all(std::slice::from_ref(&through_far), Instant::now())?;
    through_far.show(teller)
}

fn port_of(node: &Node) -> SocketAddr {
    SocketAddr::new(of_family(&node.addresses(), CLUSTER_IPS[0]), NODE_PORT)
}
