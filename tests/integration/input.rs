//! What a running `heddle-proxy` makes of objects that no API server should give it.
//!
//! Each costs itself at most: it is named in the log and in an Event, and everything else is served, then and later.

#[path = "input/objects.rs"]
mod objects;
#[path = "input/property.rs"]
mod property;

use heddle_netlink::nft::{self, TableFamily};
use heddle_netlink::{Family, Socket};
use heddle_proxy::nft::ruleset;
use heddle_tests::apiserver::ApiServer;
use heddle_tests::lab::Node;
use heddle_tests::objects::{service, slice};
use heddle_tests::patience::{PATIENCE, eventually};
use heddle_tests::plane::Plane;
use heddle_tests::proxy::Proxy;
use serde_json::{Value, json};
use std::error::Error;
use std::net::IpAddr;

type Outcomes = Result<(), Box<dyn Error>>;

const TARGET: u16 = 8080;

/// A node with an API server on it, and perhaps with a proxy.
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

    fn node(&self) -> Result<&Node, Box<dyn Error>> {
        Ok(self.plane.node()?)
    }

    fn log(&self) -> String {
        self.proxy.as_ref().map(Proxy::log).unwrap_or_default()
    }

    fn logged(&self, text: &str) -> Outcomes {
        eventually(text, PATIENCE, || if self.log().contains(text) { Ok(()) } else { Err(self.log()) })?;
        Ok(())
    }

    /// Waits until the kernel holds all of these texts and none of those.
    fn holds(&self, present: &[&str], absent: &[&str]) -> Outcomes {
        Ok(self.plane.holds(self.proxy.as_ref().ok_or("no proxy")?, present, absent)?)
    }

    /// The reason and note of the one Event about an object, and the one line of the log.
    fn said_once(&self, kind: &str, name: &str) -> Result<(String, String), Box<dyn Error>> {
        let about = |event: &Value| event["regarding"]["kind"] == kind && event["regarding"]["name"] == name;
        let events =
            || self.server().list("events").into_iter().filter(|event| about(event)).collect::<Vec<_>>();
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
    stage.server().plant(service_with("listed", "10.96.0.1", "/spec/ports", json!("80"))?)?;
    stage.server().apply(plain("web", "10.96.0.2")?)?;
    let mut endpoints = slice("listed", "node-1", &["10.244.1.11".parse()?], TARGET);
    endpoints["endpoints"] = json!([{"addresses": "10.244.1.11"}]);
    stage.server().plant(endpoints)?;
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
    stage.server().plant(nobody)?;
    stage.logged("WARN Service default/nobody: spec.ports")?;

    // The last good state stays, and the watch goes on behind it.
    stage.server().plant(service_with("web", "10.96.0.2", "/spec/ports/0/port", json!(1e30))?)?;
    stage.said_once("Service", "web")?;
    stage.server().apply(plain("later", "10.96.0.3")?)?;
    stage.holds(&["10.96.0.2 . tcp . 80", "10.96.0.3 . tcp . 80"], &[])?;

    stage.server().apply(plain("listed", "10.96.0.1")?)?;
    stage.logged("no more: Service default/listed: spec.ports")?;
    stage.server().delete("services", "default", "web")?;
    stage.holds(&["10.96.0.1 . tcp . 80", "10.96.0.3 . tcp . 80"], &["10.96.0.2 "])
}

#[test]
fn an_object_of_another_shape_costs_only_itself_in_a_list_in_pages() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.server().disable_streaming_lists();
    stage.server().plant(service_with("listed", "10.96.0.1", "/spec", json!(["no spec", 7]))?)?;
    stage.server().apply(plain("web", "10.96.0.2")?)?;
    stage.start()?;
    stage.holds(&["10.96.0.2 . tcp . 80"], &["10.96.0.1 "])?;
    stage.said_once("Service", "listed")?;
    Ok(())
}

/// Number of elements in one of the node's sets.
fn elements(node: &Node, set: &str) -> Result<usize, String> {
    let load = || nft::load(&mut Socket::open(Family::Netfilter)?, TableFamily::Ip, ruleset::TABLE);
    let table = node.namespace().enter(load).map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(table.ok_or("there is no table")?.sets[set].elements.len())
}

/// A Service whose endpoints stand in so many slices of so many.
fn spread_over(slices: u16, each: u16) -> Outcomes {
    let mut stage = Stage::new()?;
    stage.server().apply(plain("web", "10.96.0.1")?)?;
    let slice_of = |number: u16| {
        let address = |at: u16| {
            let [high, low] = (number * each + at).to_be_bytes();
            IpAddr::from([10, 200, high, low])
        };
        let mut object = slice("web", "node-2", &(0..each).map(address).collect::<Vec<_>>(), TARGET);
        object["metadata"]["name"] = json!(format!("web-{number}"));
        object
    };
    for number in 0..slices {
        stage.server().apply(slice_of(number))?;
    }
    stage.start()?;
    let comes_to = |stage: &Stage, wanted: u16| {
        eventually(&format!("{wanted} endpoints"), PATIENCE, || {
            match elements(stage.node().map_err(|e| e.to_string())?, ruleset::ENDPOINTS)? {
                found if found == usize::from(wanted) => Ok(()),
                found => Err(format!("{found}\n{}", stage.log())),
            }
        })
    };
    comes_to(&stage, slices * each)?;
    stage.holds(&[&format!("goto cluster-{}", slices * each)], &[])?;
    stage.server().delete("endpointslices", "default", "web-0")?;
    comes_to(&stage, (slices - 1) * each)?;
    stage.server().apply(plain("later", "10.96.0.2")?)?;
    stage.holds(&["10.96.0.2 . tcp . 80"], &[])?;
    assert!(!stage.log().contains("ERROR"), "{}", stage.log());
    Ok(())
}

#[test]
fn five_thousand_endpoints_of_one_service_are_written() -> Outcomes {
    spread_over(5, 1000)
}

#[test]
fn a_thousand_slices_of_one_service_are_written() -> Outcomes {
    spread_over(1000, 1)
}

/// What is wrong is named with its field, once in the log and once in an Event; everything else is served.
#[test]
fn malformed_objects_are_named_once_and_their_neighbours_are_served() -> Outcomes {
    let mut stage = Stage::new()?;
    stage.start()?;
    let bad = |name: &str, pointer: &str, value: Value| service_with(name, "10.96.1.1", pointer, value);
    let mut other_family = bad("family", "/spec/clusterIPs", json!(["10.96.1.1"]))?;
    other_family["spec"]["ipFamilies"] = json!(["IPv6"]);
    let mut endpoints = slice("web", "node-1", &["10.244.1.11".parse()?], TARGET);
    let mut stray = endpoints.clone();
    stray["metadata"] = json!({"namespace": "default", "name": "stray"});
    endpoints["addressType"] = json!("IPv6");
    let not_a_port = "is not a port (1-65535); its last good state stays";
    for (object, reason, note) in [
        (
            bad("high", "/spec/ports/0/port", json!(70_000))?,
            "ObjectRefused",
            &*format!("spec.ports[0].port: 70000 {not_a_port}"),
        ),
        (
            bad("low", "/spec/ports/0/port", json!(0))?,
            "ObjectRefused",
            &format!("spec.ports[0].port: 0 {not_a_port}"),
        ),
        (
            bad("protocol", "/spec/ports/0/protocol", json!("ICMP"))?,
            "ObjectRefused",
            "spec.ports[0].protocol: \"ICMP\" is not a protocol",
        ),
        (
            bad("address", "/spec/clusterIPs/0", json!("10.96.0"))?,
            "ObjectRefused",
            "spec.clusterIPs[0]: \"10.96.0\" is not an IP address",
        ),
        (other_family, "ObjectRefused", "spec.clusterIPs[0]: 10.96.1.1 is not an IPv6 address"),
        (endpoints, "ObjectRefused", "endpoints[0].addresses[0]: 10.244.1.11 is not an IPv6 address"),
        (
            stray,
            "ObjectIgnored",
            "metadata.labels[kubernetes.io/service-name]: missing; it is as if it were not there",
        ),
    ] {
        let (kind, name) = (object["kind"].clone(), object["metadata"]["name"].clone());
        stage.server().plant(object)?;
        let said = stage.said_once(kind.as_str().unwrap_or_default(), name.as_str().unwrap_or_default())?;
        assert!(said.0 == reason && said.1.starts_with(note), "{said:?} is not {reason} {note}");
    }
    // Canonical, or without meaning for the family: nothing is wrong.
    let mut web = service_with("web", "10.96.0.1", "/spec/clusterIPs", json!(["010.096.000.001"]))?;
    web["spec"]["loadBalancerSourceRanges"] = json!(["fd00::/8"]);
    web["status"]["loadBalancer"]["ingress"] = json!([{"ip": "198.051.100.001"}]);
    stage.server().plant(web)?;
    stage.holds(&["10.96.0.1 . tcp . 80", "198.51.100.1 . tcp . 80"], &["10.96.1.1"])?;
    assert_eq!(elements(stage.node()?, ruleset::FILTERED)?, 0);
    assert!(
        !stage.log().contains("Service default/web") && !stage.log().contains("ERROR"),
        "{}",
        stage.log()
    );
    Ok(())
}
