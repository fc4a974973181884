//! VXLAN to nodes behind a router: what others do to it, and what is in its way.

use crate::{Outcomes, Stage, ip, tables};
use heddle_tests::lab::{Node, Underlay};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::process::Invocation;

const TWO_SUBNETS: &[&[&str]] = &[&["node-1", "node-2"], &["node-3"]];

/// All that heddle-node has laid on a node for VXLAN, as iproute2 shows it.
fn laid(node: &Node) -> Result<Vec<String>, String> {
    let questions = [
        "-d link show heddle-vxlan",
        "-o addr show dev heddle-vxlan scope global",
        "neigh show dev heddle-vxlan nud permanent",
        "-4 route show table all proto 110",
        "-6 route show table all proto 110",
        "-4 rule show pref 32110",
        "-6 rule show pref 32110",
    ];
    let told = questions.into_iter().map(|question| ip(node, question)).collect::<Result<Vec<_>, _>>()?;
    // A device that was made anew has another number.
    Ok(told
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| line.trim_start_matches(char::is_numeric).to_owned())
        .collect())
}

fn comes_back(node: &Node, wanted: &[String], after: &str) -> Outcomes {
    eventually(&format!("all of VXLAN after {after:?}"), PATIENCE, || {
        let now = laid(node)?;
        if now == wanted { Ok(()) } else { Err(now.join("\n")) }
    })?;
    Ok(())
}

/// What is laid once it stays.
fn whole(node: &Node) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut seen = Vec::new();
    eventually("the device with its routes and rules", PATIENCE, || {
        seen = laid(node)?;
        let count = |text: &str| seen.iter().filter(|line| line.contains(text)).count();
        let counts = [count("encap"), count("lladdr"), count("lookup 110110")];
        if counts == [4, 2, 2] { Ok(()) } else { Err(format!("{counts:?} in {seen:?}")) }
    })?;
    Ok(seen)
}

/// Whatever is gone is found by what is there, not by what was done.
#[test]
fn what_others_do_to_device_neighbours_rules_and_routes_is_undone() -> Outcomes {
    let stage = Stage::on(Underlay::routed(TWO_SUBNETS))?;
    let one = stage.node("node-1")?;
    let _agent = stage.agent("node-1", &[])?;
    let wanted = whole(one)?;
    assert!(wanted.iter().any(|line| line.contains("mtu 1450")), "{wanted:?}");
    for damage in [
        "link del heddle-vxlan",
        "link set heddle-vxlan down",
        "link set heddle-vxlan mtu 1500",
        "link set heddle-vxlan address 02:00:00:00:00:01",
        "addr flush dev heddle-vxlan scope global",
        "neigh flush dev heddle-vxlan nud permanent",
        "-4 rule del pref 32110",
        "-6 rule del pref 32110",
        "-4 route flush table 110110",
        "-6 route flush table 110110",
        "-4 route flush proto 110",
        "-4 rule add from 10.244.9.0/24 lookup 110110 pref 32110 protocol 110",
    ] {
        ip(one, damage)?;
        comes_back(one, &wanted, damage)?;
    }
    Ok(())
}

/// What fits is computed from the link as it is now.
#[test]
fn the_largest_packet_follows_the_nodes_link() -> Outcomes {
    let stage = Stage::on(Underlay::routed(TWO_SUBNETS))?;
    let one = stage.node("node-1")?;
    let _agent = stage.agent("node-1", &[])?;
    whole(one)?;
    for (link, device) in [("1400", "mtu 1350"), ("9000", "mtu 8950"), ("1300", "mtu 1280")] {
        ip(one, &format!("link set eth0 mtu {link}"))?;
        eventually(&format!("a device with {device}"), PATIENCE, || {
            let now = ip(one, "link show heddle-vxlan")?;
            if now.contains(device) { Ok(()) } else { Err(now) }
        })?;
    }
    Ok(())
}

#[test]
fn the_device_comes_with_the_first_node_that_needs_it_and_goes_with_the_last() -> Outcomes {
    let stage = Stage::on(Underlay::routed(TWO_SUBNETS))?;
    let one = stage.node("node-1")?;
    let mut agent = stage.agent("node-1", &[])?;
    whole(one)?;
    agent.kill()?;
    let nothing = || laid(one).map_or_else(|_| Ok(()), |laid| Err(laid.join("\n")));
    // Also while no agent runs.
    stage.manifests.remove("node-3.json")?;
    let mut agent = stage.agent("node-1", &[])?;
    eventually("no device", PATIENCE, nothing)?;
    stage.put(&stage.node("node-3")?.object())?;
    whole(one)?;
    agent.kill()?;
    let cleaned = Invocation::of("heddle-node")?.args(["--cleanup"]).run(one.namespace())?;
    assert!(cleaned.status.success(), "{}", cleaned.stderr);
    nothing()?;
    assert_eq!(ip(one, "-4 rule show pref 32110")? + &ip(one, "-4 route show table all proto 110")?, "");
    Ok(())
}

/// The others on the link are reached all the same, and all is mended when it is out of the way.
#[test]
fn what_is_in_the_way_of_the_device_is_named() -> Outcomes {
    for (obstacle, said) in [
        ("link add heddle-vxlan type bridge", "a link named heddle-vxlan is no VXLAN device"),
        (
            "link add other type vxlan id 7 dstport 4789 local 192.168.0.11",
            "the VXLAN device other has UDP port 4789",
        ),
    ] {
        let stage = Stage::on(Underlay::routed(TWO_SUBNETS))?;
        let one = stage.node("node-1")?;
        ip(one, obstacle)?;
        let name = obstacle.split(' ').nth(2).ok_or("a link has a name")?;
        ip(one, &format!("link set {name} up"))?;
        let agent = stage.agent("node-1", &[])?;
        agent.prints(said)?;
        tables(one)?;
        assert_eq!(crate::routes(one)?, crate::towards(&[stage.node("node-2")?]));
        ip(one, &format!("link del {name}"))?;
        whole(one)?;
        agent.prints(&format!("no longer so: {said}"))?;
    }
    Ok(())
}

/// No IPv6 next hop may be needed for IPv4, and no setting of the kernel that filters sources may be in the way.
#[test]
fn a_node_without_ipv6_on_new_links_and_with_strict_filters_is_joined() -> Outcomes {
    use heddle_tests::lab::Families;
    use heddle_tests::traffic::{Server, Transport, attempt};
    use std::net::SocketAddr;
    let underlay = Underlay::routed(TWO_SUBNETS).carrying(Families::Ipv4).with_pods_of(Families::Ipv4);
    let stage = Stage::on(underlay)?;
    let (one, three) = (stage.node("node-1")?, stage.node("node-3")?);
    for node in [one, three] {
        for setting in ["ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"] {
            node.namespace().sysctl(setting, "1")?;
        }
        for setting in ["ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"] {
            node.namespace().sysctl(setting, "1")?;
        }
    }
    let pods = [one.pod("pod-1")?, three.pod("pod-3")?];
    let _agents = [stage.agent("node-1", &[])?, stage.agent("node-3", &[])?];
    let _server = Server::start(pods[1].namespace(), "pod-3", Transport::Tcp, 8080)?;
    let _node = Server::start(three.namespace(), "node-3", Transport::Udp, 8080)?;
    for (to, transport, from, source) in [
        (pods[1].addresses()[0], Transport::Tcp, pods[0].namespace(), pods[0].addresses()[0]),
        (three.addresses()[0], Transport::Udp, pods[0].namespace(), pods[0].addresses()[0]),
        (pods[1].addresses()[0], Transport::Tcp, one.namespace(), one.addresses()[0]),
    ] {
        eventually(&format!("{} {transport} -> {to}", from.name()), PATIENCE, || {
            let outcome =
                attempt(from, transport, SocketAddr::new(to, 8080)).map_err(|error| error.to_string())?;
            if outcome.source() == Some(source) { Ok(()) } else { Err(outcome.to_string()) }
        })?;
    }
    Ok(())
}
