//! The tables beside what others do: damage is repaired, other tables are left alone, and nft reads ours.

use super::{Outcomes, Stage, TARGET, VIP, ruleset_of};
use heddle_tests::lab::{Lab, Pod};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{list, service, slice};
use heddle_tests::patience::eventually;
use heddle_tests::process::Invocation;
use heddle_tests::proxy::{Manifests, Proxy};
use std::net::IpAddr;
use std::time::Duration;

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
