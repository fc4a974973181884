//! What goes wrong on nodes, and what packets notice of it.

use crate::demo::Error;
use crate::demo::stage::Stage;
use crate::demo::teller::{Teller, milliseconds};
use crate::demo::way::{Way, await_all, await_nobody, ways_of_client};
use crate::patience::{PATIENCE, eventually};
use std::time::{Duration, Instant};

/// What somebody does to a node.
const DAMAGES: [&str; 3] = ["ip route flush proto 110", "ip link delete heddle-vxlan", "nft flush ruleset"];
/// What shows all that heddle-node keeps on a node; that heddle-proxy's part is whole, connections show.
const STATE: [&str; 6] = [
    "ip route show table all proto 110",
    "ip -6 route show table all proto 110",
    "ip rule",
    "ip -6 rule",
    "nft list table ip heddle-node",
    "nft list table ip6 heddle-node",
];
/// How many connections are made on each way while nothing of ours runs.
const MEANWHILE: usize = 50;
/// How long one attempt waits for a node that has left.
const BRIEFLY: Duration = Duration::from_millis(100);

pub(super) fn others_flush(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    let (near, ways) = (stage.near(), ways_of_client(stage));
    teller.head(&format!(
        "Somebody damages {}. The client connects to pods, Service and outside until all of it works again.",
        near.name()
    ))?;
    for damage in DAMAGES {
        let before = state(stage)?;
        let begun = Instant::now();
        stage.run(near, damage)?;
        let took = await_all(&ways, begun)?;
        teller.measure(&format!("whole again after `{damage}`"), milliseconds(took))?;
        eventually(&format!("what was there before {damage}: {before}"), PATIENCE, || match state(stage) {
            Ok(after) if after == before => Ok(()),
            Ok(after) => Err(after),
            Err(error) => Err(error.to_string()),
        })?;
    }
    teller.show(near.name(), "heddle-node status", (&stage.status(near)?, "drift"))
}

/// All that heddle-node keeps on the client's node, as `ip` and `nft` print it.
fn state(stage: &Stage) -> Result<String, Error> {
    STATE.iter().map(|command| stage.run(stage.near(), command)).collect()
}

pub(super) fn programs_are_killed(stage: &mut Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    teller.head(
        "kill -9 of heddle-node and heddle-proxy on every node, and their start, while the client connects.",
    )?;
    let ways = ways_of_client(stage);
    let clients = ways.iter().map(Way::ask_steadily).collect::<Result<Vec<_>, _>>()?;
    stage.kill_programs()?;
    clients.iter().try_for_each(|client| client.sees(MEANWHILE))?;
    stage.start_programs()?;
    clients.iter().try_for_each(|client| client.sees(MEANWHILE / 5))?;
    let mut attempts = 0;
    for (way, client) in ways.iter().zip(clients) {
        let report = client.stop()?;
        attempts += report.attempts;
        if !report.failures.is_empty() {
            return Err(Error::Wrong(format!("{way:?} failed: {:?}", report.failures)));
        }
    }
    teller.measure("connections without the programs, and while they start", attempts.to_string())?;
    teller.measure("of which failed", "0".to_owned())
}

pub(super) fn a_node_leaves(stage: &Stage, teller: &mut Teller<'_>) -> Result<(), Error> {
    let far = stage.far().name();
    teller.head(&format!("{far} leaves the cluster."))?;
    let (_, pod) = stage.webs().last().expect("there are nodes besides the client's");
    let [way, ..] = &Way::between(stage.client(), pod)[..] else { return Ok(()) };
    let begun = Instant::now();
    stage.cluster.unregister(far)?;
    let (took, outcome) = await_nobody(way, begun, BRIEFLY)?;
    way.say(&outcome.to_string(), teller)?;
    teller.measure("a node that left: its pods are not sent to any more after", milliseconds(took))
}
