//! Services whose endpoints are elsewhere.

use crate::Outcomes;
use crate::stage::{BOTH, Stage, answer, answers, comes_to_answer, like, own_addresses};
use heddle_tests::namespace::Namespace;
use heddle_tests::traffic::{Outcome, attempt, attempt_here, spread};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// Longer than the kernel takes to repeat a lost SYN (1 s).
const SILENCE: Duration = Duration::from_millis(1500);
const FAR: [(&str, &str); 2] = [("node-2", "pod-2"), ("node-3", "pod-3")];
/// How many connections show that all of two endpoints serve: one is left out in one of 2^39 runs.
const MANY: usize = 40;
const NODE_PORT: u16 = 30_080;
const NODE_PORT_LOCAL: u16 = 30_081;
const NODE_PORT_OF_NOBODY: u16 = 30_082;

pub(crate) fn of_other_nodes(stage: &mut Stage) -> Outcomes {
    let web = stage.web(("web", 10), &FAR)?;
    stage.serve(&web, |_| ())?;
    let (pod, node) = (stage.pod("pod-1")?, stage.node("node-1")?);
    for ip in web.addresses {
        let to = SocketAddr::new(ip, 80);
        comes_to_answer(pod.namespace(), to, |outcome| outcome.endpoint().is_some())?;
        for transport in BOTH {
            let seen = spread(pod.namespace(), transport, to, MANY)?;
            let source = *like(pod.addresses(), &ip).ok_or("pods have the family")?;
            let wanted: BTreeSet<_> = FAR.iter().map(|(_, name)| answer(name, source)).collect();
            assert!(seen.keys().eq(&wanted), "{transport} {to}: {seen:?}");
            // A node without the family has no way to the Service's address.
            if like(&node.addresses(), &ip).is_none() {
                continue;
            }
            let seen = spread(node.namespace(), transport, to, MANY)?;
            let own = own_addresses(node);
            let is_own = |outcome: &Outcome| outcome.source().is_some_and(|ip| own.contains(&ip));
            assert!(seen.len() == FAR.len() && seen.keys().all(is_own), "{transport} {to}: {seen:?}");
        }
    }
    Ok(())
}

pub(crate) fn node_ports(stage: &mut Stage) -> Outcomes {
    let port = |number: u16, policy: &'static str| {
        move |object: &mut Value| {
            object["spec"]["type"] = json!("NodePort");
            object["spec"]["externalTrafficPolicy"] = json!(policy);
            for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
                port["nodePort"] = json!(number);
            }
        }
    };
    stage.serve(&stage.web(("nobody", 11), &[])?, port(NODE_PORT_OF_NOBODY, "Local"))?;
    stage.serve(&stage.web(("local", 12), &FAR)?, port(NODE_PORT_LOCAL, "Local"))?;
    stage.serve(&stage.web(("open", 13), &FAR[..1])?, port(NODE_PORT, "Cluster"))?;
    let lab = &stage.cluster.lab;
    let outside = lab.outside();
    for node in lab.nodes() {
        let own = own_addresses(node);
        for ip in node.addresses() {
            let to = |port| SocketAddr::new(ip, port);
            // The one that was made last: then all are known.
            comes_to_answer(outside, to(NODE_PORT), |outcome| outcome.endpoint().is_some())?;
            let is_own = |outcome: &Outcome| outcome.source().is_some_and(|ip| own.contains(&ip));
            for transport in BOTH {
                let outcome = attempt(outside, transport, to(NODE_PORT))?;
                assert!(
                    outcome.endpoint() == Some("pod-2") && is_own(&outcome),
                    "{transport} {ip}: {outcome}"
                );
            }
            let source = *like(&lab.outside_addresses(), &ip).ok_or("the underlay has the family")?;
            match FAR.iter().find(|(name, _)| *name == node.name()) {
                Some((_, pod)) => answers(outside, to(NODE_PORT_LOCAL), &answer(pod, source))?,
                None => is_silent(outside, to(NODE_PORT_LOCAL))?,
            }
            answers(outside, to(NODE_PORT_OF_NOBODY), &Outcome::Refused)?;
        }
    }
    Ok(())
}

/// Nothing comes back, over neither transport.
fn is_silent(from: &Namespace, to: SocketAddr) -> Outcomes {
    let ask = |transport| move || from.enter(|| attempt_here(transport, to, SILENCE));
    let outcomes = thread::scope(|scope| {
        BOTH.map(|transport| scope.spawn(ask(transport)))
            .map(|asked| asked.join().expect("it does not panic"))
    });
    for outcome in outcomes {
        assert_eq!(outcome?, Outcome::Timeout, "{to}");
    }
    Ok(())
}
