//! Session affinity: a client keeps its endpoint.

use super::{Outcomes, Stage, TARGET, VIP, put_endpoints};
use heddle_netlink::nft::{self, TableFamily};
use heddle_netlink::{Family, Socket};
use heddle_proxy::nft::ruleset;
use heddle_tests::lab::Node;
use heddle_tests::objects::service;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::traffic::{Transport, spread};
use serde_json::{Value, json};
use std::error::Error;
use std::time::Duration;

/// The Service with session affinity, or without.
fn sticky_service(affinity: bool) -> Value {
    let mut web = service("web", &[VIP.ip()], VIP.port(), TARGET);
    web["spec"]["sessionAffinity"] = json!(if affinity { "ClientIP" } else { "None" });
    web
}

/// kp:E3, kp:E4: a client keeps its endpoint over a restart of the proxy, until the endpoint goes; then it keeps the next
/// one, also when the first is back; and without affinity it is spread again.
#[test]
fn a_client_keeps_its_endpoint_as_long_as_that_is_there() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.await_answers(&["web-1", "web-2"])?;
    stage.manifests.put("service.json", &sticky_service(true).to_string())?;
    let node = stage.lab.node("node-1")?;
    eventually("the chain with affinity", PATIENCE, || {
        let listed = node.nft(["list", "table", "ip", "heddle-proxy"]).map_err(|e| e.to_string())?.stdout;
        if listed.contains("goto cluster-2-sticky") { Ok(()) } else { Err(listed) }
    })?;
    let first = only_answer(&stage)?;
    stage.proxy.process().kill()?;
    stage.restart()?;
    assert_eq!(only_answer(&stage)?, first, "what the kernel remembers outlives the proxy");

    let (gone, other) = if first == "web-1" { (0, 1) } else { (1, 0) };
    put_endpoints(&stage.manifests, &stage.webs[other..=other])?;
    stage.await_answers(&[stage.webs[other].name()])?;
    assert_eq!(stage.webs[gone].name(), first);
    put_endpoints(&stage.manifests, &stage.webs)?;
    eventually("both endpoints", PATIENCE, || {
        let listed = stage.lab.node("node-1").map_err(|e| e.to_string())?;
        let listed = listed.nft(["list", "table", "ip", "heddle-proxy"]).map_err(|e| e.to_string())?.stdout;
        if listed.contains("goto cluster-2-sticky") { Ok(()) } else { Err(listed) }
    })?;
    assert_eq!(only_answer(&stage)?, stage.webs[other].name());

    stage.manifests.put("service.json", &sticky_service(false).to_string())?;
    stage.await_answers(&["web-1", "web-2"])
}

/// The addresses of clients that the node's kernel remembers.
fn remembered(node: &Node) -> Result<usize, String> {
    let read = || -> Result<usize, heddle_netlink::Error> {
        let map = (ruleset::TABLE, ruleset::CLIENTS);
        Ok(nft::load_dynamic(&mut Socket::open(Family::Netfilter)?, TableFamily::Ip, map)?.len())
    };
    node.namespace().enter(read).map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// kp:E2: each new connection lets a client be remembered for the whole time again, and after that time it is forgotten.
#[test]
fn a_client_is_remembered_for_the_time_after_its_last_connection() -> Outcomes {
    let stage = Stage::new()?;
    let mut web = sticky_service(true);
    web["spec"]["sessionAffinityConfig"] = json!({ "clientIP": { "timeoutSeconds": 2 } });
    stage.manifests.put("service.json", &web.to_string())?;
    let node = stage.node()?;
    eventually("a remembered client", PATIENCE, || {
        spread(stage.client.namespace(), Transport::Tcp, VIP, 1).map_err(|e| e.to_string())?;
        if remembered(node)? == 1 { Ok(()) } else { Err("nobody is remembered".to_owned()) }
    })?;
    let first = only_answer(&stage)?;
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(only_answer(&stage)?, first, "after {:?}", start.elapsed());
    }
    eventually("no client remembered any more", PATIENCE, || match remembered(node)? {
        0 => Ok(()),
        more => Err(format!("{more} are remembered")),
    })?;
    Ok(())
}

/// Who answers 40 connections of the client; more than one is an error.
fn only_answer(stage: &Stage) -> Result<String, Box<dyn Error>> {
    let got = spread(stage.client.namespace(), Transport::Tcp, VIP, 40)?;
    match &got.keys().collect::<Vec<_>>()[..] {
        [one] => Ok(one.endpoint().unwrap_or("nobody").to_owned()),
        _ => Err(format!("one client was answered by more than one endpoint: {got:?}").into()),
    }
}
