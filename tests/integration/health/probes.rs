//! The health server: `/healthz`, `/livez` and `/readyz`.

use super::{CHECK, EVERYWHERE, Outcomes, PROBES, Stage, balanced, start};
use heddle_tests::lab::Lab;
use heddle_tests::patience::PATIENCE;
use heddle_tests::proxy::Manifests;
use serde_json::{Value, json};
use std::net::TcpListener;

fn node_object() -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" } })
}

/// kp:G1, kp:G3, kp:G4: the states of a node that comes, is drained, and goes.
#[test]
fn probes_follow_the_node_object_and_liveness_does_not() -> Outcomes {
    let stage = Stage::new(&[], &[])?;
    let ready = stage.probe("/readyz", 200)?;
    assert_eq!(ready.body["ready"], true);
    let unknown = stage.probe("/healthz", 503)?;
    assert_eq!(unknown.body["nodeEligible"], false);
    stage.put(&[node_object()])?;
    let eligible = stage.probe("/healthz", 200)?;
    assert_eq!(eligible.body["lastUpdated"], eligible.body["currentTime"]);
    assert_eq!(eligible.body["status"]["IPv4"]["healthy"], true);
    assert_eq!(eligible.headers["content-type"], "application/json");
    assert_eq!(eligible.headers["x-content-type-options"], "nosniff");

    let mut tainted = node_object();
    tainted["spec"] =
        json!({ "taints": [{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }] });
    let mut deleted = node_object();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-05-01T12:00:00Z");
    for objects in [vec![tainted], vec![deleted], vec![]] {
        stage.put(&objects)?;
        assert_eq!(stage.probe("/healthz", 503)?.body["nodeEligible"], false);
        let alive = stage.probe("/livez", 200)?;
        assert_eq!(alive.body.get("nodeEligible"), None);
        stage.put(&[node_object()])?;
        stage.probe("/healthz", 200)?;
    }
    let to = stage.address(0, PROBES)?;
    for method in ["HEAD", "POST", "PUT", "DELETE", "BREW"] {
        stage.reply(method, to, "/healthz", 200)?;
    }
    stage.probe("/elsewhere", 404)?;
    Ok(())
}

#[test]
fn the_health_server_listens_where_it_is_told_to_or_not_at_all() -> Outcomes {
    let six = Stage::new(&["--healthz-bind-address", "[::]:10300"], &[])?;
    for family in [0, 1] {
        six.reply("GET", six.address(family, 10_300)?, "/livez", 200)?;
    }
    let off = Stage::new(
        &["--healthz-bind-address", "", EVERYWHERE[0], EVERYWHERE[1]],
        &[balanced("web", CHECK)?],
    )?;
    off.check(503, "0")?;
    off.closed(off.lab.outside(), off.address(0, PROBES)?)
}

/// kp:G1, kp:I8
#[test]
fn an_address_in_use_is_tried_again_or_ends_the_proxy_when_that_is_asked_for() -> Outcomes {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let manifests = Manifests::of(node)?;
    let taken = node.namespace().enter(|| TcpListener::bind(("0.0.0.0", PROBES)))??;
    let mut strict = start(node, &manifests, &["--bind-address-hard-fail"])?;
    assert_eq!(strict.process().wait(PATIENCE)?.code(), Some(1));
    let said = strict.log();
    assert!(
        said.contains("failed to start proxier healthz on 0.0.0.0:10256: Address already in use"),
        "{said}"
    );
    let mut proxy = start(node, &manifests, &[])?;
    proxy.process().prints("the health server cannot listen on 0.0.0.0:10256, trying again")?;
    drop(taken);
    let stage = Stage { proxy, manifests, lab };
    stage.probe("/livez", 200)?;
    Ok(())
}
