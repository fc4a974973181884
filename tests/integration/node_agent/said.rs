//! What it says in the cluster: Events of its own Node, and that the Node's network is available.

use crate::{Outcomes, Served, comes_to, ip, towards};
use heddle_tests::lab::Node;
use heddle_tests::patience::{PATIENCE, eventually};
use serde_json::{Value, json};
use std::error::Error;
use std::sync::Arc;

impl Served {
    fn events(&self) -> Vec<Arc<Value>> {
        self.server.list("events")
    }

    /// The first Event with this reason.
    fn event(&self, reason: &str) -> Result<Arc<Value>, Box<dyn Error>> {
        Ok(eventually(reason, PATIENCE, || {
            let mut events = self.events().into_iter();
            events.find(|event| event["reason"] == reason).ok_or_else(|| format!("{:?}", self.events()))
        })?)
    }

    /// The condition `NetworkUnavailable` of the first node.
    fn condition(&self) -> Value {
        let node = self.server.get("nodes", "", "node-1").unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|it| it["type"] == "NetworkUnavailable").unwrap_or_default()
    }

    fn becomes_available(&self) -> Outcomes {
        eventually("an available network", PATIENCE, || {
            let now = self.condition();
            if now["status"] == "False" { Ok(()) } else { Err(now.to_string()) }
        })?;
        Ok(())
    }
}

fn with_conditions(node: &Node, status: &str) -> Value {
    let mut object = node.object();
    object["status"]["conditions"] = json!([
        { "type": "Ready", "status": "True", "reason": "KubeletReady" },
        { "type": "NetworkUnavailable", "status": status, "reason": "NoRouteCreated", "lastTransitionTime": "2020-01-01T00:00:00Z" },
    ]);
    object
}

#[test]
fn what_is_wrong_is_said_once_of_the_own_node_and_of_no_other() -> Outcomes {
    let stage = Served::new(&["node-1", "node-2"])?;
    let two = stage.lab.node("node-2")?;
    for number in 0..5 {
        let mut far = two.object();
        far["metadata"]["name"] = json!(format!("far-{number}"));
        far["spec"]["podCIDRs"] = json!([format!("10.244.9{number}.0/24")]);
        far["spec"]["podCIDR"] = far["spec"]["podCIDRs"][0].clone();
        far["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "172.16.0.9" }]);
        stage.put(far)?;
    }
    let mut same = two.object();
    same["metadata"]["name"] = json!("same");
    stage.put(same)?;
    let flags = ["--mode", "routes"];
    let mut agent = stage.agent(&stage.server.token(), &flags)?;
    let event = stage.event("NoRouteToNode")?;
    let about = &event["regarding"];
    assert_eq!((&about["kind"], &about["name"]), (&json!("Node"), &json!("node-1")));
    assert_eq!((&event["type"], &event["reportingController"]), (&json!("Warning"), &json!("heddle-node")));
    assert_eq!(event["reportingInstance"], "heddle-node-node-1");
    let note = event["note"].as_str().unwrap_or_default();
    assert!(note.starts_with("Node far-0 (172.16.0.9)") && note.contains("one of several"), "{note}");
    assert_eq!(stage.event("Starting")?["type"], "Normal");
    agent.kill()?;
    let _agent = stage.agent(&stage.server.token(), &flags)?;
    let is_start = |event: &Arc<Value>| event["reason"] == "Starting";
    eventually("the Event of the second start", PATIENCE, || {
        let starts = stage.events().iter().filter(|event| is_start(event)).count();
        if starts == 2 { Ok(()) } else { Err(starts.to_string()) }
    })?;
    ip(stage.lab.node("node-1")?, "route add 10.244.2.0/24 via 192.168.0.1")?;
    stage.event("RouteConflict")?;
    // What is wrong between node-2 and the other with its ranges is said by their own agents.
    let others = stage.events().into_iter().filter(|event| !is_start(event));
    let said: Vec<_> = others.map(|event| event["reason"].clone()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    Ok(())
}

#[test]
fn a_node_is_said_to_have_its_network_once_it_has_and_whenever_another_denies_it() -> Outcomes {
    let stage = Served::new(&["node-1", "node-2"])?;
    let one = stage.lab.node("node-1")?;
    let mut waiting = with_conditions(one, "True");
    waiting["spec"] = json!({});
    stage.put(waiting)?;
    let agent = stage.agent(&stage.server.token(), &[])?;
    let event = stage.event("PodCIDRNotAvailable")?;
    assert!(event["note"].as_str().is_some_and(|note| note.contains("--allocate-node-cidrs")), "{event}");
    assert_eq!(stage.condition()["status"], "True", "there are no addresses for pods");
    stage.put(with_conditions(one, "True"))?;
    stage.becomes_available()?;
    let said = stage.condition();
    assert_eq!(
        (&said["reason"], &said["message"]),
        (&json!("HeddleIsUp"), &json!("heddle-node is running on this node"))
    );
    assert_ne!(said["lastTransitionTime"], "2020-01-01T00:00:00Z");
    let node = stage.server.get("nodes", "", "node-1").ok_or("it is there")?;
    assert_eq!(node["status"]["conditions"][0]["reason"], "KubeletReady", "others' conditions stay");
    stage.put(with_conditions(one, "True"))?;
    stage.becomes_available()?;
    agent.prints("NetworkUnavailable is False")?;
    Ok(())
}

#[test]
fn without_the_rights_to_say_it_pods_are_reached_all_the_same() -> Outcomes {
    let stage = Served::new(&["node-1", "node-2"])?;
    stage.put(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "poor" },
        "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"] }],
    }))?;
    stage.put(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "poor" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "poor" },
        "subjects": [{ "kind": "ServiceAccount", "name": "poor", "namespace": "kube-system" }],
    }))?;
    let agent = stage.agent(&stage.server.token_of("kube-system", "poor"), &[])?;
    agent.prints("Events are not posted for now: the API server refuses it")?;
    agent.prints("NetworkUnavailable is not set for now: the API server refuses it")?;
    let (one, two) = (stage.lab.node("node-1")?, stage.lab.node("node-2")?);
    comes_to(one, &towards(&[two]))?;
    stage.server.delete("nodes", "", "node-2").map_err(|refusal| format!("{refusal:?}"))?;
    comes_to(one, &[])?;
    let log = agent.stdout() + &agent.stderr();
    assert_eq!(log.matches("not posted").count() + log.matches("is not set").count(), 2, "{log}");
    Ok(())
}
