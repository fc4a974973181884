//! What packets find: pods, nodes, and what is outside.

use crate::{Outcomes, Stage, comes_to, setting, towards};
use heddle_tests::lab::Node;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::traffic::{Outcome, Server, Transport, attempt, attempt_here};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];
const PORT: u16 = 8080;

fn answer(endpoint: &str, source: IpAddr) -> Outcome {
    Outcome::Answer { endpoint: endpoint.into(), source }
}

/// One of two addresses by family.
fn of_family<'a>(addresses: &'a [IpAddr], like: &IpAddr) -> &'a IpAddr {
    addresses.iter().find(|ip| ip.is_ipv4() == like.is_ipv4()).expect("there is one of each family")
}

#[test]
fn pods_of_three_nodes_reach_each_other_and_see_true_addresses() -> Outcomes {
    let names = ["node-1", "node-2", "node-3"];
    let stage = Stage::new(&names)?;
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        stage.node("node-2")?.namespace().sysctl(setting, "0")?;
    }
    let pods = names.map(|name| stage.node(name).and_then(|node| Ok(node.pod(&format!("pod-of-{name}"))?)));
    let [one, two, three] = pods;
    let pods = [one?, two?, three?];
    let to = SocketAddr::new(pods[1].addresses()[0], PORT);
    let alone = pods[0].namespace().enter(|| attempt_here(Transport::Tcp, to, Duration::from_millis(200)))?;
    assert_eq!(alone.endpoint(), None, "nobody else leads there");
    let _agents = names.map(|name| stage.agent(name, &[])).into_iter().collect::<Result<Vec<_>, _>>()?;
    for name in names {
        let others: Vec<&Node> = stage.lab.nodes().iter().filter(|node| node.name() != name).collect();
        comes_to(stage.node(name)?, &towards(&others))?;
    }
    assert_eq!(setting(stage.node("node-2")?, "ipv4/ip_forward")?, "1");
    assert_eq!(setting(stage.node("node-2")?, "ipv6/conf/all/forwarding")?, "1");
    for server in &pods {
        for transport in BOTH {
            let _server = Server::start(server.namespace(), server.name(), transport, PORT)?;
            for client in pods.iter().filter(|client| client.name() != server.name()) {
                for to in server.addresses() {
                    let source = *of_family(client.addresses(), to);
                    let outcome = attempt(client.namespace(), transport, SocketAddr::new(*to, PORT))?;
                    assert_eq!(outcome, answer(server.name(), source), "{transport} from {}", client.name());
                }
            }
        }
    }
    Ok(())
}

#[test]
fn what_leaves_the_cluster_has_the_nodes_address_and_nothing_else_has() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    let pod = one.pod("client")?;
    let mut agent = stage.agent("node-1", &[])?;
    let _other = stage.agent("node-2", &[])?;
    comes_to(one, &towards(&[two]))?;
    comes_to(two, &towards(&[one]))?;
    for transport in BOTH {
        let _outside = Server::start(stage.lab.outside(), "outside", transport, PORT)?;
        let _node = Server::start(two.namespace(), "node-2", transport, PORT)?;
        for to in stage.lab.outside_addresses() {
            let outcome = attempt(pod.namespace(), transport, SocketAddr::new(to, PORT))?;
            assert_eq!(outcome, answer("outside", *of_family(&one.addresses(), &to)), "{transport}");
        }
        for to in two.addresses() {
            let outcome = attempt(pod.namespace(), transport, SocketAddr::new(to, PORT))?;
            assert_eq!(outcome, answer("node-2", *of_family(pod.addresses(), &to)), "{transport}");
        }
    }
    agent.kill()?;
    let _agent = stage.agent("node-1", &["--non-masquerade-cidrs", "192.168.0.0/16,fd00:192::/64"])?;
    for to in stage.lab.outside_addresses() {
        let source = *of_family(pod.addresses(), &to);
        stage.lab.steer(source, "node-1")?;
        let _outside = Server::start(stage.lab.outside(), "outside", Transport::Tcp, PORT)?;
        eventually("a pod that is seen itself", PATIENCE, || {
            let outcome = attempt(pod.namespace(), Transport::Tcp, SocketAddr::new(to, PORT));
            let outcome = outcome.map_err(|error| error.to_string())?;
            if outcome == answer("outside", source) { Ok(()) } else { Err(outcome.to_string()) }
        })?;
    }
    Ok(())
}
