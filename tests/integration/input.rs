//! What a running `heddle-proxy` makes of objects that no API server should give it.
//!
//! Each costs itself at most: it is named in the log and in an Event, and everything else is served, then and later.

use heddle_tests::apiserver::{ApiServer, Options};
use heddle_tests::lab::{Lab, Node};
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::proxy::Proxy;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::net::{IpAddr, TcpListener};

type Outcomes = Result<(), Box<dyn Error>>;

const TARGET: u16 = 8080;

/// A node with an API server on it, and perhaps with a proxy.
struct Stage {
    server: ApiServer,
    proxy: Option<Proxy>,
    lab: Lab,
}

impl Stage {
    fn new() -> Result<Self, Box<dyn Error>> {
        let lab = Lab::new(&["node-1"])?;
        let listener = lab.node("node-1")?.namespace().enter(|| TcpListener::bind("127.0.0.1:0"))??;
        let server = ApiServer::start(listener, Options::default())?;
        server.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}))?;
        Ok(Self { server, proxy: None, lab })
    }

    fn start(&mut self) -> Outcomes {
        let node = self.lab.node("node-1")?;
        let kubeconfig = node.directory().join("kubeconfig");
        fs::write(&kubeconfig, self.server.kubeconfig())?;
        let proxy = Proxy::start_with(node, &["--kubeconfig", &kubeconfig.to_string_lossy()])?;
        proxy.ready(node)?;
        self.proxy = Some(proxy);
        Ok(())
    }

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.lab.node("node-1")?)
    }

    fn log(&self) -> String {
        self.proxy.as_ref().map(Proxy::log).unwrap_or_default()
    }

    fn logged(&self, text: &str) -> Outcomes {
        eventually(text, PATIENCE, || if self.log().contains(text) { Ok(()) } else { Err(self.log()) })?;
        Ok(())
    }

    /// Waits until the kernel's IPv4 table holds all of these texts and none of those.
    fn holds(&self, present: &[&str], absent: &[&str]) -> Outcomes {
        let node = self.node()?;
        eventually(&format!("{present:?} without {absent:?}"), PATIENCE, || {
            let listed = node.nft(["list", "table", "ip", "heddle-proxy"]).map_err(|e| e.to_string())?.stdout;
            let right = present.iter().all(|text| listed.contains(text))
                && !absent.iter().any(|text| listed.contains(text));
            if right { Ok(()) } else { Err(format!("{listed}\n{}", self.log())) }
        })?;
        Ok(())
    }

    /// The reason and note of the one Event about an object, and the one line of the log.
    fn said_once(&self, kind: &str, name: &str) -> Result<(String, String), Box<dyn Error>> {
        let about = |event: &Value| event["regarding"]["kind"] == kind && event["regarding"]["name"] == name;
        let events =
            || self.server.list("events").into_iter().filter(|event| about(event)).collect::<Vec<_>>();
        let event = eventually(&format!("an Event about {kind} {name}"), PATIENCE, || {
            events().pop().ok_or_else(|| self.log())
        })?;
        assert_eq!(events().len(), 1, "{:?}", events());
        let note = event["note"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            self.log().matches(&format!("{kind} default/{name}: {note}")).count(),
            1,
            "{}",
            self.log()
        );
        Ok((event["reason"].as_str().unwrap_or_default().to_owned(), note))
    }
}

/// A Service of this address with another value in one field.
fn service_with(name: &str, cluster_ip: &str, pointer: &str, value: Value) -> Result<Value, Box<dyn Error>> {
    let address: IpAddr = cluster_ip.parse()?;
    let mut object = service(name, &[address], 80, TARGET);
    *object.pointer_mut(pointer).ok_or("no such field")? = value;
    Ok(object)
}

fn plain(name: &str, cluster_ip: &str) -> Result<Value, Box<dyn Error>> {
    Ok(service(name, &[cluster_ip.parse()?], 80, TARGET))
}

#[test]
fn an_object_of_another_shape_costs_only_itself_in_the_list_and_in_the_watch() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.server.plant(service_with("listed", "10.96.0.1", "/spec/ports", json!("80"))?)?;
    stage.server.apply(plain("web", "10.96.0.2")?)?;
    let mut endpoints = slice("listed", "node-1", &["10.244.1.11".parse()?], TARGET);
    endpoints["endpoints"] = json!([{"addresses": "10.244.1.11"}]);
    stage.server.plant(endpoints)?;
    stage.start()?;
    stage.holds(&["10.96.0.2 . tcp . 80"], &["10.96.0.1 "])?;
    let (reason, note) = stage.said_once("Service", "listed")?;
    assert_eq!(reason, "ObjectRefused");
    assert!(note.starts_with("spec.ports: invalid type: string \"80\""), "{note}");
    let (_, note) = stage.said_once("EndpointSlice", "listed-4")?;
    assert!(note.starts_with("endpoints[0].addresses: "), "{note}");

    // Nor does one hold up the Events of others of which none can be posted.
    let mut nobody = service_with("nobody", "10.96.0.9", "/spec/ports", json!("80"))?;
    nobody["metadata"]["uid"] = json!(7);
    stage.server.plant(nobody)?;
    stage.logged("WARN Service default/nobody: spec.ports")?;

    // The last good state stays, and the watch goes on behind it.
    stage.server.plant(service_with("web", "10.96.0.2", "/spec/ports/0/port", json!(1e30))?)?;
    stage.said_once("Service", "web")?;
    stage.server.apply(plain("later", "10.96.0.3")?)?;
    stage.holds(&["10.96.0.2 . tcp . 80", "10.96.0.3 . tcp . 80"], &[])?;

    stage.server.apply(plain("listed", "10.96.0.1")?)?;
    stage.logged("no more: Service default/listed: spec.ports")?;
    stage.server.delete("services", "default", "web")?;
    stage.holds(&["10.96.0.1 . tcp . 80", "10.96.0.3 . tcp . 80"], &["10.96.0.2 "])
}

#[test]
fn an_object_of_another_shape_costs_only_itself_in_a_list_in_pages() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.server.disable_streaming_lists();
    stage.server.plant(service_with("listed", "10.96.0.1", "/spec", json!(["no spec", 7]))?)?;
    stage.server.apply(plain("web", "10.96.0.2")?)?;
    stage.start()?;
    stage.holds(&["10.96.0.2 . tcp . 80"], &["10.96.0.1 "])?;
    stage.said_once("Service", "listed")?;
    Ok(())
}
