//! The health checks of Services.

use super::{CHECK, EVERYWHERE, Outcomes, PROBES, Stage, ask, balanced, start};
use heddle_netlink::address::Address;
use heddle_netlink::link::{self, Which};
use heddle_netlink::{Batch, Family, Socket};
use heddle_tests::lab::{Lab, Node};
use heddle_tests::objects::{list, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::Manifests;
use serde_json::{Value, json};
use std::error::Error;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// Two ready endpoints on the node in each family.
fn endpoints(name: &str) -> Result<[Value; 2], Box<dyn Error>> {
    let v4: [IpAddr; 2] = ["10.244.1.11".parse()?, "10.244.1.12".parse()?];
    let v6: [IpAddr; 2] = ["fd00:244:0:1::11".parse()?, "fd00:244:0:1::12".parse()?];
    Ok([slice(name, "node-1", &v4, 8080), slice(name, "node-1", &v6, 8080)])
}

fn terminating(mut slices: [Value; 2]) -> [Value; 2] {
    for slice in &mut slices {
        for endpoint in slice["endpoints"].as_array_mut().into_iter().flatten() {
            endpoint["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
        }
    }
    slices
}

/// kp:G6, kp:G7: the life of a health check: no endpoints, some, draining ones, another policy, and back.
#[test]
fn a_health_check_tells_load_balancers_of_ready_endpoints_on_the_node() -> Outcomes {
    let stage = Stage::new(&EVERYWHERE, &[balanced("web", CHECK)?])?;
    stage.check(503, "0")?;
    let [v4, v6] = endpoints("web")?;
    stage.put(&[balanced("web", CHECK)?, v4.clone(), v6.clone()])?;
    stage.check(200, "2")?;
    let reply = stage.reply("POST", stage.address(0, CHECK)?, "/any/path", 200)?;
    let web = json!({ "namespace": "default", "name": "web" });
    assert_eq!(reply.body, json!({ "service": web, "localEndpoints": 2, "serviceProxyHealthy": true }));

    let [old4, old6] = terminating(endpoints("web")?);
    stage.put(&[balanced("web", CHECK)?, old4, old6])?;
    stage.check(503, "0")?;

    let mut anywhere = balanced("web", CHECK)?;
    anywhere["spec"]["externalTrafficPolicy"] = json!("Cluster");
    stage.put(&[anywhere, v4.clone(), v6.clone()])?;
    for family in [0, 1] {
        stage.closed(stage.lab.outside(), stage.address(family, CHECK)?)?;
    }
    stage.put(&[balanced("web", CHECK)?, v4, v6])?;
    stage.check(200, "2")?;
    stage.put(&[])?;
    stage.closed(stage.lab.outside(), stage.address(0, CHECK)?)
}

/// kp:G7: whether the cluster wants the node is not the Service's affair.
#[test]
fn a_node_that_is_to_go_keeps_its_health_checks() -> Outcomes {
    let [v4, v6] = endpoints("web")?;
    let stage = Stage::new(&EVERYWHERE, &[balanced("web", CHECK)?, v4, v6])?;
    stage.probe("/healthz", 503)?;
    stage.check(200, "2")
}

/// kp:G6
#[test]
fn a_port_in_use_is_reported_by_service_and_taken_when_it_is_free() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    let taken = node.namespace().enter(|| TcpListener::bind(("0.0.0.0", CHECK)))??;
    manifests
        .put("objects.json", &list(&[balanced("web", CHECK)?, balanced("other", CHECK + 1)?]).to_string())?;
    let mut proxy = start(node, &manifests, &EVERYWHERE)?;
    proxy.process().prints("FailedToStartServiceHealthcheck")?;
    proxy
        .process()
        .prints("Service default/web: spec.healthCheckNodePort: this node cannot listen on 0.0.0.0:32000")?;
    let stage = Stage { proxy, manifests, lab };
    stage.reply("GET", stage.address(0, CHECK + 1)?, "/", 503)?;
    drop(taken);
    stage.check(503, "0")?;
    stage.put(&[balanced("other", CHECK)?])?;
    let reply = stage.reply("GET", stage.address(0, CHECK)?, "/", 503)?;
    assert!(reply.body["service"]["name"] == "web" || reply.body["service"]["name"] == "other");
    eventually("the port to go to the other Service", PATIENCE, || {
        let reply = stage.reply("GET", stage.address(0, CHECK).map_err(|e| e.to_string())?, "/", 503);
        let reply = reply.map_err(|e| e.to_string())?;
        if reply.body["service"]["name"] == "other" { Ok(()) } else { Err(format!("{reply:?}")) }
    })?;
    Ok(())
}

/// Gives the node's loopback link an address, or takes it away.
fn change_address(node: &Node, address: IpAddr, is_there: bool) -> Outcomes {
    let change = || -> Result<(), heddle_netlink::Error> {
        let mut socket = Socket::open(Family::Route)?;
        let Some(lo) = link::fetch(&mut socket, Which::Name("lo"))? else { return Ok(()) };
        let address = Address { link: lo.index, address: address.into() };
        let mut batch = Batch::new();
        if is_there {
            address.add(&mut batch)
        } else {
            address.delete(&mut batch)
        };
        socket.request(&mut batch)
    };
    Ok(node.namespace().enter(change)??)
}

/// kp:P9
#[test]
fn health_checks_follow_the_addresses_of_the_node() -> Outcomes {
    let networks = ["--nodeport-addresses", "203.0.113.0/24,2001:db8::/64"];
    let stage = Stage::new(&networks, &[balanced("web", CHECK)?])?;
    stage.probe("/readyz", 200)?;
    let node = stage.node()?;
    stage.closed(stage.lab.outside(), stage.address(0, CHECK)?)?;
    for address in ["203.0.113.5".parse::<IpAddr>()?, "2001:db8::5".parse()?, "203.0.113.5".parse()?] {
        let to = SocketAddr::new(address, CHECK);
        change_address(node, address, true)?;
        eventually(&format!("an answer of {to}"), PATIENCE, || {
            ask(node.namespace(), "GET", to, "/").map_err(|e| e.to_string())
        })?;
        change_address(node, address, false)?;
        let closed = format!("closed a health check address={to}");
        eventually(&closed, PATIENCE, || {
            if stage.proxy.log().contains(&closed) { Ok(()) } else { Err(stage.proxy.log()) }
        })?;
    }
    Ok(())
}

#[test]
fn a_proxy_that_was_killed_answers_again_when_it_is_started_again() -> Outcomes {
    let [v4, v6] = endpoints("web")?;
    let mut stage = Stage::new(&EVERYWHERE, &[balanced("web", CHECK)?, v4, v6])?;
    stage.check(200, "2")?;
    stage.proxy.process().kill()?;
    for port in [PROBES, CHECK] {
        stage.closed(stage.lab.outside(), stage.address(0, port)?)?;
    }
    stage.proxy = start(stage.lab.node("node-1")?, &stage.manifests, &EVERYWHERE)?;
    stage.check(200, "2")?;
    stage.probe("/livez", 200)?;
    assert!(!stage.proxy.log().contains("cannot listen"), "{}", stage.proxy.log());
    Ok(())
}
