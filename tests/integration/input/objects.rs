//! Random objects near the shapes of Kubernetes, as JSON: most are good, and anything in them may be wrong.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// The names of objects of each kind: few, so that they replace each other.
const NAMES: [&str; 5] = ["a", "a", "a", "b", "c"];
/// What else may stand for an IP address.
const ADDRESSES: &[&str] = &[
    "10.244.1.1",
    "10.244.1.2",
    "010.244.001.002",
    "fd00:244::1",
    "FD00:0244::0002",
    "::ffff:10.244.1.1",
    "0.0.0.0",
    "::",
    "255.255.255.255",
    "224.0.0.1",
    "ff02::1",
    "127.0.0.1",
    "::1",
    "169.254.1.1",
    "fe80::1",
    "fe80::1%eth0",
    "10.244.1.256",
    "",
    "None",
    "192.0.2.1",
    "2001:db8::1",
];

/// One object of any of the four kinds.
pub(crate) fn object() -> impl Strategy<Value = String> {
    let kinds = prop_oneof![4 => service(), 4 => slice(), 1 => node(), 1 => service_cidr()];
    // A field that stands there twice, which no tree of values can have.
    (kinds, prop::bool::weighted(0.03)).prop_map(|(object, twice)| {
        let text = object.to_string();
        if twice { text.replacen("\"spec\":", "\"spec\":{},\"spec\":", 1) } else { text }
    })
}

fn service() -> BoxedStrategy<Value> {
    let spec = fields(vec![
        ("type", one_of(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "", "clusterip"])),
        ("clusterIP", one_of(&["10.96.0.1", "010.096.000.002", "fd00:96::1"])),
        ("clusterIPs", cluster_ips()),
        ("ipFamilies", rarely(many(one_of(&["IPv4", "IPv6", "IPv5"]), 2))),
        ("ports", many(port(), 3)),
        ("externalIPs", many(one_of(ADDRESSES), 3)),
        ("internalTrafficPolicy", policy()),
        ("externalTrafficPolicy", policy()),
        ("loadBalancerSourceRanges", many(range(), 3)),
        ("sessionAffinity", one_of(&["None", "ClientIP", "", "Cookie"])),
        (
            "sessionAffinityConfig",
            fields(vec![(
                "clientIP",
                fields(vec![("timeoutSeconds", number(&[10, 86_400, 0, -1, i64::MAX]))]),
            )]),
        ),
        ("healthCheckNodePort", number(&[0, 31_000, -1, 65_536])),
    ]);
    let ingress = fields(vec![("ip", one_of(ADDRESSES)), ("ipMode", one_of(&["VIP", "Proxy", "vip"]))]);
    let status = fields(vec![("loadBalancer", fields(vec![("ingress", many(ingress, 2))]))]);
    let labels = fields(vec![("service.kubernetes.io/service-proxy-name", rarely(one_of(&["", "x"])))]);
    let created = one_of(&["2026-01-01T00:00:00Z", "yesterday"]);
    whole(
        "v1",
        "Service",
        vec![("labels", labels), ("creationTimestamp", created)],
        vec![("spec", spec), ("status", status)],
    )
}

fn slice() -> BoxedStrategy<Value> {
    let labels = fields(vec![
        ("kubernetes.io/service-name", one_of(&["a", "b", "c", ""])),
        ("service.kubernetes.io/headless", rarely(one_of(&["", "x"]))),
    ]);
    let bit = |often| spoiled(prop::bool::weighted(often).prop_map(Value::from));
    let hint = |names: &'static [&'static str]| many(fields(vec![("name", one_of(names))]), 2);
    let conditions = fields(vec![("ready", bit(0.8)), ("serving", bit(0.8)), ("terminating", bit(0.2))]);
    let hints = fields(vec![("forNodes", hint(&["node-1", "node-2"])), ("forZones", hint(&["z", ""]))]);
    let endpoint = |addresses: &'static [&'static str]| {
        let node = one_of(&["node-1", "node-2", ""]);
        let addresses = vec(one_of(addresses), 1..3).prop_map(Value::from).boxed();
        always(
            "addresses",
            addresses,
            vec![("conditions", conditions.clone()), ("nodeName", node), ("hints", hints.clone())],
        )
    };
    let (v4, v6): (&[&str], &[&str]) = (
        &[
            "10.244.1.1",
            "010.244.1.2",
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "169.254.0.1",
            "::ffff:10.244.1.3",
        ],
        &["fd00:244::1", "FD00:244::0002", "::1", "ff02::1", "fe80::1", "::"],
    );
    let of = move |family: &'static str, endpoint: BoxedStrategy<Value>| {
        let kind = one_of_one(family);
        whole(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            vec![("labels", labels.clone())],
            vec![("addressType", kind), ("ports", many(port(), 3)), ("endpoints", many(endpoint, 4))],
        )
    };
    prop_oneof![8 => of("IPv4", endpoint(v4)), 4 => of("IPv6", endpoint(v6)), 1 => of("IPv4", endpoint(ADDRESSES)), 1 => of("FQDN", endpoint(ADDRESSES))]
        .boxed()
}

fn node() -> BoxedStrategy<Value> {
    let address = fields(vec![
        ("type", one_of(&["InternalIP", "ExternalIP", "Hostname"])),
        ("address", one_of(ADDRESSES)),
    ]);
    let spec = fields(vec![("podCIDR", range()), ("podCIDRs", many(range(), 2))]);
    let labels = fields(vec![("topology.kubernetes.io/zone", one_of(&["z", ""]))]);
    let node = whole(
        "v1",
        "Node",
        vec![("labels", labels)],
        vec![("spec", spec), ("status", fields(vec![("addresses", many(address, 2))]))],
    );
    node.prop_map(|mut node| {
        if let Some(name) = node.pointer_mut("/metadata/name") {
            *name = json!("node-1");
        }
        node
    })
    .boxed()
}

fn service_cidr() -> BoxedStrategy<Value> {
    whole(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        vec![],
        vec![("spec", fields(vec![("cidrs", many(range(), 2))]))],
    )
}

fn port() -> BoxedStrategy<Value> {
    let number = || number(&[80, 1, 443, 65_535, 0, -1, 65_536, i64::MAX]);
    let name = one_of(&[
        "",
        "a",
        "b",
        "ü",
        "\"; flush ruleset",
        "ppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp",
    ]);
    // The same node port stands there twice often enough.
    let rest = vec![
        ("name", name),
        ("protocol", one_of(&["TCP", "UDP", "SCTP", "", "ICMP", "tcp"])),
        ("nodePort", self::number(&[30_000, 30_000, 30_001, 0, 70_000])),
    ];
    always("port", number(), rest)
}

fn cluster_ips() -> BoxedStrategy<Value> {
    let good = [
        json!(["10.96.0.1"]),
        json!(["10.96.0.2", "fd00:96::2"]),
        json!(["fd00:96::1", "10.96.0.1"]),
        json!(["::ffff:10.96.0.3"]),
    ];
    let bad = [
        json!(["10.96.0.1", "10.96.0.2"]),
        json!(["0.0.0.0"]),
        json!(["127.0.0.1", "::1"]),
        json!(["224.0.0.1"]),
        json!(["None"]),
        json!([""]),
    ];
    spoiled(prop_oneof![6 => select(good.to_vec()), 1 => select(bad.to_vec())])
}

fn range() -> BoxedStrategy<Value> {
    one_of(&[
        "10.0.0.0/8",
        "010.1.2.3/16",
        "fd00::/8",
        "0.0.0.0/0",
        "::/0",
        " 192.0.2.0/24 ",
        "10.0.0.0/33",
        "::ffff:0:0/96",
        "x",
        "10.0.0.0/8",
        "10.2.0.0/16",
    ])
}

fn policy() -> BoxedStrategy<Value> {
    one_of(&["Cluster", "Local", "", "local"])
}

/// A good value, or once in a while one of another shape.
fn spoiled(good: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    let deep = (0..100).fold(json!([]), |deep, _| json!([deep]));
    let junk = vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(0.5),
        json!(""),
        json!([null]),
        json!({"a": {"b": []}}),
        deep,
    ];
    prop_oneof![150 => good, 1 => select(junk)].boxed()
}

/// Mostly the first text; the first three are good ones.
fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<Value> {
    let good = &texts[..texts.len().min(3)];
    spoiled(prop_oneof![12 => Just(texts[0]), 5 => select(good), 1 => select(texts)].prop_map(Value::from))
}

fn one_of_one(text: &'static str) -> BoxedStrategy<Value> {
    spoiled(Just(Value::from(text)))
}

/// Mostly the first number; the first three are good ones.
fn number(numbers: &'static [i64]) -> BoxedStrategy<Value> {
    let good = &numbers[..numbers.len().min(3)];
    spoiled(
        prop_oneof![12 => Just(numbers[0]), 5 => select(good), 1 => select(numbers)].prop_map(Value::from),
    )
}

fn many(of: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    spoiled(prop_oneof![1 => vec(of.clone(), 0), 9 => vec(of, 1..=most)].prop_map(Value::from))
}

/// Mostly empty, which a field may be.
fn rarely(of: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![10 => Just(Value::Null), 1 => of].boxed()
}

/// An object with some of these fields; a null is none.
fn fields(of: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let of: Vec<_> = of.into_iter().map(|(name, value)| (Just(name), option::weighted(0.9, value))).collect();
    let object = of.prop_map(|fields| {
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(given.filter(|(name, value)| !value.is_null() || !name.contains('/')).collect())
    });
    spoiled(object)
}

/// An object with this field and some of those.
fn always(
    name: &'static str,
    value: BoxedStrategy<Value>,
    rest: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Value> {
    let object = (fields(rest), value).prop_map(move |(mut object, value)| {
        if let Value::Object(fields) = &mut object {
            fields.insert(name.to_owned(), value);
        }
        object
    });
    object.boxed()
}

/// A whole object. Hardly ever is it in question which one it is.
fn whole(
    version: &'static str,
    kind: &'static str,
    metadata: Vec<(&'static str, BoxedStrategy<Value>)>,
    rest: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Value> {
    let name = select(&NAMES[..]).prop_map(Value::from).boxed();
    let metadata = always("name", name, metadata);
    let object = (fields(rest), metadata).prop_map(move |(object, metadata)| {
        let mut object = if object.is_object() { object } else { json!({}) };
        object["metadata"] = metadata;
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        object
    });
    object.boxed()
}
