//! One broken thing each, and the sentence that tells it.

use crate::{Outcomes, Stage, ip};
use heddle_tests::patience::PATIENCE;
use rustix::process::Signal;
use std::fs;

#[test]
fn a_node_that_does_not_forward_and_has_no_agent_is_told_so() -> Outcomes {
    let stage = Stage::pair()?;
    let node = stage.one().namespace();
    node.sysctl("ipv4/ip_forward", "0")?;
    node.sysctl("ipv6/conf/all/forwarding", "0")?;
    let text = stage.doctor(&[])?;
    assert_eq!(text.status.code(), Some(1));
    let lines = [
        "net.ipv4.ip_forward is 0: IPv4 packets of pods go nowhere but to this node.",
        "net.ipv6.conf.all.forwarding is 0: IPv6 packets",
        "-> Start heddle-node, which switches it on, or write 1 with `sysctl -w`.",
        "no heddle-node answers at ",
        "there is no route of ours to 10.244.2.0/24, fd00:244:0:2::/64: those pods are not reached from here.",
    ];
    lines.iter().for_each(|line| assert!(text.stdout.contains(line), "{line}: {}", text.stdout));
    Ok(())
}

/// cni:#24
#[test]
fn another_networks_configuration_is_named_as_the_one_that_a_runtime_takes() -> Outcomes {
    let stage = Stage::pair()?;
    let folder = stage.one().directory().join("etc/cni/net.d");
    let kindnet = r#"{"cniVersion":"0.3.1","name":"kindnet","plugins":[{"type":"ptp"},{"type":"portmap"}]}"#;
    fs::write(folder.join("05-kindnet.conflist"), kindnet)?;
    let first = "takes /etc/cni/net.d/05-kindnet.conflist (ptp, portmap) before ours, 10-heddle.conflist";
    stage.checks()?.says("cni configuration", "failed", first);
    fs::rename(folder.join("05-kindnet.conflist"), folder.join("50-kindnet.conflist"))?;
    stage.checks()?.says("other cni configurations", "warning", "50-kindnet.conflist is left from kindnet");
    fs::write(folder.join("00-half.conflist"), "{\"cniVersion\":")?;
    stage.checks()?.says("cni configuration", "failed", "00-half.conflist comes first and cannot be read");
    Ok(())
}

#[test]
fn a_program_that_is_missing_or_may_not_be_executed_is_told() -> Outcomes {
    let stage = Stage::pair()?;
    let folder = stage.one().directory().join("opt/cni/bin");
    fs::remove_file(folder.join("loopback"))?;
    fs::remove_file(folder.join("heddle-cni"))?;
    let checks = stage.checks()?;
    checks.says("cni programs", "failed", "/opt/cni/bin has no heddle-cni, which our configuration names");
    checks.says("loopback", "failed", "/opt/cni/bin has no loopback that may be executed");
    fs::write(folder.join("heddle-cni"), "heddle-cni 0.0.1: a CNI plugin")?;
    let checks = stage.checks()?;
    checks.says("cni programs", "failed", "/opt/cni/bin/heddle-cni may not be executed");
    checks.says("cni programs", "warning", "heddle-cni is of version 0.0.1");
    Ok(())
}

#[test]
fn routes_and_links_of_another_network_are_told_with_what_removes_them() -> Outcomes {
    let stage = Stage::pair()?;
    let node = stage.one().namespace();
    ip(node, "link add flannel.1 type vxlan id 1 dstport 8472 dev eth0")?;
    ip(node, "link set flannel.1 up")?;
    ip(node, "route add 10.244.2.0/24 dev flannel.1")?;
    ip(node, "address add 10.244.0.0/16 dev flannel.1")?;
    let _agent = stage.agent(stage.one())?;
    let text = stage.doctor(&[])?.stdout;
    let lines = [
        "another program's route to 10.244.2.0/24 by flannel.1 (metric 0, made by `ip` or a plugin) goes before ours to Node node-2",
        "`ip route delete 10.244.2.0/24 dev flannel.1 metric 0`; ours is there and takes over at once.",
        "links of flannel are here (flannel.1)",
        "flannel.1 has 10.244.0.0/16, which overlaps the pod range 10.244.1.0/24",
    ];
    lines.iter().for_each(|line| assert!(text.contains(line), "{line}: {text}"));
    Ok(())
}

#[test]
fn what_an_agent_left_is_told_once_it_is_gone() -> Outcomes {
    let stage = Stage::pair()?;
    let mut agent = stage.agent(stage.one())?;
    agent.signal(Signal::TERM)?;
    agent.wait(PATIENCE)?;
    ip(stage.one().namespace(), "route add 10.244.9.0/24 via 192.168.0.1 proto 110")?;
    let checks = stage.checks()?;
    checks.says("routes left", "warning", "routes of ours lead to 10.244.9.0/24, which no node has");
    checks.says("tables", "warning", "ip heddle-node, ip6 heddle-node stand without heddle-node");
    let _agent = stage.agent(stage.one())?;
    let checks = stage.checks()?;
    checks.says("tables", "ok", "ip heddle-node");
    checks.says("routes left", "ok", "no route of ours leads to a node that is gone");
    Ok(())
}

#[test]
fn leases_whose_links_are_gone_are_told_and_a_damaged_table_stays_as_it_is() -> Outcomes {
    let stage = Stage::pair()?;
    let pod = stage.one().pod("pod")?;
    let node = stage.one().namespace();
    let links = ip(node, "-o link show type veth")?;
    let link = links.split_whitespace().find_map(|word| word.strip_prefix("hdl")).ok_or("a link of a pod")?;
    ip(node, &format!("link delete hdl{}", link.split('@').next().unwrap_or_default()))?;
    stage.checks()?.says("dead leases", "warning", &format!("addresses {}", pod.addresses()[0]));
    let table = stage.one().directory().join("leases/pods/lease-table");
    fs::write(&table, [7; 9000])?;
    stage.checks()?.says("leases", "failed", "is damaged");
    assert_eq!(fs::read(&table)?, [7; 9000]);
    Ok(())
}

#[test]
fn a_node_without_an_object_or_with_anothers_address_is_told() -> Outcomes {
    let stage = Stage::pair()?;
    let mut object = stage.one().object();
    object["status"]["addresses"][0]["address"] = "192.168.0.77".into();
    stage.manifests.put("node-1.json", &object.to_string())?;
    stage.checks()?.says(
        "own address",
        "failed",
        "this host does not have 192.168.0.77, which Node node-1 has",
    );
    stage.manifests.remove("node-1.json")?;
    stage.checks()?.says("own node", "failed", "there is no Node node-1");
    fs::remove_dir_all(stage.manifests.folder())?;
    stage.checks()?.says("nodes", "warning", "the Nodes cannot be read");
    Ok(())
}
