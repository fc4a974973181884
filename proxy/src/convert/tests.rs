use serde_json::{Value, json};

use super::*;

fn names() -> Names {
    Names::default()
}

fn converted_service(spec: &Value) -> Result<Service, String> {
    let object: objects::Service =
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
    match service(&object, &mut names()) {
        Ok(Verdict::Ours(Object::Service(service))) => Ok(service),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn slice_verdict(object: Value) -> Result<Verdict, String> {
    let object: EndpointSlice = serde_json::from_value(object).unwrap();
    slice(&object, &mut names()).map_err(|error| error.to_string())
}

fn converted_slice(mut fields: Value) -> Result<Slice, String> {
    fields["metadata"] = json!({"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}});
    match slice_verdict(fields) {
        Ok(Verdict::Ours(Object::Slice(slice))) => Ok(slice),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// kp:A6
#[test]
fn headless_and_external_name_services_have_no_addresses() {
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"clusterIPs": ["None"], "clusterIP": "None", "ipFamilies": ["IPv4"]}),
        json!({"clusterIP": ""}),
        json!({}),
        json!({"type": "ExternalName", "externalName": "db.example", "clusterIP": "10.0.0.1"}),
    ] {
        assert_eq!(converted_service(&spec).unwrap().cluster_ips, ips(&[]), "{spec}");
    }
}

/// kp:A7
#[test]
fn each_family_takes_its_own_cluster_ip() {
    let dual = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]});
    assert_eq!(converted_service(&dual).unwrap().cluster_ips, ips(&["10.0.0.1", "fd00::1"]));
    let old = json!({"clusterIP": "fd00::1"});
    assert_eq!(converted_service(&old).unwrap().cluster_ips, ips(&["fd00::1"]));
    let single =
        json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4"]});
    assert_eq!(converted_service(&single).unwrap().cluster_ips, ips(&["10.0.0.1"]));
    let by_hand = json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"]});
    assert_eq!(converted_service(&by_hand).unwrap().cluster_ips, ips(&["10.0.0.1"]));
}

/// kp:A9
#[test]
fn sloppy_addresses_become_canonical_ones() {
    assert_eq!(
        converted_service(&json!({"clusterIP": "010.096.000.010"})).unwrap().cluster_ips,
        ips(&["10.96.0.10"])
    );
    let slice =
        converted_slice(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["010.0.0.1"]}]})).unwrap();
    assert_eq!(slice.endpoints[0].address, ips(&["10.0.0.1"])[0]);
}

#[test]
fn a_bad_field_is_named_with_its_path() {
    let port = |port: Value| json!({"clusterIP": "10.0.0.1", "ports": [{"port": 80}, port]});
    for (spec, message) in [
        (port(json!({"port": 70000})), "spec.ports[1].port: 70000 is not a port (1-65535)"),
        (port(json!({"port": 0})), "spec.ports[1].port: 0 is not a port (1-65535)"),
        (port(json!({"port": -1})), "spec.ports[1].port: -1 is not a port (1-65535)"),
        (port(json!({"name": "x"})), "spec.ports[1].port: missing"),
        (
            port(json!({"port": 1, "protocol": "ICMP"})),
            "spec.ports[1].protocol: \"ICMP\" is not a protocol (TCP, UDP or SCTP)",
        ),
        (json!({"clusterIP": "10.0.0.300"}), "spec.clusterIP: \"10.0.0.300\" is not an IP address"),
        (
            json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
            "spec.clusterIPs[1]: 10.0.0.2 is a second address of its family",
        ),
        (
            json!({"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]}),
            "spec.clusterIPs[0]: 10.0.0.1 is not an IPv6 address",
        ),
    ] {
        assert_eq!(converted_service(&spec).unwrap_err(), message);
    }
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
        assert_eq!(converted_slice(fields).unwrap_err(), message);
    }
}

#[test]
fn ports_take_the_defaults_of_the_api_server() {
    let service = converted_service(&json!({"clusterIP": "10.0.0.1", "ports": [
        {"port": 80, "targetPort": "web"}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}
    ]}));
    let ports = service.unwrap().ports;
    assert_eq!((&*ports[0].name, ports[0].protocol, ports[0].port), ("", Protocol::Tcp, 80));
    assert_eq!((&*ports[1].name, ports[1].protocol, ports[1].port), ("dns", Protocol::Udp, 53));
    assert_eq!(ports[2].protocol, Protocol::Sctp);
}

/// kp:A10
#[test]
fn a_slice_is_read_as_the_reference_reads_it() {
    let slice = converted_slice(json!({
        "addressType": "IPv6",
        "endpoints": [
            {"addresses": ["fd00::1", "fd00::2"], "conditions": {"ready": null}, "nodeName": "node-a"},
            {"addresses": ["fd00::3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        ],
        "ports": [{"name": "", "port": 1}, {"name": "all", "port": null}, {"name": "zero", "port": 0}, {"port": 2}],
    }));
    let slice = slice.unwrap();
    assert_eq!(&*slice.service, "web");
    let endpoints: Vec<_> =
        slice.endpoints.iter().map(|at| (at.address, at.ready, at.node.as_deref())).collect();
    assert_eq!(
        endpoints,
        [(ips(&["fd00::1"])[0], true, Some("node-a")), (ips(&["fd00::3"])[0], false, None)]
    );
    let ports: Vec<_> = slice.ports.iter().map(|port| (&*port.name, port.protocol, port.port)).collect();
    assert_eq!(ports, [("", Protocol::Tcp, 1), ("", Protocol::Tcp, 2)]);
}

/// kp:A10
#[test]
fn a_slice_of_no_service_or_of_host_names_is_ignored() {
    let ignored = |object| match slice_verdict(object) {
        Ok(Verdict::Ignored(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(ignored(json!({"addressType": "IPv4"})).contains("kubernetes.io/service-name"));
    let host_names =
        json!({"addressType": "FQDN", "metadata": {"labels": {"kubernetes.io/service-name": "web"}}});
    assert!(ignored(host_names).contains("addressType"));
}

/// kp:A1, kp:A2
#[test]
fn labels_hide_by_being_there() {
    for value in ["", "other"] {
        let labels = json!({"service.kubernetes.io/service-proxy-name": value});
        let object = json!({"metadata": {"labels": labels}, "spec": {"clusterIP": "10.0.0.1"}});
        let object: objects::Service = serde_json::from_value(object).unwrap();
        assert!(matches!(service(&object, &mut names()), Ok(Verdict::Ignored(_))));
        let labels = json!({"service.kubernetes.io/headless": value, "kubernetes.io/service-name": "web"});
        let headless = slice_verdict(json!({"addressType": "IPv4", "metadata": {"labels": labels}}));
        assert!(matches!(headless, Ok(Verdict::Ignored(_))));
    }
}

#[test]
fn what_go_writes_as_null_is_empty() {
    let slice = converted_slice(json!({"addressType": "IPv4", "endpoints": null, "ports": null})).unwrap();
    assert_eq!((slice.endpoints, slice.ports), (vec![], vec![]));
    assert_eq!(converted_service(&Value::Null).unwrap(), Service::default());
}

#[test]
fn a_node_gives_internal_addresses_before_external_ones() {
    let object: objects::Node = serde_json::from_value(json!({"status": {"addresses": [
        {"type": "Hostname", "address": "node-a"}, {"type": "ExternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "10.0.0.5"}, {"type": "InternalIP", "address": "fd00::5"},
    ]}}))
    .unwrap();
    let expected = Node { addresses: ips(&["10.0.0.5", "fd00::5", "192.0.2.1"]) };
    assert_eq!(node(&object), Ok(Verdict::Ours(Object::Node(expected))));
}

#[test]
fn kinds_are_known_by_group_and_version() {
    let of = |api_version: &str, name: &str| {
        kind(&Head { api_version: api_version.into(), kind: name.into(), metadata: Metadata::default() })
            .map_err(|error| error.to_string())
    };
    assert_eq!(of("v1", "Service"), Ok(Some(Kind::Service)));
    assert_eq!(of("discovery.k8s.io/v1", "EndpointSlice"), Ok(Some(Kind::Slice)));
    assert_eq!(of("v1", "Node"), Ok(Some(Kind::Node)));
    assert_eq!(of("apps/v1", "Deployment"), Ok(None));
    assert_eq!(of("serving.knative.dev/v1", "Service"), Ok(None));
    let old = of("discovery.k8s.io/v1beta1", "EndpointSlice");
    assert_eq!(old, Err("apiVersion: \"discovery.k8s.io/v1beta1\" is not discovery.k8s.io/v1".into()));
}

#[test]
fn an_object_without_a_namespace_is_in_default_and_one_without_a_name_is_refused() {
    let metadata = Metadata { name: Some("web".into()), ..Metadata::default() };
    assert_eq!(key(Kind::Service, &metadata, &mut names()).unwrap().name, ObjectName::new("default", "web"));
    assert_eq!(key(Kind::Node, &metadata, &mut names()).unwrap().name, ObjectName::new("", "web"));
    let error = key(Kind::Service, &Metadata::default(), &mut names()).unwrap_err();
    assert_eq!(error.to_string(), "metadata.name: missing");
}
