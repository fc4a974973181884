use serde_json::{Value, json};

use super::*;
use crate::convert::tests::{ips, names, prefixes, texts};
use crate::model::Protocol;

/// A Service with this in its status and spec, and what was passed over.
fn read(spec: &Value, status: &Value) -> Result<(Service, Vec<String>), String> {
    let object = json!({"metadata": {"name": "web"}, "spec": spec, "status": status});
    let object: objects::Service = serde_json::from_value(object).unwrap();
    match service(&object, &mut names()) {
        Ok(Verdict::Ours(Object::Service(service), passed_over)) => {
            Ok((Arc::unwrap_or_clone(service), texts(passed_over)))
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// A Service of this spec with nothing passed over.
fn converted(spec: &Value) -> Result<Service, String> {
    let (service, passed_over) = read(spec, &json!({}))?;
    assert!(passed_over.is_empty(), "{passed_over:?}");
    Ok(service)
}

/// This spec with a cluster IP of each family.
fn proxied(mut spec: Value) -> Value {
    spec["clusterIPs"] = json!(["10.0.0.1", "fd00::1"]);
    spec
}

/// kp:A6
#[test]
fn headless_and_external_name_services_are_empty() {
    for mut spec in [
        json!({"clusterIP": "None"}),
        json!({"clusterIPs": ["None"], "clusterIP": "None", "ipFamilies": ["IPv4"]}),
        json!({"clusterIP": ""}),
        json!({}),
        json!({"type": "ExternalName", "externalName": "db.example", "clusterIP": "10.0.0.1"}),
    ] {
        spec["externalIPs"] = json!(["192.0.2.1"]);
        spec["ports"] = json!([{"port": 80, "nodePort": 30080}]);
        assert_eq!(converted(&spec).unwrap(), Service::default(), "{spec}");
    }
    assert_eq!(converted(&Value::Null).unwrap(), Service::default());
}

/// kp:A7
#[test]
fn each_family_takes_its_own_cluster_ip() {
    let cluster_ips = |spec: Value| converted(&spec).unwrap().cluster_ips;
    let dual = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]});
    assert_eq!(cluster_ips(dual), ips(&["10.0.0.1", "fd00::1"]));
    assert_eq!(cluster_ips(json!({"clusterIP": "fd00::1"})), ips(&["fd00::1"]));
    let single =
        json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4"]});
    assert_eq!(cluster_ips(single), ips(&["10.0.0.1"]));
    assert_eq!(cluster_ips(json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"]})), ips(&["10.0.0.1"]));
}

/// kp:A1
#[test]
fn the_label_of_another_proxy_hides_by_being_there() {
    for value in ["", "other"] {
        let labels = json!({"service.kubernetes.io/service-proxy-name": value});
        let object = json!({"metadata": {"labels": labels}, "spec": {"clusterIP": "10.0.0.1"}});
        let object: objects::Service = serde_json::from_value(object).unwrap();
        assert!(matches!(service(&object, &mut names()), Ok(Verdict::Ignored(_))));
    }
}

#[test]
fn ports_take_the_defaults_of_the_api_server() {
    let ports = converted(&proxied(json!({"ports": [
        {"port": 80, "targetPort": "web"}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}
    ]})));
    let ports = ports.unwrap().ports;
    assert_eq!((&*ports[0].name, ports[0].protocol, ports[0].port), ("", Protocol::Tcp, 80));
    assert_eq!((&*ports[1].name, ports[1].protocol, ports[1].port), ("dns", Protocol::Udp, 53));
    assert_eq!(ports[2].protocol, Protocol::Sctp);
}

/// kp:A8
#[test]
fn one_number_may_be_a_port_of_every_protocol() {
    let ports = converted(&proxied(json!({"ports": [
        {"name": "t", "port": 80, "protocol": "TCP"}, {"name": "u", "port": 80, "protocol": "UDP"},
        {"name": "s", "port": 80, "protocol": "SCTP"},
    ]})));
    let ports: Vec<_> = ports.unwrap().ports.into_iter().map(|port| (port.protocol, port.port)).collect();
    assert_eq!(ports, [(Protocol::Tcp, 80), (Protocol::Udp, 80), (Protocol::Sctp, 80)]);
}

#[test]
fn a_node_port_counts_whatever_the_type_is_and_zero_is_none() {
    for service_type in [json!(null), json!("ClusterIP"), json!("NodePort"), json!("LoadBalancer")] {
        let spec = proxied(json!({"type": service_type, "ports": [
            {"port": 1, "nodePort": 30001}, {"port": 2, "nodePort": 0}, {"port": 3}
        ]}));
        let ports: Vec<_> = converted(&spec).unwrap().ports.into_iter().map(|port| port.node_port).collect();
        assert_eq!(ports, [Some(30001), None, None], "{service_type}");
    }
}

/// kp:A9
#[test]
fn sloppy_addresses_become_canonical_ones() {
    let (service, passed_over) = read(
        &json!({"clusterIP": "010.096.000.010", "externalIPs": ["192.000.002.001", "fd00:0::0001"],
            "loadBalancerSourceRanges": [" 010.1.2.3/8\n", "2001:0db8::1/32"]}),
        &json!({"loadBalancer": {"ingress": [{"ip": "198.051.100.007"}]}}),
    )
    .unwrap();
    assert_eq!(service.cluster_ips, ips(&["10.96.0.10"]));
    assert_eq!(service.external_ips, ips(&["192.0.2.1", "fd00::1"]));
    assert_eq!(service.load_balancer_ips, ips(&["198.51.100.7"]));
    assert_eq!(service.source_ranges, prefixes(&["10.0.0.0/8", "2001:db8::/32"]));
    assert!(passed_over.is_empty());
}

/// kp:A9, kp:C7
#[test]
fn an_external_ip_that_cannot_be_read_is_named_and_an_empty_one_is_not() {
    let spec = proxied(json!({"externalIPs": ["192.0.2.1", "", "192.0.2.300", "192.0.2.1", "192.0.2.2"]}));
    let (service, passed_over) = read(&spec, &json!({})).unwrap();
    assert_eq!(service.cluster_ips, ips(&["10.0.0.1", "fd00::1"]));
    assert_eq!(service.external_ips, ips(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(passed_over, ["spec.externalIPs[2]: \"192.0.2.300\" is not an IP address"]);
}

/// kp:C7
#[test]
fn external_ips_count_whatever_the_type_is() {
    for service_type in ["ClusterIP", "NodePort", "LoadBalancer"] {
        let spec = proxied(json!({"type": service_type, "externalIPs": ["192.0.2.1"]}));
        assert_eq!(converted(&spec).unwrap().external_ips, ips(&["192.0.2.1"]));
    }
}

/// kp:C6
#[test]
fn only_a_load_balancers_own_addresses_are_captured_and_the_type_is_not_asked() {
    let status = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "VIP"}, {"ip": "192.0.2.3", "ipMode": "Proxy"},
        {"hostname": "lb.example"}, {"ip": "fd00::2", "ipMode": null}, {"ip": "x"},
    ]}});
    let (service, passed_over) = read(&proxied(json!({"type": "ClusterIP"})), &status).unwrap();
    assert_eq!(service.load_balancer_ips, ips(&["192.0.2.1", "192.0.2.2", "fd00::2"]));
    assert_eq!(passed_over, ["status.loadBalancer.ingress[5].ip: \"x\" is not an IP address"]);
    assert_eq!(read(&proxied(json!({})), &Value::Null).unwrap().0.load_balancer_ips, ips(&[]));
}

#[test]
fn the_internal_policy_counts_for_every_type() {
    for (value, policy) in
        [(json!(null), Policy::Cluster), (json!("Cluster"), Policy::Cluster), (json!("Local"), Policy::Local)]
    {
        let spec = proxied(json!({"internalTrafficPolicy": value}));
        assert_eq!(converted(&spec).unwrap().internal_policy, policy);
    }
}

/// kp:C8
#[test]
fn the_external_policy_counts_only_for_what_is_reachable_from_outside() {
    let policy = |service_type: Value, external_ips: &[&str]| {
        let spec =
            json!({"type": service_type, "externalIPs": external_ips, "externalTrafficPolicy": "Local"});
        converted(&proxied(spec)).unwrap().external_policy
    };
    assert_eq!(policy(json!("NodePort"), &[]), Policy::Local);
    assert_eq!(policy(json!("LoadBalancer"), &[]), Policy::Local);
    assert_eq!(policy(json!("ClusterIP"), &["192.0.2.1"]), Policy::Local);
    assert_eq!(policy(json!(null), &["192.0.2.1"]), Policy::Local);
    assert_eq!(policy(json!("ClusterIP"), &[]), Policy::Cluster);
    assert_eq!(policy(json!(null), &[]), Policy::Cluster);
}

/// kp:A9
#[test]
fn a_range_of_everybody_lifts_the_filter_of_its_family_alone() {
    let ranges = |ranges: &[&str]| {
        converted(&proxied(json!({"loadBalancerSourceRanges": ranges}))).unwrap().source_ranges
    };
    assert_eq!(ranges(&["10.0.0.0/8", " 0.0.0.0/0 ", "fd00::/8"]), prefixes(&["fd00::/8"]));
    assert_eq!(ranges(&["10.0.0.0/8", "::/0"]), prefixes(&["10.0.0.0/8"]));
    assert_eq!(ranges(&["0.0.0.0/0", "::/0"]), prefixes(&[]));
    assert_eq!(ranges(&["10.0.0.0/8", "010.9.9.9/8", " "]), prefixes(&["10.0.0.0/8"]));
}

#[test]
fn a_range_that_cannot_be_read_lets_nobody_in() {
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "fd00::2"}]}});
    let of = |ranges: &[&str]| {
        let (service, passed_over) =
            read(&proxied(json!({"loadBalancerSourceRanges": ranges})), &status).unwrap();
        assert_eq!(service.cluster_ips, ips(&["10.0.0.1", "fd00::1"]));
        assert_eq!(passed_over.len(), 1, "{passed_over:?}");
        (service.load_balancer_ips, service.source_ranges)
    };
    assert_eq!(of(&["10.0.0.0/33"]), (ips(&[]), prefixes(&[])));
    assert_eq!(of(&["10.0.0.0/8", "office"]), (ips(&["192.0.2.1"]), prefixes(&["10.0.0.0/8"])));
    assert_eq!(of(&["10.0.0.0/8", "::/0", "x"]), (ips(&["192.0.2.1", "fd00::2"]), prefixes(&["10.0.0.0/8"])));
}

#[test]
fn affinity_lasts_three_hours_unless_the_service_says_otherwise() {
    let affinity = |spec: Value| converted(&proxied(spec)).unwrap().affinity.map(NonZeroU32::get);
    let timeout = |seconds: Value| json!({"clientIP": {"timeoutSeconds": seconds}});
    assert_eq!(
        affinity(json!({"sessionAffinity": "None", "sessionAffinityConfig": timeout(json!(9))})),
        None
    );
    assert_eq!(affinity(json!({})), None);
    let client_ip = |config: Value| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
    assert_eq!(affinity(client_ip(Value::Null)), Some(10_800));
    assert_eq!(affinity(client_ip(timeout(Value::Null))), Some(10_800));
    assert_eq!(affinity(client_ip(timeout(json!(9)))), Some(9));
    let (service, passed_over) = read(&proxied(client_ip(timeout(json!(0)))), &Value::Null).unwrap();
    assert_eq!(service.affinity.map(NonZeroU32::get), Some(10_800));
    let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    assert_eq!(passed_over, [format!("{field}: 0 is not a time in seconds (1-86400)")]);
}

#[test]
fn the_health_check_port_is_of_load_balancers_with_the_local_policy() {
    let port = |service_type: &str, policy: &str, port: Value| {
        let spec =
            json!({"type": service_type, "externalTrafficPolicy": policy, "healthCheckNodePort": port});
        converted(&proxied(spec)).map(|service| service.health_check_node_port)
    };
    assert_eq!(port("LoadBalancer", "Local", json!(32000)), Ok(Some(32000)));
    assert_eq!(port("LoadBalancer", "Local", json!(0)), Ok(None));
    assert_eq!(port("LoadBalancer", "Cluster", json!(32000)), Ok(None));
    assert_eq!(port("NodePort", "Local", json!(32000)), Ok(None));
    let error = "spec.healthCheckNodePort: 70000 is not a port (1-65535)";
    assert_eq!(port("LoadBalancer", "Local", json!(70000)), Err(error.to_owned()));
}

/// kp:B5
#[test]
fn topology_wishes_of_a_service_are_not_read() {
    let plain = json!({"spec": {"clusterIP": "10.0.0.1"}});
    let wishing = json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}},
        "spec": {"clusterIP": "10.0.0.1", "trafficDistribution": "PreferSameZone"}});
    let [plain, wishing] = [plain, wishing].map(|object| {
        let object: objects::Service = serde_json::from_value(object).unwrap();
        service(&object, &mut names()).unwrap()
    });
    assert_eq!(plain, wishing);
}

#[test]
fn the_older_service_is_the_lesser() {
    let created = |time: &str| {
        let object = json!({"metadata": {"creationTimestamp": time}, "spec": {"clusterIP": "10.0.0.1"}});
        let object: objects::Service = serde_json::from_value(object).unwrap();
        match service(&object, &mut names()) {
            Ok(Verdict::Ours(Object::Service(service), passed_over)) => (service.created, texts(passed_over)),
            other => panic!("{other:?}"),
        }
    };
    assert!(created("2025-12-31T23:59:59Z").0.unwrap() < created("2026-01-01T00:00:00Z").0.unwrap());
    let fault = "metadata.creationTimestamp: \"today\" is not a time (RFC 3339)";
    assert_eq!(created("today"), (None, vec![fault.to_owned()]));
}

#[test]
fn words_that_nobody_knows_are_named_and_count_as_absent() {
    let spec = proxied(
        json!({"type": "NodePort", "internalTrafficPolicy": "Here", "externalTrafficPolicy": "There",
        "sessionAffinity": "Cookie"}),
    );
    let (service, passed_over) = read(&spec, &Value::Null).unwrap();
    let expected = converted(&proxied(json!({"type": "NodePort"}))).unwrap();
    assert_eq!(service, expected);
    assert_eq!(
        passed_over,
        [
            "spec.internalTrafficPolicy: \"Here\" is not a traffic policy (Cluster or Local)",
            "spec.externalTrafficPolicy: \"There\" is not a traffic policy (Cluster or Local)",
            "spec.sessionAffinity: \"Cookie\" is not a session affinity (ClientIP or None)",
        ]
    );
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
            port(json!({"port": 1, "nodePort": 65536})),
            "spec.ports[1].nodePort: 65536 is not a port (1-65535)",
        ),
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
        assert_eq!(converted(&spec).unwrap_err(), message);
    }
}
