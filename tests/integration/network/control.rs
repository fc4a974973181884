//! What tells nodes of each other is away: the agents, or the API server.

use crate::Outcomes;
use crate::nodes::{loses, none_failed, steadily};
use crate::stage::{Stage, comes_to_answer};
use std::net::SocketAddr;

pub(crate) fn agents_are_killed(stage: &mut Stage) -> Outcomes {
    let web = stage.web(("web", 10), &[("node-3", "pod-3")])?;
    stage.serve(&web, |_| ())?;
    for ip in &web.addresses {
        let client = stage.pod("pod-2")?.namespace();
        comes_to_answer(client, SocketAddr::new(*ip, 80), |outcome| outcome.endpoint().is_some())?;
    }
    let mut clients = steadily(stage.pod("pod-1")?, stage.pod("pod-3")?.addresses())?;
    clients.extend(steadily(stage.pod("pod-3")?, stage.pod("pod-2")?.addresses())?);
    for name in stage.cluster.names() {
        stage.cluster.kill_agent(&name)?;
    }
    clients.iter().try_for_each(|client| client.sees(20))?;
    for name in stage.cluster.names() {
        stage.cluster.start_agent(&name)?;
        stage.cluster.ready(&name)?;
    }
    none_failed(clients)
}

pub(crate) fn api_server_is_away(stage: &mut Stage) -> Outcomes {
    let mut clients = steadily(stage.pod("pod-1")?, stage.pod("pod-3")?.addresses())?;
    clients.extend(steadily(stage.pod("pod-3")?, stage.pod("pod-2")?.addresses())?);
    stage.cluster.api.refuse()?;
    let agent = stage.cluster.agent("node-1").ok_or("an agent runs on each node")?;
    agent.prints("the API server fails")?;
    // One that starts now knows nobody, and leaves what is there.
    stage.cluster.start_agent("node-2")?;
    let agent = stage.cluster.agent("node-2").ok_or("an agent runs on each node")?;
    agent.prints("the API server fails")?;
    clients.iter().try_for_each(|client| client.sees(50))?;
    stage.cluster.unregister("node-3")?;
    let web = stage.web(("web", 10), &[("node-2", "pod-2")])?;
    stage.serve(&web, |_| ())?;
    none_failed(clients)?;
    stage.cluster.api.listen()?;
    for from in [stage.pod("pod-1")?, stage.pod("pod-2")?] {
        loses(from, stage.pod("pod-3")?.addresses())?;
        for ip in &web.addresses {
            let to = SocketAddr::new(*ip, 80);
            comes_to_answer(from.namespace(), to, |outcome| outcome.endpoint() == Some("pod-2"))?;
        }
    }
    Ok(())
}
