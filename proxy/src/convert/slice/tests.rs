use serde_json::{Value, json};

use super::*;
use crate::convert::tests::{ips, names};
use crate::model::Protocol;

fn verdict(object: Value) -> Result<Verdict, String> {
    let object: EndpointSlice = serde_json::from_value(object).unwrap();
    slice(&object, &mut names()).map_err(|error| error.to_string())
}

fn converted(mut fields: Value) -> Result<Slice, String> {
    fields["metadata"] = json!({"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}});
    match verdict(fields) {
        Ok(Verdict::Ours(Object::Slice(slice), _)) => Ok(Arc::unwrap_or_clone(slice)),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

/// kp:A10
#[test]
fn a_slice_is_read_as_the_reference_reads_it() {
    let slice = converted(json!({
        "addressType": "IPv6",
        "endpoints": [
            {"addresses": ["fd00::1", "fd00::2"], "conditions": {"ready": null}, "nodeName": "node-a"},
            {"addresses": ["fd00::3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["fd00::4"], "conditions": {"ready": false, "serving": false}, "nodeName": ""},
            {"addresses": ["fd00::5"]},
        ],
        "ports": [{"name": "", "port": 1}, {"name": "all", "port": null}, {"name": "zero", "port": 0}, {"port": 2}],
    }));
    let slice = slice.unwrap();
    assert_eq!(&*slice.service, "web");
    assert_eq!(
        slice.endpoints.iter().map(|at| at.address).collect::<Vec<_>>(),
        ips(&["fd00::1", "fd00::3", "fd00::4", "fd00::5"])
    );
    let states: Vec<_> = slice.endpoints.iter().map(|at| (at.ready, at.serving, at.terminating)).collect();
    assert_eq!(
        states,
        [(true, true, false), (false, true, true), (false, false, false), (true, true, false)]
    );
    let nodes: Vec<_> = slice.endpoints.iter().map(|at| at.node.as_deref()).collect();
    assert_eq!(nodes, [Some("node-a"), None, None, None]);
    let ports: Vec<_> = slice.ports.iter().map(|port| (&*port.name, port.protocol, port.port)).collect();
    assert_eq!(ports, [("", Protocol::Tcp, 1), ("", Protocol::Tcp, 2)]);
}

/// kp:B5
#[test]
fn hints_alone_say_for_whom_an_endpoint_is_meant() {
    let slice = converted(json!({"addressType": "IPv4", "endpoints": [
        {"addresses": ["10.0.0.1"], "hints": {"forNodes": [{"name": "n"}], "forZones": [{"name": "a"}, {"name": "b"}]}},
        {"addresses": ["10.0.0.2"], "hints": {"forZones": []}, "zone": "a", "deprecatedTopology": {"zone": "a"}},
        {"addresses": ["10.0.0.3"], "hints": null},
    ]}));
    let slice = slice.unwrap();
    let hints = Hints { nodes: vec!["n".into()], zones: vec!["a".into(), "b".into()] };
    assert_eq!(slice.endpoints[0].hints.as_deref(), Some(&hints));
    assert_eq!(slice.endpoints[1].hints, None);
    assert_eq!(slice.endpoints[2].hints, None);
}

/// kp:A10
#[test]
fn a_slice_of_no_service_is_a_stray_and_one_of_host_names_is_ignored() {
    for labels in [json!({}), json!({"kubernetes.io/service-name": ""})] {
        let object = json!({"addressType": "IPv4", "metadata": {"labels": labels}});
        let Ok(Verdict::Stray(error)) = verdict(object) else { panic!("{labels}") };
        assert_eq!(error.to_string(), "metadata.labels[kubernetes.io/service-name]: missing");
    }
    let host_names =
        json!({"addressType": "FQDN", "metadata": {"labels": {"kubernetes.io/service-name": "web"}}});
    assert!(matches!(verdict(host_names), Ok(Verdict::Ignored(reason)) if reason.contains("addressType")));
}

/// kp:A2
#[test]
fn the_headless_label_hides_by_being_there() {
    for value in ["", "other"] {
        let labels = json!({"service.kubernetes.io/headless": value, "kubernetes.io/service-name": "web"});
        let headless = verdict(json!({"addressType": "IPv4", "metadata": {"labels": labels}}));
        assert!(matches!(headless, Ok(Verdict::Ignored(_))));
    }
}

/// kp:A9
#[test]
fn sloppy_addresses_become_canonical_ones() {
    let slice = converted(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["010.0.0.1"]}]}));
    assert_eq!(slice.unwrap().endpoints[0].address, ips(&["10.0.0.1"])[0]);
}

#[test]
fn a_bad_field_is_named_with_its_path() {
    for (fields, message) in [
        (json!({"endpoints": []}), "addressType: missing"),
        (json!({"addressType": "IPv4", "endpoints": [{}]}), "endpoints[0].addresses[0]: missing"),
        (
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}]}),
            "endpoints[0].addresses[0]: fd00::1 is not an IPv4 address",
        ),
        (
            json!({"addressType": "IPv6", "ports": [{"port": 65536}]}),
            "ports[0].port: 65536 is not a port (1-65535)",
        ),
    ] {
        assert_eq!(converted(fields).unwrap_err(), message);
    }
}

#[test]
fn what_go_writes_as_null_is_empty() {
    let slice = converted(json!({"addressType": "IPv4", "endpoints": null, "ports": null})).unwrap();
    assert_eq!((slice.endpoints, slice.ports), (vec![], vec![]));
}
