//! Nodes that come, change, go, and are many.

use crate::told::fetch;
use crate::{Outcomes, Served, Stage, comes_to, routes, tables, towards};
use heddle_tests::patience::{PATIENCE, eventually};
use serde_json::{Value, json};

#[test]
fn nodes_that_come_change_and_go_are_followed_also_while_the_agent_is_killed() -> Outcomes {
    let stage = Stage::new(&["node-1", "node-2", "node-3"])?;
    let (one, two, three) = (stage.node("node-1")?, stage.node("node-2")?, stage.node("node-3")?);
    stage.manifests.remove("node-3.json")?;
    let mut agent = stage.agent("node-1", &[])?;
    comes_to(one, &towards(&[two]))?;
    stage.put(&three.object())?;
    comes_to(one, &towards(&[two, three]))?;

    let mut moved = two.object();
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

/// One of a thousand nodes, with pods of both families. Some share an address, which routes do not mind.
fn one_of_many(number: u16) -> Value {
    let [high, low] = number.to_be_bytes();
    let address = |address: String| json!({ "type": "InternalIP", "address": address });
    // A kubelet reports 50 images: the object has 12 KB, of which next to nothing is for us.
    let image = |i: u32| {
        let digest = format!("{:064x}", u64::from(number) << 32 | u64::from(i));
        let repository = format!("registry.example/team-{i}/a-service-with-a-long-name");
        json!({ "names": [format!("{repository}@sha256:{digest}"), format!("{repository}:v1.{i}.0")], "sizeBytes": 70_000_000 + i })
    };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": format!("many-{number}") },
        "spec": { "podCIDRs": [format!("10.{}.{low}.0/24", 100 + high), format!("fd00:100:0:{number:x}::/64")] },
        "status": { "addresses": [address(format!("192.168.0.{}", 20 + number % 200)), address(format!("fd00:192::1:{number:x}"))],
            "images": (0..50).map(image).collect::<Vec<_>>() },
    })
}

#[test]
fn a_thousand_nodes_are_followed_and_one_that_changes_costs_one_route() -> Outcomes {
    const MANY: u16 = 1000;
    let stage = Served::new(&["node-1"])?;
    (0..MANY).map(one_of_many).try_for_each(|node| stage.put(node))?;
    let one = stage.first();
    let agent = stage.agent(&stage.server.token(), &["-v", "4"])?;
    // All of them in one turn, since nothing is written before the last is known.
    agent.prints("nodes=1001 routes=2000 changed=2000")?;
    assert_eq!(routes(one)?.len(), 2 * usize::from(MANY));
    let mut changed = one_of_many(7);
    changed["spec"]["podCIDRs"] = json!(["10.200.7.0/24", "fd00:100:0:7::/64"]);
    stage.put(changed.clone())?;
    // The old destination goes and the new one comes.
    agent.prints("routes=2000 changed=2 tables=1")?;
    changed["status"]["addresses"][0]["address"] = json!("192.168.0.19");
    stage.put(changed)?;
    agent.prints("routes=2000 changed=1 tables=1")?;
    let routes = routes(one)?;
    assert!(routes.contains(&"10.200.7.0/24 via 192.168.0.19".to_owned()));
    assert_eq!(routes.len(), 2 * usize::from(MANY));
    Ok(())
}

#[test]
fn a_node_of_the_api_server_waits_for_its_ranges_and_a_far_one_is_reported() -> Outcomes {
    let stage = Served::new(&["node-1", "node-2"])?;
    let (one, two) = (stage.first(), stage.lab.node("node-2")?);
    let mut waiting = one.object();
    waiting["spec"] = json!({});
    let mut far = two.object();
    far["metadata"]["name"] = json!("far");
    far["spec"]["podCIDRs"] = json!(["10.244.9.0/24"]);
    far["spec"]["podCIDR"] = json!("10.244.9.0/24");
    far["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "172.16.0.9" }]);
    stage.put(waiting)?;
    stage.put(far)?;
    let agent = stage.agent(&stage.server.token(), &["--mode", "routes"])?;
    agent.prints("Node node-1 has no spec.podCIDRs yet")?;
    agent.prints("Node far (172.16.0.9) is not on a link of this node")?;
    comes_to(one, &towards(&[two]))?;
    assert!(!tables(one)?.contains("masquerade fully-random"));
    stage.put(one.object())?;
    eventually("the rule for pods", PATIENCE, || {
        let now = tables(one)?;
        if now.contains("ip saddr 10.244.1.0/24") { Ok(()) } else { Err(now) }
    })?;
    agent.prints("no longer so: Node node-1 has no spec.podCIDRs yet")?;
    let metrics = fetch(one, 10271, "/metrics")?;
    assert!(metrics.contains("rest_client_requests_total{code=\"200\",host=\""), "{metrics}");
    stage.server.delete("nodes", "", "node-2").map_err(|refusal| format!("{refusal:?}"))?;
    comes_to(one, &[])
}
