//! The real `heddle-proxy` on a node of the lab: restarts, damage, bad input, and many Services.

use heddle_netlink::nft::{self, TableFamily};
use heddle_netlink::{Family, Socket};
use heddle_proxy::nft::ruleset;
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, Output};
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{Outcome, Server, Steady, Transport, attempt, attempt_here, spread};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::channel;
use std::time::Duration;

type Outcomes = Result<(), Box<dyn Error>>;

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
/// A second port of the same Service, where a test wants one.
const SECOND: SocketAddr = SocketAddr::new(VIP.ip(), 81);
const TARGET: u16 = 8080;

/// A node with a client, two endpoints, a Service over both, and a proxy that knows them.
struct Stage {
    proxy: Proxy,
    manifests: Manifests,
    _servers: Vec<Server>,
    webs: Vec<Pod>,
    client: Pod,
    lab: Lab,
}

impl Stage {
    fn new() -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let node = lab.node("node-1")?;
        let client = node.pod_at("client", &["10.244.1.10".parse()?])?;
        let webs = vec![
            node.pod_at("web-1", &["10.244.1.11".parse()?])?,
            node.pod_at("web-2", &["10.244.1.12".parse()?])?,
        ];
        let server = |pod: &Pod| Server::start(pod.namespace(), pod.name(), Transport::Tcp, TARGET);
        let servers = webs.iter().map(server).collect::<Result<_, _>>()?;
        let manifests = Manifests::of(node)?;
        manifests.put("service.json", &service("web", &[VIP.ip()], VIP.port(), TARGET).to_string())?;
        put_endpoints(&manifests, &webs)?;
        let proxy = Proxy::start(node, &manifests)?;
        proxy.ready(node)?;
        Ok(Self { proxy, manifests, _servers: servers, webs, client, lab })
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    /// Waits until exactly these pods answer.
    fn await_answers(&self, names: &[&str]) -> Outcomes {
        let wanted: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        eventually(&format!("answers of {names:?}"), PATIENCE, || {
            let got = spread(self.client.namespace(), Transport::Tcp, VIP, 40).map_err(|e| e.to_string())?;
            let answered: BTreeSet<String> =
                got.keys().map(|o| o.endpoint().unwrap_or("nobody").to_owned()).collect();
            if answered == wanted { Ok(()) } else { Err(format!("{got:?}")) }
        })?;
        Ok(())
    }

    fn restart(&mut self) -> Outcomes {
        self.proxy = Proxy::start(self.lab.node("node-1")?, &self.manifests)?;
        self.proxy.process().prints("wrote the Services of this node")?;
        Ok(())
    }
}

fn put_endpoints(manifests: &Manifests, pods: &[Pod]) -> Outcomes {
    let addresses: Vec<IpAddr> = pods.iter().flat_map(Pod::addresses).copied().collect();
    Ok(manifests.put("endpoints.json", &slice("web", "node-1", &addresses, TARGET).to_string())?)
}

/// Everything that the node's kernel holds, as nft lists it.
fn ruleset_of(node: &Node) -> Result<String, Box<dyn Error>> {
    let listed = node.nft(["list", "ruleset"])?;
    assert!(listed.status.success(), "{listed:?}");
    Ok(listed.stdout)
}

/// Runs the proxy with arguments that must make it end.
fn refused(arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    Ok(Invocation::of("heddle-proxy")?
        .args(["--status-socket="])
        .args(arguments)
        .run(&Namespace::new("node")?)?)
}

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

#[test]
fn a_flushed_ruleset_is_whole_again_within_a_second() -> Outcomes {
    let stage = Stage::new()?;
    let node = stage.node()?;
    let before = ruleset_of(node)?;
    for damage in [&["flush", "ruleset"][..], &["flush", "map", "ip", "heddle-proxy", "services"]] {
        assert!(node.nft(damage.iter().copied())?.status.success());
        eventually("the rules as they were", Duration::from_secs(1), || {
            let now = ruleset_of(node).map_err(|e| e.to_string())?;
            if now == before { Ok(()) } else { Err(now) }
        })?;
    }
    Ok(())
}

#[test]
fn tables_of_others_are_left_alone() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let foreign = "table inet firewall {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t\ttcp dport 22 accept\n\t}\n}\n";
    let loaded = Invocation::foreign("nft").args(["-f", "-"]).input(foreign).run(node.namespace())?;
    assert!(loaded.status.success(), "{loaded:?}");
    let manifests = Manifests::of(node)?;
    let _proxy = Proxy::start(node, &manifests).and_then(|proxy| proxy.ready(node).map(|()| proxy))?;
    assert!(ruleset_of(node)?.contains(foreign));
    Ok(())
}

#[test]
fn two_starts_over_the_same_objects_give_the_same_bytes() -> Outcomes {
    let mut stage = Stage::new()?;
    let first = ruleset_of(stage.node()?)?;
    stage.proxy.process().kill()?;
    assert!(stage.node()?.nft(["flush", "ruleset"])?.status.success());
    // The same objects, cut into files in another way.
    let addresses: Vec<IpAddr> = stage.webs.iter().rev().flat_map(Pod::addresses).copied().collect();
    let items = [slice("web", "node-1", &addresses, TARGET), service("web", &[VIP.ip()], VIP.port(), TARGET)];
    stage.manifests.remove("service.json")?;
    stage.manifests.remove("endpoints.json")?;
    stage.manifests.put("all.yaml", &list(&items).to_string())?;
    stage.restart()?;
    stage.proxy.ready(stage.node()?)?;
    assert_eq!(ruleset_of(stage.node()?)?, first);
    Ok(())
}

#[test]
fn the_listing_of_nft_can_be_loaded_again() -> Outcomes {
    let stage = Stage::new()?;
    let listed = ruleset_of(stage.node()?)?;
    let other = Namespace::new("other")?;
    let loaded = Invocation::foreign("nft").args(["-f", "-"]).input(listed.clone()).run(&other)?;
    assert!(loaded.status.success(), "{loaded:?}");
    let again = Invocation::foreign("nft").args(["list", "ruleset"]).run(&other)?;
    assert_eq!(again.stdout, listed);
    Ok(())
}

/// Number of elements in one of the node's sets.
fn elements(node: &Node, set: &str) -> Result<usize, Box<dyn Error>> {
    let load = || nft::load(&mut Socket::open(Family::Netfilter)?, TableFamily::Ip, ruleset::TABLE);
    let table = node.namespace().enter(load)??.ok_or("there is no table")?;
    Ok(table.sets[set].elements.len())
}

/// 10 000 Services, each with these endpoints.
fn ten_thousand(endpoints: [u8; 3]) -> Vec<(String, String)> {
    let address = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    (0..100u8)
        .map(|file| {
            let items = (0..100u8).flat_map(|one| {
                let name = format!("s-{file}-{one}");
                let pods = endpoints.map(|last| address(10, 100 + file / 100, file, last));
                [
                    service(&name, &[address(10, 96, file, one)], 80, TARGET),
                    slice(&name, "node-2", &pods, TARGET),
                ]
            });
            (format!("{file}.json"), list(&items.collect::<Vec<_>>()).to_string())
        })
        .collect()
}

/// nfnetlink's group of notifications for nf_tables, and the kind of the message that ends each commit's.
const NFT_GROUP: u32 = 7;
const NEW_GENERATION: u16 = (10 << 8) | 15;

#[test]
fn ten_thousand_services_are_loaded_and_one_changed_endpoint_costs_one_small_batch() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    for (name, text) in ten_thousand([1, 2, 3]) {
        manifests.put(&name, &text)?;
    }
    let proxy = Proxy::start(node, &manifests)?;
    proxy.ready(node)?;
    assert_eq!((elements(node, ruleset::SERVICES)?, elements(node, ruleset::ENDPOINTS)?), (10_000, 30_000));

    let mut socket = node.namespace().enter(|| Socket::open(Family::Netfilter))??;
    socket.subscribe(NFT_GROUP)?;
    let (heard, hear) = channel();
    let listener = std::thread::spawn(move || {
        let (mut kinds, mut whole) = (Vec::new(), true);
        while whole && !kinds.contains(&NEW_GENERATION) {
            whole = socket.listen(|message| kinds.push(message.kind)).unwrap_or(false);
        }
        heard.send((whole, kinds))
    });
    let pods = ["10.100.7.1", "10.100.7.2", "10.100.7.9"]
        .map(str::parse)
        .into_iter()
        .collect::<Result<Vec<IpAddr>, _>>()?;
    let mut files = ten_thousand([1, 2, 3]);
    let (name, text) = files.swap_remove(7);
    let old = slice(
        "s-7-7",
        "node-2",
        &["10.100.7.1".parse()?, "10.100.7.2".parse()?, "10.100.7.3".parse()?],
        TARGET,
    );
    let changed = text.replace(&old.to_string(), &slice("s-7-7", "node-2", &pods, TARGET).to_string());
    assert_ne!(text, changed);
    manifests.put(&name, &changed)?;
    let (whole, kinds) = hear.recv_timeout(PATIENCE)?;
    listener.join().map_err(|_| "the listener panicked")??;
    assert!(whole, "notifications were lost");
    assert_eq!(kinds.len(), 3, "one element out, one in, one new generation: {kinds:?}");
    Ok(())
}

#[test]
fn an_unknown_flag_is_named_and_ends_the_program() -> Outcomes {
    let output = refused(&["--manifests", "/proc", "--bogus"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.contains("unexpected argument '--bogus'"), "{output:?}");
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_read_is_named_and_ends_the_program() -> Outcomes {
    for folder in ["/nowhere/manifests", "/proc/version"] {
        let output = refused(&["--manifests", folder, "--hostname-override", "node-1"])?;
        assert_eq!(output.status.code(), Some(1));
        let text = format!("cannot read the manifests folder {folder}");
        assert!(output.stderr.contains(&text), "{output:?}");
    }
    Ok(())
}

#[test]
fn a_broken_file_is_reported_by_name_and_its_neighbours_are_served() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.manifests.put("broken.yaml", "apiVersion: v1\nkind: Service\n  metadata: {name: [\n")?;
    stage.proxy.process().prints("broken.yaml")?;
    stage.await_answers(&["web-1", "web-2"])
}

#[test]
fn an_impossible_port_is_reported_by_field_and_the_last_good_state_stays() -> Outcomes {
    let mut stage = Stage::new()?;
    let mut bad = service("web", &[VIP.ip()], VIP.port(), TARGET);
    bad["spec"]["ports"][0]["port"] = 70_000.into();
    stage.manifests.put("service.json", &bad.to_string())?;
    stage.proxy.process().prints("spec.ports[0].port")?;
    assert!(
        stage.proxy.log().contains("70000") && stage.proxy.log().contains("service.json"),
        "{}",
        stage.proxy.log()
    );
    stage.await_answers(&["web-1", "web-2"])
}
