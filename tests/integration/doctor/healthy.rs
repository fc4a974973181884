//! Nodes in order, and an answer that leaves no trace.

use crate::{Outcomes, Stage, ip};
use heddle_tests::process::Invocation;
use rustix::thread::CapabilitySet;
use std::error::Error;

#[test]
fn a_healthy_pair_of_nodes_is_in_order() -> Outcomes {
    let stage = Stage::pair()?;
    let _agents = stage.lab.nodes().iter().map(|node| stage.agent(node)).collect::<Result<Vec<_>, _>>()?;
    let _pods = stage.lab.nodes().iter().map(|node| node.pod("pod")).collect::<Result<Vec<_>, _>>()?;
    // The agent knows the node's name and the others.
    let text = stage.untold(&["--service-cidr", "10.96.0.0/12"])?.run(stage.one().namespace())?;
    assert!(text.status.success(), "{}", text.stdout);
    assert!(text.stdout.contains("\n0 failed, 0 warnings, "), "{}{}", text.stdout, text.stderr);
    let checks = stage.checks()?;
    for (name, found) in [
        ("agent", "heddle-node runs, and the kernel has all that it planned"),
        ("nf_tables", "sets, masquerade"),
        ("vxlan", "can make"),
        ("routes", "all 2 to other nodes' pods are there"),
        ("cni configuration", "which is ours"),
        ("cni programs", "are in /opt/cni/bin"),
        ("leases", "1 pods hold addresses"),
        ("dead leases", "has its link"),
        ("bridge netfilter", "hand packets"),
        ("mtu to nodes", "of full size arrive at 2 addresses"),
        ("mtu to pods", "of full size arrive at 2 addresses"),
    ] {
        checks.says(name, "ok", found);
    }
    Ok(())
}

#[test]
fn nothing_is_changed_on_the_node_and_without_rights_it_says_what_it_could_not_see() -> Outcomes {
    let stage = Stage::pair()?;
    let _agent = stage.agent(stage.one())?;
    let picture = || -> Result<String, Box<dyn Error>> {
        let node = stage.one();
        let tables = node.nft(["list", "ruleset"])?.stdout;
        let rest = ["-o link", "-4 route", "-6 route", "address"].map(|what| ip(node.namespace(), what));
        let files = Invocation::foreign("find")
            .args([node.directory().as_os_str(), "-ls".as_ref()])
            .run(node.namespace())?;
        Ok(rest.into_iter().collect::<Result<Vec<_>, _>>()?.concat() + &tables + &files.stdout)
    };
    let before = picture()?;
    stage.doctor(&[])?;
    assert_eq!(picture()?, before);
    let output = stage.untold(&[])?.without(CapabilitySet::NET_ADMIN).run(stage.one().namespace())?;
    assert!(!output.status.success());
    assert!(output.stdout.contains("this process has no CAP_NET_ADMIN"), "{}", output.stdout);
    assert!(output.stdout.contains("it cannot be judged"), "{}", output.stdout);
    assert_eq!(picture()?, before);
    Ok(())
}
