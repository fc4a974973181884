//! What clients notice of changes, and of the proxy's own end and start.

use super::{Outcomes, Stage, TARGET, VIP, put_endpoints, ruleset_of};
use heddle_tests::lab::Pod;
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::traffic::{Outcome, Server, Steady, Transport, attempt, attempt_here};
use serde_json::{Value, json};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A second port of the same Service, where a test wants one.
const SECOND: SocketAddr = SocketAddr::new(VIP.ip(), 81);

#[test]
fn clients_do_not_notice_that_the_proxy_was_killed_and_started_again() -> Outcomes {
    let mut stage = Stage::new()?;
    let before = ruleset_of(stage.node()?)?;
    let steady = Steady::start(stage.client.namespace(), Transport::Tcp, VIP)?;
    steady.sees(100)?;
    stage.proxy.process().kill()?;
    steady.sees(100)?;
    stage.restart()?;
    steady.sees(100)?;
    let report = steady.stop()?;
    assert!(report.is_flawless(), "{report:?}");
    assert_eq!(ruleset_of(stage.node()?)?, before);
    Ok(())
}

#[test]
fn what_changed_while_the_proxy_was_dead_is_done_at_its_start() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.await_answers(&["web-1", "web-2"])?;
    stage.proxy.process().kill()?;
    put_endpoints(&stage.manifests, &stage.webs[1..])?;
    stage.restart()?;
    stage.await_answers(&["web-2"])
}

/// The life of a Service: endpoints come and go, then the Service itself.
#[test]
fn changes_of_a_running_service_are_followed() -> Outcomes {
    let stage = Stage::new()?;
    stage.await_answers(&["web-1", "web-2"])?;
    put_endpoints(&stage.manifests, &stage.webs[..1])?;
    stage.await_answers(&["web-1"])?;
    put_endpoints(&stage.manifests, &stage.webs)?;
    stage.await_answers(&["web-1", "web-2"])?;
    stage.manifests.remove("service.json")?;
    eventually("no way to the Service", PATIENCE, || {
        match attempt(stage.client.namespace(), Transport::Tcp, VIP).map_err(|e| e.to_string())? {
            Outcome::Unreachable => Ok(()),
            other => Err(other.to_string()),
        }
    })?;
    Ok(())
}

/// The objects of the stage's Service with a second port, which goes to `target`.
fn two_ports(stage: &Stage, protocol: &str, target: u16) -> Result<[Value; 2], Box<dyn Error>> {
    let addresses: Vec<IpAddr> = stage.webs.iter().flat_map(Pod::addresses).copied().collect();
    let mut web = service("web", &[VIP.ip()], VIP.port(), TARGET);
    let mut endpoints = slice("web", "node-1", &addresses, TARGET);
    let ports = web["spec"]["ports"].as_array_mut().ok_or("a Service has ports")?;
    ports.push(
        json!({ "name": "second", "protocol": protocol, "port": SECOND.port(), "targetPort": "second" }),
    );
    let ports = endpoints["ports"].as_array_mut().ok_or("a slice has ports")?;
    ports.push(json!({ "name": "second", "protocol": protocol, "port": target }));
    Ok([web, endpoints])
}

/// kp:C19: a port is added, gets another target, another protocol, and goes; clients of the first port notice nothing.
/// A port of the cluster IP that no Service has any more is refused (kp:C13).
#[test]
fn changes_of_one_port_do_not_disturb_another() -> Outcomes {
    let stage = Stage::new()?;
    let client = stage.client.namespace();
    let steady = Steady::start(client, Transport::Tcp, VIP)?;
    let mut servers = Vec::new();
    for (transport, target) in [(Transport::Tcp, 9001), (Transport::Tcp, 9002), (Transport::Udp, 9003)] {
        let name = format!("{transport}-{target}");
        for pod in &stage.webs {
            servers.push(Server::start(pod.namespace(), &name, transport, target)?);
        }
        let [web, endpoints] = two_ports(&stage, &transport.to_string().to_uppercase(), target)?;
        stage.manifests.put("service.json", &web.to_string())?;
        stage.manifests.put("endpoints.json", &endpoints.to_string())?;
        await_outcome(client, transport, |outcome| outcome.endpoint() == Some(&name))?;
    }
    await_outcome(client, Transport::Tcp, |outcome| *outcome == Outcome::Refused)?;
    stage.manifests.put("service.json", &service("web", &[VIP.ip()], VIP.port(), TARGET).to_string())?;
    await_outcome(client, Transport::Udp, |outcome| outcome.endpoint().is_none())?;
    steady.sees(10)?;
    let report = steady.stop()?;
    assert!(report.is_flawless(), "{report:?}");
    Ok(())
}

/// Waits until an attempt at the second port ends as it should.
fn await_outcome(from: &Namespace, transport: Transport, right: impl Fn(&Outcome) -> bool) -> Outcomes {
    eventually("another outcome of the second port", PATIENCE, || {
        let outcome = from.enter(|| attempt_here(transport, SECOND, Duration::from_millis(200)));
        match outcome.map_err(|e| e.to_string())? {
            outcome if right(&outcome) => Ok(()),
            outcome => Err(outcome.to_string()),
        }
    })?;
    Ok(())
}

#[test]
fn a_steady_client_of_an_unchanged_endpoint_survives_every_other_change() -> Outcomes {
    let stage = Stage::new()?;
    let steady = Steady::start(stage.client.namespace(), Transport::Tcp, VIP)?;
    for round in 0..20 {
        // The endpoints that are named do listen; so no attempt may fail, whichever of the two states it meets.
        put_endpoints(&stage.manifests, &stage.webs[round % 2..])?;
        steady.sees(10)?;
    }
    let report = steady.stop()?;
    assert!(report.is_flawless(), "{report:?}");
    Ok(())
}
