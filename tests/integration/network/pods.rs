//! Pods and nodes, with no Service between.

use crate::Outcomes;
use crate::stage::{BOTH, Stage, TARGET, answer, answers, like, own_addresses};
use heddle_tests::lab::{Node, Pod};
use heddle_tests::traffic::{Server, Transport, attempt};
use std::net::SocketAddr;

pub(crate) fn reach_each_other(stage: &mut Stage) -> Outcomes {
    for to in stage.pods() {
        for from in stage.pods().filter(|from| from.name() != to.name()) {
            for (address, source) in to.addresses().iter().zip(from.addresses()) {
                answers(from.namespace(), SocketAddr::new(*address, TARGET), &answer(to.name(), *source))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn and_nodes(stage: &mut Stage) -> Outcomes {
    for node in stage.cluster.lab.nodes() {
        let name = node.name();
        let _servers = BOTH.map(|transport| Server::start(node.namespace(), name, transport, TARGET));
        for pod in stage.pods() {
            for to in node.addresses() {
                // A pod without the family has no way there.
                let Some(source) = like(pod.addresses(), &to) else { continue };
                let to = SocketAddr::new(to, TARGET);
                if own_pod(node, pod) {
                    // Over UDP the answer would come from the bridge's address: the server is bound to none.
                    assert_eq!(attempt(pod.namespace(), Transport::Tcp, to)?, answer(name, *source));
                } else {
                    answers(pod.namespace(), to, &answer(name, *source))?;
                }
            }
            for to in pod.addresses() {
                for transport in BOTH {
                    let outcome = attempt(node.namespace(), transport, SocketAddr::new(*to, TARGET))?;
                    assert_eq!(outcome.endpoint(), Some(pod.name()), "{transport} {name} -> {to}: {outcome}");
                    let own = own_addresses(node);
                    assert!(outcome.source().is_some_and(|ip| own.contains(&ip)), "{outcome} from {own:?}");
                }
            }
        }
    }
    Ok(())
}

fn own_pod(node: &Node, pod: &Pod) -> bool {
    node.pod_ranges().iter().any(|range| pod.addresses().iter().any(|ip| range.contains(*ip)))
}

pub(crate) fn leave_the_cluster(stage: &mut Stage) -> Outcomes {
    let lab = &stage.cluster.lab;
    let _servers = BOTH.map(|transport| Server::start(lab.outside(), "outside", transport, TARGET));
    for (node, pod) in lab.nodes().iter().zip(stage.pods()) {
        for to in lab.outside_addresses() {
            let addresses = node.addresses();
            let Some(source) = like(&addresses, &to) else { continue };
            answers(pod.namespace(), SocketAddr::new(to, TARGET), &answer("outside", *source))?;
        }
    }
    Ok(())
}
