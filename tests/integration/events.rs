//! What a running `heddle-proxy` says in the cluster of objects that it cannot serve as they ask, and with which rights.

use heddle_tests::apiserver::{ApiServer, Asked};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::plane::Plane;
use heddle_tests::proxy::Proxy;
use serde_json::{Value, json};
use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;

type Outcomes = Result<(), Box<dyn Error>>;

/// What the ClusterRole `system:node-proxier` of Kubernetes 1.36 allows: verbs, API group, resources.
const NODE_PROXIER: &[(&[&str], &str, &[&str])] = &[
    (&["list", "watch"], "", &["services", "endpoints"]),
    (&["get", "list", "watch"], "", &["nodes"]),
    (&["list", "watch"], "discovery.k8s.io", &["endpointslices"]),
    (&["list", "watch"], "networking.k8s.io", &["servicecidrs"]),
    (&["create", "patch", "update"], "", &["events"]),
    (&["create", "patch", "update"], "events.k8s.io", &["events"]),
];

/// kube-proxy's word for a health server that has no address.
const REASON: &str = "FailedToStartProxierHealthcheck";

/// A node whose proxy follows an API server, which is on the node too.
struct Stage {
    plane: Plane,
    proxy: Option<Proxy>,
}

impl Stage {
    fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self { plane: Plane::new(1)?, proxy: None })
    }

    fn server(&self) -> &ApiServer {
        self.plane.server()
    }

    fn start(&mut self) -> Outcomes {
        let proxy = self.plane.proxy(&[])?;
        proxy.ready(self.plane.node()?)?;
        self.proxy = Some(proxy);
        Ok(())
    }

    fn log(&self) -> String {
        self.proxy.as_ref().map(Proxy::log).unwrap_or_default()
    }

    /// A Service that claims an external IP.
    fn service(&self, name: &str, external_ip: &str) -> Result<Arc<Value>, Box<dyn Error>> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"externalIPs": [external_ip], "ports": [{"port": 80}]},
        });
        Ok(self.server().apply(service)?)
    }

    /// A Service with such a text for its load balancer's address, which the API server does not check.
    fn balanced(&self, name: &str, ip: &str) -> Outcomes {
        let own = format!("198.51.100.{}", name.as_bytes()[0]);
        let mut service = (*self.service(name, &own)?).clone();
        service["status"]["loadBalancer"]["ingress"] = json!([{"ip": ip}]);
        self.server().apply(service)?;
        Ok(())
    }

    /// The Events about an object of this name.
    fn events(&self, name: &str) -> Vec<Arc<Value>> {
        let all = self.server().list("events").into_iter();
        all.filter(|event| event["regarding"]["name"] == name).collect()
    }

    fn event(&self, name: &str) -> Result<Arc<Value>, Box<dyn Error>> {
        let mut found = None;
        eventually(&format!("an Event about {name}"), PATIENCE, || {
            found = self.events(name).pop();
            found.as_ref().map(drop).ok_or_else(|| self.log())
        })?;
        Ok(found.ok_or("it was there")?)
    }

    fn logged(&self, text: &str) -> Outcomes {
        eventually(text, PATIENCE, || if self.log().contains(text) { Ok(()) } else { Err(self.log()) })?;
        Ok(())
    }

    /// How often Events were created or changed.
    fn writes(&self) -> usize {
        self.server()
            .asked()
            .iter()
            .filter(|(asked, _)| asked.resource == "events")
            .map(|(_, times)| times)
            .sum()
    }
}

/// kp:A14: everything that the proxy asks for in its life is in the rules of the role that clusters have for it.
#[test]
fn all_that_is_asked_of_the_api_server_is_in_system_node_proxier() -> Outcomes {
    let mut stage = Stage::new()?;
    let (_, loser) = (stage.service("a", "198.51.100.1")?, stage.service("b", "198.51.100.1")?);
    stage.start()?;
    stage.event("node-1")?;
    assert_eq!(stage.event("b")?["regarding"]["uid"], loser["metadata"]["uid"]);
    let is_allowed = |asked: &Asked| {
        NODE_PROXIER.iter().any(|(verbs, group, resources)| {
            verbs.contains(&asked.verb)
                && *group == asked.group
                && resources.contains(&asked.resource.as_str())
        })
    };
    let asked = stage.server().asked();
    let beyond: Vec<&Asked> = asked.keys().filter(|asked| !is_allowed(asked)).collect();
    assert!(beyond.is_empty() && asked.len() > 5, "{beyond:?} of {asked:?}");
    Ok(())
}

/// kp:C7, kp:P14: the loser of a conflict hears of it, once; when the owner goes it hears no more.
#[test]
fn the_loser_of_a_conflict_gets_one_event_that_names_the_owner() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.service("a", "198.51.100.1")?;
    stage.start()?;
    stage.service("b", "198.51.100.1")?;
    let event = stage.event("b")?;
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("FrontendConflict")));
    for part in ["198.51.100.1:80/tcp", "shop/a", "spec.externalIPs"] {
        assert!(event["note"].as_str().is_some_and(|note| note.contains(part)), "{part} in {event}");
    }
    stage.server().delete("services", "shop", "a")?;
    stage.logged("no more: Service shop/b: spec.externalIPs")?;
    // The next Event comes after whatever else there would have been to say.
    stage.service("c", "198.51.100.1")?;
    stage.event("c")?;
    assert_eq!((stage.events("a").len(), stage.events("b").len()), (0, 1));
    Ok(())
}

#[test]
fn a_service_with_a_field_that_cannot_be_read_gets_an_event_that_names_it() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.start()?;
    stage.balanced("a", "not an address")?;
    let event = stage.event("a")?;
    assert_eq!(event["reason"], "FieldIgnored");
    let note = event["note"].as_str().unwrap_or_default();
    assert!(
        note.starts_with("status.loadBalancer.ingress[0].ip: \"not an address\" is not an IP address"),
        "{note}"
    );
    assert_eq!(event["involvedObject"]["name"], "a", "who reads the older Events finds it");
    Ok(())
}

#[test]
fn an_object_that_flaps_costs_a_handful_of_requests() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.start()?;
    stage.event("node-1")?;
    for _ in 0..100 {
        stage.balanced("a", "not an address")?;
        stage.balanced("a", "198.51.100.1")?;
    }
    stage.balanced("b", "not an address")?;
    stage.event("b")?;
    assert!(stage.events("a").len() <= 1, "{:?}", stage.events("a"));
    // Of the node, of both Services, and how often the first had begun before it was said.
    assert!(stage.writes() <= 4, "{:?}", stage.server().asked());
    Ok(())
}

#[test]
fn a_server_that_refuses_events_is_named_once_and_services_are_served_all_the_same() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.server().forbid(Some("events"));
    stage.balanced("a", "not an address")?;
    stage.start()?;
    stage.logged("Events are not posted for now: the API server refuses it")?;
    let node = stage.plane.node()?;
    stage.service("b", "198.51.100.7")?;
    eventually("the Service's rule", PATIENCE, || {
        let table = node.nft(["list", "table", "ip", "heddle-proxy"]).map_err(|error| error.to_string())?;
        if table.stdout.contains("198.51.100.7") { Ok(()) } else { Err(table.stdout) }
    })?;
    eventually("another try", PATIENCE, || if stage.writes() > 2 { Ok(()) } else { Err(stage.log()) })?;
    assert_eq!(stage.log().matches("Events are not posted").count(), 1, "{}", stage.log());
    stage.server().forbid(None);
    stage.event("a")?;
    Ok(())
}

/// kp:I8
#[test]
fn a_start_that_fails_for_its_health_server_is_one_event_of_the_node() -> Outcomes {
    let stage = Stage::new()?;
    let taken = stage.plane.node()?.namespace().enter(|| TcpListener::bind("0.0.0.0:10256"))??;
    for _ in 0..2 {
        let mut proxy = stage.plane.proxy(&["--bind-address-hard-fail"])?;
        assert_eq!(proxy.process().wait(PATIENCE)?.code(), Some(1));
    }
    let said = stage.events("node-1");
    let [event] = &said[..] else { return Err(format!("{said:?}").into()) };
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!(REASON)));
    assert_eq!(
        event["note"],
        "failed to start proxier healthz on 0.0.0.0:10256: Address already in use (os error 98)"
    );
    drop(taken);
    Ok(())
}
