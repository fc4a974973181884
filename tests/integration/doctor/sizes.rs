//! Packets of full size between nodes, with less room in the network between than on their links.

use crate::{Outcomes, Stage, ip};
use heddle_tests::lab::Underlay;
use heddle_tests::process::Invocation;

const TWO_SUBNETS: &[&[&str]] = &[&["node-1"], &["node-2"]];

#[test]
fn a_network_between_with_a_smaller_mtu_is_found_by_what_its_router_says() -> Outcomes {
    let stage = Stage::new(Underlay::routed(TWO_SUBNETS))?;
    let _agents = stage.lab.nodes().iter().map(|node| stage.agent(node)).collect::<Result<Vec<_>, _>>()?;
    let checks = stage.checks()?;
    checks.says("tunnels", "ok", "heddle-vxlan leads to 2 ranges");
    checks.says("mtu to nodes", "ok", "packets of full size arrive at 2 addresses");
    checks.says("mtu to pods", "ok", "packets of full size arrive at 2 addresses");
    ip(stage.lab.fabric(), "link set fabric-1 mtu 1400")?;
    let found = "packets of 1500 bytes, which this node's link takes, do not pass on the way to node-2 (192.168.1.12), node-2 \
                 (fd00:192:0:1::c), none above 1400 do: pods' packets";
    // Twice: what the kernel has learnt of the way meanwhile does not make it right.
    stage.checks()?.says("mtu to nodes", "warning", found);
    stage.checks()?.says("mtu to nodes", "warning", found);
    let found =
        "do not pass on the way to node-2 (192.168.1.12), node-2 (fd00:192:0:1::c), none above 1400 do: UDP";
    stage.checks_with(&["--mode", "routes"])?.says("mtu to nodes", "failed", found);
    Ok(())
}

#[test]
fn a_switch_that_drops_large_packets_is_found_on_both_ways() -> Outcomes {
    let stage = Stage::pair()?;
    let _agents = stage.lab.nodes().iter().map(|node| stage.agent(node)).collect::<Result<Vec<_>, _>>()?;
    let _pod = stage.lab.nodes()[1].pod("pod")?;
    stage.checks()?.says("mtu to pods", "ok", "packets of full size arrive at 2 addresses");
    // A bridge drops in silence what its port does not take.
    let ports = ip(stage.lab.fabric(), "-o link show master fabric")?;
    for port in ports.lines().filter_map(|line| line.split([' ', '@']).nth(1)) {
        ip(stage.lab.fabric(), &format!("link set {port} mtu 1400"))?;
    }
    let checks = stage.checks()?;
    checks.says("mtu to nodes", "failed", "vanish on the way to node-2 (192.168.0.12), node-2 (fd00:192::c)");
    checks.says(
        "mtu to pods",
        "failed",
        "vanish on the way to node-2 (10.244.2.1), node-2 (fd00:244:0:2::1)",
    );
    Ok(())
}

#[test]
fn a_network_between_that_swallows_large_packets_is_told_from_one_that_is_silent() -> Outcomes {
    let stage = Stage::new(Underlay::routed(TWO_SUBNETS))?;
    let _agents = stage.lab.nodes().iter().map(|node| stage.agent(node)).collect::<Result<Vec<_>, _>>()?;
    let fabric = stage.lab.fabric();
    ip(fabric, "link set fabric-1 mtu 1400")?;
    let rules = "table inet silent { chain out { type filter hook output priority 0; icmp type destination-unreachable drop; \
                 icmpv6 type packet-too-big drop; }; }";
    let nft = |rules: &str| Invocation::foreign("nft").args(["-f", "-"]).input(rules).run(fabric);
    assert!(nft(rules)?.status.success());
    let found = "packets of 1500 bytes, which this node's link takes, vanish on the way to node-2 (192.168.1.12), node-2 \
                 (fd00:192:0:1::c) without an answer";
    stage.checks()?.says("mtu to nodes", "failed", found);
    let rules = "table inet filter { chain forward { type filter hook forward priority 0; meta l4proto udp drop; }; }";
    assert!(nft(rules)?.status.success());
    let found = "node-2 (192.168.1.12), node-2 (fd00:192:0:1::c) does not answer, to small packets either";
    let checks = stage.checks()?;
    checks.says("mtu to nodes", "warning", found);
    checks.says(
        "mtu to pods",
        "warning",
        "nothing comes back through VXLAN from node-2 (10.244.2.0), node-2",
    );
    Ok(())
}
