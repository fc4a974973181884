//! The lab itself: does its network behave as the scenarios suppose?

use heddle_tests::lab::{Families, Lab, Underlay};
use heddle_tests::namespace::Namespace;
use heddle_tests::patience::PATIENCE;
use heddle_tests::process::Invocation;
use heddle_tests::scenario::{self, Scenario, Served, pass_traffic};
use heddle_tests::traffic::{Outcome, Server, Steady, Transport, attempt, attempt_here, repeated_syns};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr};

type Outcomes = Result<(), Box<dyn Error>>;

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

fn answer(endpoint: &str, source: IpAddr) -> Outcome {
    Outcome::Answer { endpoint: endpoint.into(), source }
}

#[test]
fn nodes_reach_each_other_and_see_true_addresses() -> Outcomes {
    let lab = Lab::new(&["node-1", "node-2"])?;
    let (one, two) = (lab.node("node-1")?, lab.node("node-2")?);
    for transport in BOTH {
        let _server = Server::start(two.namespace(), "two", transport, 80)?;
        for (to, source) in two.addresses().into_iter().zip(one.addresses()) {
            assert_eq!(attempt(one.namespace(), transport, SocketAddr::new(to, 80))?, answer("two", source));
        }
    }
    Ok(())
}

#[test]
fn a_router_between_subnets_passes_nodes_packets_on_and_knows_nothing_of_pods() -> Outcomes {
    let lab = Lab::on(Underlay::routed(&[&["node-1", "node-2"], &["node-3"]]))?;
    let (two, three) = (lab.node("node-2")?, lab.node("node-3")?);
    let _server = Server::start(three.namespace(), "three", Transport::Tcp, 80)?;
    for (to, source) in three.addresses().into_iter().zip(two.addresses()) {
        let outcome = attempt(two.namespace(), Transport::Tcp, SocketAddr::new(to, 80))?;
        assert_eq!(outcome, answer("three", source));
    }
    for (to, source) in three.addresses().into_iter().zip(lab.outside_addresses()) {
        assert_eq!(attempt(lab.outside(), Transport::Tcp, SocketAddr::new(to, 80))?, answer("three", source));
    }
    for to in three.pod("web")?.addresses() {
        let outcome = attempt(two.namespace(), Transport::Tcp, SocketAddr::new(*to, 80))?;
        assert_eq!(outcome, Outcome::Unreachable, "tcp to {to}");
    }
    Ok(())
}

#[test]
fn an_underlay_of_one_family_has_no_addresses_of_the_other_and_the_mtu_that_was_asked_for() -> Outcomes {
    for families in [Families::Ipv4, Families::Ipv6] {
        let underlay = Underlay::routed(&[&["node-1"], &["node-2"]]);
        let lab = Lab::on(underlay.carrying(families).with_mtu(1400))?;
        let (one, two) = (lab.node("node-1")?, lab.node("node-2")?);
        let [to] = two.addresses()[..] else { return Err("a node has one address".into()) };
        assert_eq!(to.is_ipv6(), families == Families::Ipv6);
        let _server = Server::start(two.namespace(), "two", Transport::Udp, 80)?;
        let outcome = attempt(one.namespace(), Transport::Udp, SocketAddr::new(to, 80))?;
        assert_eq!(outcome, answer("two", one.addresses()[0]));
        let links = Invocation::foreign("ip").args(["-o", "addr"]).run(one.namespace())?.stdout;
        let other = if to.is_ipv6() { "192.168.0" } else { "fd00:192:" };
        assert!(!links.contains(other), "{links}");
        for (host, link) in [(one.namespace(), "eth0"), (lab.fabric(), "fabric"), (lab.fabric(), "fabric-1")]
        {
            let mtu = host.enter(|| fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{link}/mtu")))??;
            assert_eq!(mtu.trim(), "1400", "{link} of {}", host.name());
        }
    }
    Ok(())
}

#[test]
fn a_closed_port_refuses_and_a_strange_network_is_unreachable() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    for to in lab.node("node-1")?.addresses() {
        for transport in BOTH {
            assert_eq!(attempt(lab.outside(), transport, SocketAddr::new(to, 80))?, Outcome::Refused);
        }
    }
    // UDP sockets are not told of unreachable networks over IPv4 (they are "soft" errors), TCP sockets are.
    for to in ["10.96.0.10:80", "[fd00:96::10]:80"] {
        let outcome = attempt(lab.node("node-1")?.namespace(), Transport::Tcp, to.parse()?)?;
        assert_eq!(outcome, Outcome::Unreachable, "tcp to {to}");
    }
    Ok(())
}

#[test]
fn the_test_itself_stays_in_its_own_namespace() -> Outcomes {
    let before = fs::read_link("/proc/thread-self/ns/net")?;
    let other = Namespace::new("other")?;
    let inside = other.enter(|| fs::read_link("/proc/thread-self/ns/net"))??;
    assert_ne!(before, inside);
    assert_eq!(before, fs::read_link("/proc/thread-self/ns/net")?);
    assert_eq!(fs::read_link(other.path())?, inside, "other programs find it by its path");
    Ok(())
}

#[test]
fn a_program_runs_in_the_namespace_and_dies_with_its_handle() -> Outcomes {
    let other = Namespace::new("other")?;
    let links = Invocation::foreign("cat").args(["/proc/self/net/dev"]).run(&other)?;
    let names: Vec<&str> =
        links.stdout.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert!(links.status.success() && names.contains(&"lo") && !names.contains(&"eth0"), "{links:?}");

    let mut waiting =
        Invocation::foreign("sh").args(["-c", "echo $$; exec tail -f /dev/null"]).start(&other)?;
    waiting.prints("\n")?;
    let folder = format!("/proc/{}", waiting.stdout().trim());
    assert!(fs::exists(&folder)?);
    waiting.kill()?;
    assert!(!waiting.wait(PATIENCE)?.success());
    assert!(!fs::exists(&folder)?);
    Ok(())
}

#[test]
fn a_steady_client_remembers_a_server_that_went_away() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let server = Server::start(node.namespace(), "web", Transport::Tcp, 80)?;
    let steady = Steady::start(lab.outside(), Transport::Tcp, SocketAddr::new(node.addresses()[0], 80))?;
    steady.sees(20)?;
    drop(server);
    steady.sees(20)?;
    let report = steady.stop()?;
    assert!(report.attempts >= 40);
    assert!(report.failures.len() >= 19, "{report:?}");
    Ok(())
}

#[test]
fn pods_reach_pods_on_both_nodes_without_nat() -> Outcomes {
    let lab = Lab::new(&["node-1", "node-2"])?;
    let (one, two) = (lab.node("node-1")?, lab.node("node-2")?);
    let pods = [one.pod("a")?, one.pod("b")?, two.pod("c")?];
    for transport in BOTH {
        for to in &pods {
            let _server = Server::start(to.namespace(), to.name(), transport, 8080)?;
            for from in &pods {
                for (address, source) in to.addresses().iter().zip(from.addresses()) {
                    let outcome = attempt(from.namespace(), transport, SocketAddr::new(*address, 8080))?;
                    assert_eq!(outcome, answer(to.name(), *source), "{} to {address}", from.name());
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_pod_gets_the_address_that_was_asked_for() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let addresses: Vec<IpAddr> = vec!["10.244.1.77".parse()?, "fd00:244:0:1::77".parse()?];
    let pod = lab.node("node-1")?.pod_at("web", &addresses)?;
    assert_eq!(pod.addresses(), addresses);
    let alone = lab.node("node-1")?.pod_at("old", &addresses[..1]);
    assert!(alone.is_err(), "the address is taken");
    pod.delete()?;
    assert_eq!(lab.node("node-1")?.pod_at("new", &addresses[..1])?.addresses(), &addresses[..1]);
    Ok(())
}

/// The first pod of a node is reached over IPv6 without a lost packet: TCP would repeat one, after a second. A router
/// whose link-local address is still searched for duplicates asks for no neighbour.
#[test]
fn the_first_pod_of_a_node_is_reached_over_ipv6_at_once() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let pod = lab.node("node-1")?.pod("web")?;
    let _server = Server::start(pod.namespace(), "web", Transport::Tcp, 8080)?;
    let address = pod.addresses().iter().find(|ip| ip.is_ipv6()).ok_or("the pod has no IPv6 address")?;
    let to = SocketAddr::new(*address, 8080);
    let ask = || (attempt_here(Transport::Tcp, to, PATIENCE), repeated_syns());
    let (outcome, repeated) = lab.outside().enter(ask)?;
    assert_eq!((outcome, repeated), (answer("web", lab.outside_addresses()[1]), 0));
    Ok(())
}

/// A Service with one endpoint, and traffic that is true in its first line and wrong in its second.
const HALF_TRUE: &str = "\
# A scenario that is not true
--- topology
node-1
    client  10.244.1.10
    web-1   10.244.1.11   tcp:8080
--- objects
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-a, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: \"\", port: 8080}]
endpoints: [{addresses: [10.244.1.11]}]
--- traffic
client tcp -> 10.96.0.10:80 = web-1, source kept
web-1 tcp -> 10.96.0.10:80 = web-1, source kept
";

#[test]
fn a_scenario_that_is_not_true_fails_with_the_line_and_what_came_instead() -> Outcomes {
    let mut scenario = Scenario::parse(HALF_TRUE)?;
    scenario.outcomes = scenario::Outcomes::of(&scenario);
    let Err(scenario::Error::Mismatches { mismatches, rulesets }) =
        pass_traffic(&scenario, Served::AtPackets)
    else {
        return Err("the scenario passed".into());
    };
    let got =
        mismatches.iter().map(|m| (m.line, m.got.keys().cloned().collect())).collect::<Vec<(_, Vec<_>)>>();
    assert_eq!(got, [(20, vec![answer("web-1", "10.244.1.1".parse()?)])]);
    assert!(rulesets.contains("table ip heddle-proxy"), "{rulesets}");
    Ok(())
}

#[test]
fn a_kernel_that_holds_something_else_than_the_scenario_says_fails() -> Outcomes {
    let mut scenario = Scenario::parse(HALF_TRUE)?;
    scenario.traffic.clear();
    scenario.outcomes = scenario::Outcomes::of(&scenario);
    scenario.outcomes.nft =
        scenario.outcomes.nft.replace("10.96.0.10 . tcp . 80 . 0", "10.96.0.10 . tcp . 81 . 0");
    let failed = pass_traffic(&scenario, Served::AtPackets).err().ok_or("the scenario passed")?;
    assert!(matches!(failed, scenario::Error::Kernel { .. }), "{failed}");
    Ok(())
}
