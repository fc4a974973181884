//! Pods of a node that reach each other without connection tracking, where Services are served at sockets.

use heddle_netlink::conntrack::{self, Destination, Filter};
use heddle_netlink::{Family, Socket};
use heddle_tests::lab::{Lab, Node, Pod};
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::{self, Manifests, Proxy, socket};
use heddle_tests::traffic::{Server, Transport, attempt};
use serde_json::json;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};

type Outcomes = Result<(), Box<dyn Error>>;

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;

/// Where connections are kept.
const KEPT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 20)), 80);
const KEPT_TARGET: u16 = 9090;
/// What a network policy looks like to the kernel.
const POLICIES: &str =
    "table inet policies { chain forward { type filter hook forward priority 0; ct state invalid drop; }; }";

/// A node with a client and a server, and a proxy.
struct Stage {
    proxy: Proxy,
    manifests: Manifests,
    _server: Server,
    web: Pod,
    client: Pod,
    lab: Lab,
}

impl Stage {
    /// The proxy serves sockets, with these flags besides.
    fn new(flags: &[&str]) -> Result<Self, Box<dyn Error>> {
        Self::on(flags, |_| Ok(()))
    }

    /// The same on a node that is prepared so, once it has pods.
    fn on(flags: &[&str], prepare: impl Fn(&Node) -> Outcomes) -> Result<Self, Box<dyn Error>> {
        let stage = Self::in_mode("ebpf", flags, prepare)?;
        stage.proxy.serves_sockets()?;
        Ok(stage)
    }

    fn in_mode(
        mode: &str,
        flags: &[&str],
        prepare: impl Fn(&Node) -> Outcomes,
    ) -> Result<Self, Box<dyn Error>> {
        let lab = Lab::with_sockets(&["node-1"])?;
        let node = lab.node("node-1")?;
        let (client, web) = (node.pod("client")?, node.pod("web")?);
        // The kernel has 1 here, with which a bridge hands frames over whatever it is told.
        for family in ["ip", "ip6"] {
            node.namespace().sysctl(&format!("bridge/bridge-nf-call-{family}tables"), "0")?;
        }
        prepare(node)?;
        let server = Server::start(web.namespace(), "web", Transport::Tcp, TARGET)?;
        let manifests = Manifests::of(node)?;
        let mut object = service("web", &[VIP.ip()], VIP.port(), TARGET);
        object["spec"]["type"] = json!("NodePort");
        object["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
        let kept = service("kept", &[KEPT.ip()], KEPT.port(), KEPT_TARGET);
        let lead = |name, port| slice(name, "node-1", &web.addresses()[..1], port);
        let objects = [node.object(), object, kept, lead("web", TARGET), lead("kept", KEPT_TARGET)];
        manifests.put("objects.json", &list(&objects).to_string())?;
        let proxy = started(node, &manifests, (mode, flags))?;
        proxy.ready(node)?;
        Ok(Self { proxy, manifests, _server: server, web, client, lab })
    }

    /// Kills the proxy and starts it so.
    fn restart(&mut self, mode: &str, flags: &[&str]) -> Outcomes {
        self.proxy.process().kill()?;
        self.proxy = started(self.lab.node("node-1")?, &self.manifests, (mode, flags))?;
        self.proxy.logs("wrote the Services of this node")?;
        Ok(())
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    /// How many connections to the server the node tracks.
    fn tracked(&self) -> Result<usize, Box<dyn Error>> {
        let filter = Filter { destination: Destination::AnyV4, protocol: 6, port: Some(TARGET) };
        let list = || conntrack::list(&mut Socket::open(Family::Netfilter)?, &filter, |_| true);
        Ok(self.node()?.namespace().enter(list)??.len())
    }

    /// Waits until the rule is there, or is not.
    fn has_rule(&self, wanted: bool) -> Outcomes {
        Ok(eventually("the rule that does not track", PATIENCE, || {
            let listed = self.lab.node("node-1").map_err(|e| e.to_string())?.nft(["list", "chains"]);
            let listed = listed.map_err(|error| error.to_string())?.stdout;
            if listed.contains("untracked") == wanted { Ok(()) } else { Err(listed) }
        })?)
    }

    /// Loads rules of somebody else's.
    fn load(&self, rules: &str) -> Outcomes {
        let nft = Invocation::foreign("nft").args(["-f", "-"]).input(rules);
        let loaded = nft.run(self.node()?.namespace())?;
        if loaded.status.success() { Ok(()) } else { Err(loaded.stderr.into()) }
    }

    /// Waits until the proxy says this of itself.
    fn says(&self, what: &str) -> Outcomes {
        Ok(proxy::says(self.node()?, what)?)
    }

    /// The bridge, as `ip` shows it.
    fn bridge(&self) -> Result<String, Box<dyn Error>> {
        let shown = Invocation::foreign("ip").args(["-details", "link", "show", "cni0"]);
        Ok(shown.run(self.node()?.namespace())?.stdout)
    }

    /// Waits until frames pass by the rules, or until those see them.
    fn bridge_passes(&self, wanted: bool) -> Outcomes {
        let told = |shown: &str| {
            ["nf_call_iptables", "nf_call_ip6tables"].map(|key| shown.contains(&format!("{key} 0")))
        };
        Ok(eventually("what the bridge does", PATIENCE, || {
            let shown = self.bridge().map_err(|error| error.to_string())?;
            let is_so =
                told(&shown) == [wanted; 2] && shown.contains("alias heddle-proxy serves sockets") == wanted;
            if is_so { Ok(()) } else { Err(shown) }
        })?)
    }

    fn reach(&self, to: SocketAddr) -> Outcomes {
        let outcome = attempt(self.client.namespace(), Transport::Tcp, to)?;
        if outcome.endpoint() == Some("web") { Ok(()) } else { Err(format!("{to}: {outcome}").into()) }
    }
}

fn started(
    node: &Node,
    manifests: &Manifests,
    (mode, flags): (&str, &[&str]),
) -> Result<Proxy, Box<dyn Error>> {
    let (socket, places, folder) = (socket(node), node.socket_flags(), manifests.folder());
    let fixed = [
        "--proxy-mode",
        mode,
        "--hostname-override",
        node.name(),
        "--status-socket",
        &socket,
        "--manifests",
        &folder,
    ];
    let all = fixed.into_iter().chain(flags.iter().copied()).chain(places.iter().map(String::as_str));
    Ok(node.start("heddle-proxy", all)?.into())
}

#[test]
fn pods_of_a_node_reach_each_other_untracked_and_others_are_translated_as_before() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods"])?;
    stage.has_rule(true)?;
    stage.reach(VIP)?;
    stage.reach(SocketAddr::new(stage.web.addresses()[0], TARGET))?;
    assert_eq!(stage.tracked()?, 0);
    let node_port = SocketAddr::new(stage.node()?.addresses()[0], NODE_PORT);
    let outside = attempt(stage.lab.outside(), Transport::Tcp, node_port)?;
    assert_eq!(outside.endpoint(), Some("web"), "{outside}");
    // And the node itself, whose own connections are tracked in both directions.
    let own = attempt(stage.node()?.namespace(), Transport::Tcp, VIP)?;
    assert_eq!(own.endpoint(), Some("web"), "{own}");
    Ok(())
}

/// The node is no pod: a firewall of its may want to know who talks to it.
#[test]
fn what_a_pod_sends_to_the_node_itself_is_tracked() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods"])?;
    stage.has_rule(true)?;
    let _own = Server::start(stage.node()?.namespace(), "node", Transport::Tcp, TARGET)?;
    let gateway = SocketAddr::new([10, 244, 1, 1].into(), TARGET);
    let outcome = attempt(stage.client.namespace(), Transport::Tcp, gateway)?;
    assert_eq!(outcome.endpoint(), Some("node"), "{outcome}");
    assert_eq!(stage.tracked()?, 1);
    Ok(())
}

#[test]
fn without_the_flag_everything_is_tracked() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods=false"])?;
    stage.reach(VIP)?;
    assert_eq!(stage.tracked()?, 1);
    stage.has_rule(false)
}

/// Rules of others may ask for the state of pods' connections: then these have one, at once.
#[test]
fn rules_of_others_end_it_and_it_comes_back_when_they_are_gone() -> Outcomes {
    let stage = Stage::new(&[])?;
    stage.has_rule(true)?;
    stage.reach(VIP)?;
    assert_eq!(stage.tracked()?, 0);
    stage.load(POLICIES)?;
    stage.has_rule(false)?;
    stage.says("are tracked: chain forward of table policies has rules")?;
    stage.reach(VIP)?;
    assert_eq!(stage.tracked()?, 1);
    stage.load("delete table inet policies")?;
    stage.has_rule(true)?;
    stage.says("connections between them are not tracked")?;
    // A table of which packets see nothing is in nobody's way.
    stage.load(
        "table inet idle { chain forward { type filter hook forward priority 0; }; chain unused { drop; }; }",
    )?;
    stage.load(
        "table inet host { chain input { type filter hook input priority 0; ct state invalid drop; }; }",
    )?;
    stage.load("table ip last { }")?;
    stage.reach(VIP)?;
    stage.has_rule(true)
}

/// Who asks for it has it beside rules that need no tracking, but never beside those that translate.
#[test]
fn it_is_had_beside_others_where_it_is_asked_for_unless_they_translate() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods"])?;
    stage.load(POLICIES)?;
    stage.has_rule(true)?;
    stage.load("table ip ports { chain prerouting { type nat hook prerouting priority dstnat; tcp dport 9 dnat to 10.244.1.9; }; }")?;
    stage.has_rule(false)?;
    stage.load("delete table ip ports")?;
    stage.has_rule(true)
}

/// Between the ports of a bridge of their own, packets of pods that are not tracked need no rule at all.
#[test]
fn bridges_let_pods_frames_pass_and_hand_them_over_again_before_packets_are_translated() -> Outcomes {
    let mut stage = Stage::new(&[])?;
    stage.bridge_passes(true)?;
    stage.reach(VIP)?;
    // The plugin leaves it at that.
    let _late = stage.node()?.pod("late")?;
    stage.bridge_passes(true)?;
    stage.load(POLICIES)?;
    stage.bridge_passes(false)?;
    stage.load("delete table inet policies")?;
    stage.bridge_passes(true)?;
    // Killed, and started as one that serves packets.
    stage.restart("nftables", &[])?;
    stage.bridge_passes(false)?;
    stage.reach(VIP)?;
    stage.restart("ebpf", &[])?;
    stage.bridge_passes(true)?;
    stage.restart("ebpf", &["--untracked-pods=false"])?;
    stage.bridge_passes(false)
}

#[test]
fn cleanup_makes_bridges_hand_frames_over_again() -> Outcomes {
    let mut stage = Stage::new(&[])?;
    stage.bridge_passes(true)?;
    stage.proxy.process().kill()?;
    let arguments = [&["--cleanup".to_owned()], &stage.node()?.socket_flags()[..]].concat();
    let cleaned = Invocation::of("heddle-proxy")?.args(&arguments).run(stage.node()?.namespace())?;
    assert!(cleaned.status.success(), "{cleaned:?}");
    stage.bridge_passes(false)
}

/// A bridge that somebody else named keeps to what it was told; the rule does what it can.
#[test]
fn a_bridge_with_a_name_of_somebody_elses_is_left_alone() -> Outcomes {
    let stage = Stage::on(&[], |node| {
        let named = Invocation::foreign("ip").args(["link", "set", "cni0", "alias", "of the admin"]);
        let named = named.run(node.namespace())?;
        if named.status.success() { Ok(()) } else { Err(named.stderr.into()) }
    })?;
    stage.has_rule(true)?;
    stage.reach(VIP)?;
    assert!(stage.bridge()?.contains("nf_call_iptables 1"), "{}", stage.bridge()?);
    assert!(stage.bridge()?.contains("alias of the admin"), "{}", stage.bridge()?);
    Ok(())
}

/// What comes back of a connection that packets began is translated until it ends.
#[test]
fn connections_that_packets_began_are_tracked_until_they_end() -> Outcomes {
    let mut stage = Stage::in_mode("nftables", &[], |_| Ok(()))?;
    let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, KEPT_TARGET));
    let listener = stage.web.namespace().enter(bind)??;
    let near = stage.client.namespace().enter(|| TcpStream::connect(KEPT))??;
    let (far, _) = listener.accept()?;
    let both_ways = || -> io::Result<()> {
        for (mut from, mut to) in [(&near, &far), (&far, &near)] {
            to.set_read_timeout(Some(PATIENCE))?;
            from.write_all(b"x")?;
            to.read_exact(&mut [0])?;
        }
        Ok(())
    };
    both_ways()?;
    stage.restart("ebpf", &[])?;
    stage.proxy.serves_sockets()?;
    stage.says("are tracked: one of them is still translated")?;
    both_ways()?;
    stage.has_rule(false)?;
    stage.bridge_passes(false)?;
    drop((near, far));
    stage.has_rule(true)?;
    stage.bridge_passes(true)
}

/// What comes back from an endpoint that packets found is translated, which takes tracking.
#[test]
fn a_service_that_packets_serve_ends_it_and_works() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods", "--cluster-cidr", "10.244.0.0/16"])?;
    stage.has_rule(true)?;
    let vip: IpAddr = [203, 0, 113, 7].into();
    let mut object = service("guarded", &[[10, 96, 0, 11].into()], 80, TARGET);
    object["spec"]["type"] = json!("LoadBalancer");
    object["spec"]["externalTrafficPolicy"] = json!("Local");
    object["spec"]["loadBalancerSourceRanges"] = json!(["10.244.0.0/16"]);
    object["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": vip }] } });
    let endpoints = slice("guarded", "node-1", &stage.web.addresses()[..1], TARGET);
    stage.manifests.put("guarded.json", &list(&[object, endpoints]).to_string())?;
    stage.has_rule(false)?;
    stage.reach(SocketAddr::new(vip, 80))?;
    stage.manifests.remove("guarded.json")?;
    stage.has_rule(true)
}

/// Nor does it come back while the process runs: what packets began may last longer than the label.
#[test]
fn a_pod_that_is_left_out_ends_it_for_good() -> Outcomes {
    let stage = Stage::new(&["--untracked-pods"])?;
    stage.has_rule(true)?;
    let addresses: Vec<_> = stage.client.addresses().iter().map(|ip| json!({ "ip": ip })).collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "client", "labels": { "heddle.dev/sockets": "off" } },
        "spec": { "nodeName": "node-1" }, "status": { "phase": "Running", "podIPs": addresses },
    });
    stage.manifests.put("client.json", &pod.to_string())?;
    stage.has_rule(false)?;
    stage.reach(VIP)?;
    stage.manifests.remove("client.json")?;
    let vip = SocketAddr::new([10, 96, 0, 12].into(), 80);
    let endpoints = slice("more", "node-1", &stage.web.addresses()[..1], TARGET);
    stage
        .manifests
        .put("more.json", &list(&[service("more", &[vip.ip()], 80, TARGET), endpoints]).to_string())?;
    eventually("a Service that came later", PATIENCE, || {
        stage.reach(vip).map_err(|error| error.to_string())
    })?;
    stage.has_rule(false)
}
