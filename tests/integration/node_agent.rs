//! heddle-node on the nodes of a lab whose fabric knows nothing of pods: what it brings about is the only way.

use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::lab::{Lab, Node, Underlay};
use heddle_tests::objects::list;
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::{Invocation, Process};
use heddle_tests::proxy::Manifests;
use heddle_tests::traffic::{Outcome, Server, Transport, attempt, attempt_here};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

type Outcomes = Result<(), Box<dyn Error>>;

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];
const PORT: u16 = 8080;

/// Nodes without pod routes, and the folder from which every agent reads them.
struct Stage {
    lab: Lab,
    manifests: Manifests,
}

impl Stage {
    fn new(nodes: &[&str]) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::on(Underlay::flat(nodes))?;
        let manifests = Manifests::of(lab.node(nodes[0])?)?;
        let stage = Self { lab, manifests };
        stage.lab.nodes().iter().try_for_each(|node| stage.put(&object(node)))?;
        Ok(stage)
    }

    fn put(&self, object: &Value) -> Outcomes {
        let name = object["metadata"]["name"].as_str().ok_or("a Node has a name")?;
        Ok(self.manifests.put(&format!("{name}.json"), &object.to_string())?)
    }

    fn node(&self, name: &str) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node(name)?)
    }

    fn agent(&self, node: &str, flags: &[&str]) -> Result<Process, Box<dyn Error>> {
        let folder = self.manifests.folder();
        let fixed = ["--manifests", &folder, "--hostname-override", node];
        Ok(self.node(node)?.start("heddle-node", fixed.iter().chain(flags).copied())?)
    }
}

/// A node's object, as the API server has it.
fn object(node: &Node) -> Value {
    let address = |ip: &IpAddr| json!({ "type": "InternalIP", "address": ip });
    let ranges = node.pod_ranges().map(|range| range.to_string());
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.name() },
        "spec": { "podCIDR": ranges[0], "podCIDRs": ranges },
        "status": { "addresses": node.addresses().iter().map(address).collect::<Vec<_>>() },
    })
}

/// Runs `ip` on a node.
fn ip(node: &Node, arguments: &str) -> Result<String, String> {
    let output = Invocation::foreign("ip").args(arguments.split(' ')).run(node.namespace());
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("ip {arguments}: {}", output.stderr))
    }
}

/// Our routes on a node, as iproute2 shows them: destination and next hop.
fn routes(node: &Node) -> Result<Vec<String>, String> {
    let listed = ip(node, "-4 route show proto 110")? + &ip(node, "-6 route show proto 110")?;
    let route = |line: &str| line.split(" dev ").next().unwrap_or_default().to_owned();
    let mut routes: Vec<String> = listed.lines().map(route).collect();
    routes.sort();
    Ok(routes)
}

/// The routes to all pods of these nodes.
fn towards(nodes: &[&Node]) -> Vec<String> {
    let pairs = nodes.iter().flat_map(|node| node.pod_ranges().into_iter().zip(node.addresses()));
    let mut routes: Vec<String> = pairs.map(|(range, via)| format!("{range} via {via}")).collect();
    routes.sort();
    routes
}

fn comes_to(node: &Node, wanted: &[String]) -> Outcomes {
    eventually(&format!("routes {wanted:?} on {}", node.name()), PATIENCE, || {
        let routes = routes(node)?;
        if routes == wanted { Ok(()) } else { Err(format!("{routes:?}")) }
    })?;
    Ok(())
}

/// What nft prints of our tables; none when one is missing.
fn tables(node: &Node) -> Result<String, String> {
    let mut text = String::new();
    for family in ["ip", "ip6"] {
        let listed = node.nft(["list", "table", family, "heddle-node"]).map_err(|error| error.to_string())?;
        if !listed.status.success() {
            return Err(listed.stderr);
        }
        text.push_str(&listed.stdout);
    }
    Ok(text)
}

fn setting(node: &Node, name: &str) -> Result<String, Box<dyn Error>> {
    Ok(node.namespace().enter(|| fs::read_to_string(format!("/proc/sys/net/{name}")))??.trim().to_owned())
}

/// The first line of what a node's port answers to a request for a path.
fn probe(node: &Node, port: u16, path: &str) -> Result<String, String> {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    let asked = node.namespace().enter(ask).map_err(|error| error.to_string())?;
    asked.map_err(|error| error.to_string())
}

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

#[test]
fn nodes_that_come_change_and_go_are_followed_also_while_the_agent_is_killed() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2", "node-3"])?;
    let (one, two, three) = (stage.node("node-1")?, stage.node("node-2")?, stage.node("node-3")?);
    stage.manifests.remove("node-3.json")?;
    let mut agent = stage.agent("node-1", &[])?;
    comes_to(one, &towards(&[two]))?;
    stage.put(&object(three))?;
    comes_to(one, &towards(&[two, three]))?;

    let mut moved = object(two);
    moved["spec"] = json!({ "podCIDRs": ["10.244.77.0/24"] });
    stage.put(&moved)?;
    let mut wanted = towards(&[three]);
    wanted.insert(1, "10.244.77.0/24 via 192.168.0.12".to_owned());
    comes_to(one, &wanted)?;

    agent.kill()?;
    stage.manifests.remove("node-2.json")?;
    assert_eq!(routes(one)?, wanted, "a killed agent leaves all standing");
    let _agent = stage.agent("node-1", &[])?;
    comes_to(one, &towards(&[three]))
}

#[test]
fn what_others_flush_or_delete_is_whole_again() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    let _agent = stage.agent("node-1", &[])?;
    let wanted = towards(&[two]);
    comes_to(one, &wanted)?;
    let table = tables(one)?;
    assert!(table.contains("masquerade fully-random"), "{table}");
    ip(one, "-4 route flush proto 110")?;
    comes_to(one, &wanted)?;
    ip(one, "-6 route flush proto 110")?;
    comes_to(one, &wanted)?;
    ip(one, "route add 10.244.99.0/24 via 192.168.0.1 proto 110")?;
    comes_to(one, &wanted)?;
    for damage in ["delete table ip heddle-node", "flush chain ip6 heddle-node postrouting", "flush ruleset"]
    {
        let done = one.nft(damage.split(' '))?;
        assert!(done.status.success(), "{}", done.stderr);
        eventually(&format!("the tables after {damage:?}"), PATIENCE, || {
            let now = tables(one)?;
            if now == table { Ok(()) } else { Err(now) }
        })?;
    }
    // The kernel takes the routes away with their link, and says nothing of those of IPv4.
    ip(one, "link set eth0 down")?;
    comes_to(one, &[])?;
    ip(one, "link set eth0 up")?;
    eventually("the routes of IPv4", PATIENCE, || {
        let routes = routes(one)?;
        if routes.contains(&wanted[0]) { Ok(()) } else { Err(format!("{routes:?}")) }
    })?;
    one.namespace().sysctl("ipv4/ip_forward", "0")?;
    eventually("forwarding", PATIENCE, || {
        let now = setting(one, "ipv4/ip_forward").map_err(|error| error.to_string())?;
        if now == "1" { Ok(()) } else { Err(now) }
    })?;
    Ok(())
}

/// One of a thousand nodes, with pods of both families. Some share an address, which routes do not mind.
fn one_of_many(number: u16) -> Value {
    let [high, low] = number.to_be_bytes();
    let address = |address: String| json!({ "type": "InternalIP", "address": address });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": format!("many-{number}") },
        "spec": { "podCIDRs": [format!("10.{}.{low}.0/24", 100 + high), format!("fd00:100:0:{number:x}::/64")] },
        "status": { "addresses": [address(format!("192.168.0.{}", 20 + number % 200)), address(format!("fd00:192::1:{number:x}"))] },
    })
}

#[test]
fn a_thousand_nodes_are_followed_and_one_that_changes_costs_one_route() -> Outcomes {
    const MANY: u16 = 1000;
    let stage = Stage::new(&["node-1"])?;
    let one = stage.node("node-1")?;
    let all: Vec<Value> = (0..MANY).map(one_of_many).collect();
    stage.manifests.put("many.json", &list(&all).to_string())?;
    let agent = stage.agent("node-1", &["-v", "4"])?;
    eventually("two routes for each node", PATIENCE, || {
        let count = routes(one)?.len();
        if count == 2 * usize::from(MANY) { Ok(()) } else { Err(count.to_string()) }
    })?;
    let mut changed = one_of_many(7);
    changed["spec"]["podCIDRs"] = json!(["10.200.7.0/24", "fd00:100:0:7::/64"]);
    let mut now = all;
    now[7] = changed;
    stage.manifests.put("many.json", &list(&now).to_string())?;
    // The old destination goes and the new one comes.
    agent.prints("routes=2000 changed=2 tables=1")?;
    now[7]["status"]["addresses"][0]["address"] = json!("192.168.0.19");
    stage.manifests.put("many.json", &list(&now).to_string())?;
    agent.prints("routes=2000 changed=1 tables=1")?;
    let routes = routes(one)?;
    assert!(routes.contains(&"10.200.7.0/24 via 192.168.0.19".to_owned()));
    assert_eq!(routes.len(), 2 * usize::from(MANY));
    Ok(())
}

#[test]
fn another_programs_route_is_reported_and_left_alone_and_ours_takes_over_when_it_goes() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    ip(one, "route add 10.244.2.0/24 via 192.168.0.1")?;
    let mut agent = stage.agent("node-1", &[])?;
    agent.prints("another program's route to 10.244.2.0/24 (metric 0) goes before ours to Node node-2")?;
    comes_to(one, &towards(&[two]))?;
    assert!(ip(one, "route get 10.244.2.9")?.contains("via 192.168.0.1 "));
    ip(one, "route del 10.244.2.0/24 via 192.168.0.1")?;
    assert!(ip(one, "route get 10.244.2.9")?.contains("via 192.168.0.12 "));
    agent.prints("no longer so: another program's route to 10.244.2.0/24")?;

    ip(one, "route add 10.244.2.0/24 via 192.168.0.1")?;
    agent.signal(Signal::TERM)?;
    assert!(agent.wait(PATIENCE)?.success());
    assert_eq!(routes(one)?, towards(&[two]), "a stop leaves all standing");
    tables(one)?;
    let cleaned = Invocation::of("heddle-node")?.args(["--cleanup"]).run(one.namespace())?;
    assert!(cleaned.status.success(), "{}", cleaned.stderr);
    assert_eq!(routes(one)?, [""; 0]);
    assert!(tables(one).is_err());
    assert!(ip(one, "route show 10.244.2.0/24")?.contains("via 192.168.0.1 "), "it is not ours");
    Ok(())
}

#[test]
fn a_node_of_the_api_server_waits_for_its_ranges_and_a_far_one_is_reported() -> Outcomes {
    let lab = Lab::on(Underlay::flat(&["node-1", "node-2"]))?;
    let (one, two) = (lab.node("node-1")?, lab.node("node-2")?);
    let listener = one.namespace().enter(|| TcpListener::bind("127.0.0.1:0"))??;
    let server = ApiServer::start(listener, Options::default())?;
    let refused = |refusal| format!("{refusal:?}");
    let mut waiting = object(one);
    waiting["spec"] = json!({});
    let mut far = object(two);
    far["metadata"]["name"] = json!("far");
    far["spec"]["podCIDRs"] = json!(["10.244.9.0/24"]);
    far["spec"]["podCIDR"] = json!("10.244.9.0/24");
    far["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "172.16.0.9" }]);
    for object in [waiting, far, object(two)] {
        server.apply(object).map_err(refused)?;
    }
    let kubeconfig = one.directory().join("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig())?;
    let kubeconfig = kubeconfig.to_string_lossy();
    let agent = one.start("heddle-node", ["--kubeconfig", &kubeconfig, "--hostname-override", "node-1"])?;
    agent.prints("Node node-1 has no spec.podCIDRs yet")?;
    agent.prints("Node far (172.16.0.9) is not on a link of this node")?;
    comes_to(one, &towards(&[two]))?;
    assert!(!tables(one)?.contains("masquerade fully-random"));
    server.apply(object(one)).map_err(refused)?;
    eventually("the rule for pods", PATIENCE, || {
        let now = tables(one)?;
        if now.contains("ip saddr 10.244.1.0/24") { Ok(()) } else { Err(now) }
    })?;
    agent.prints("no longer so: Node node-1 has no spec.podCIDRs yet")?;
    server.delete("nodes", "", "node-2").map_err(refused)?;
    comes_to(one, &[])
}

#[test]
fn probes_hear_whether_the_kernel_has_what_was_planned() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.node("node-1")?, stage.node("node-2")?);
    // A place that is taken is reported, and no failure.
    ip(one, "route add 10.244.2.0/24 via 192.168.0.1 metric 4096")?;
    let agent = stage.agent("node-1", &["--healthz-bind-address", "127.0.0.1:10270"])?;
    let healthy = || {
        let line = probe(one, 10270, "/healthz")?;
        if line == "HTTP/1.1 200 OK" { Ok(()) } else { Err(line) }
    };
    eventually("a healthy agent", PATIENCE, healthy)?;
    assert_eq!(probe(one, 10270, "/else")?, "HTTP/1.1 404 Not Found");
    agent.prints("another program's route to 10.244.2.0/24 (metric 4096) goes before ours")?;
    comes_to(one, &towards(&[two])[1..])
}

#[test]
fn the_command_line_says_what_it_is_and_refuses_what_it_cannot() -> Outcomes {
    let lab = Lab::on(Underlay::flat(&["node-1"]))?;
    let run = |flag: &[&str]| Invocation::of("heddle-node")?.args(flag).run(lab.nodes()[0].namespace());
    assert!(run(&["--version"])?.stdout.starts_with("heddle-node "));
    assert!(run(&["--help"])?.stdout.contains("--non-masquerade-cidrs"));
    let refused = run(&["--mode", "vxlan"])?;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("heddle-node has no VXLAN yet"), "{}", refused.stderr);
    Ok(())
}
