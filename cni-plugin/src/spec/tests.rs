//! Requests that a runtime makes, good and bad.

use super::*;
use crate::config::ipam::{Ipam, Own};
use serde_json::json;
use std::path::PathBuf;

fn environment(command: &str) -> Environment {
    let some = |text: &str| Some(text.to_owned());
    Environment {
        command: some(command),
        container: some("c1"),
        namespace: some("/var/run/netns/x"),
        ifname: some("eth0"),
        ..Environment::default()
    }
}

fn document(extra: Value) -> Result<Document, Error> {
    let ipam = json!({"type": "heddle", "ranges": [[{"subnet": "10.0.0.0/24"}]]});
    let mut document = json!({"cniVersion": "1.1.0", "name": "pods", "type": "heddle-cni", "ipam": ipam});
    let Value::Object(extra) = extra else { panic!("{extra} is no object") };
    document.as_object_mut().unwrap().extend(extra);
    decode(document.to_string().as_bytes())
}

fn add(environment: &Environment, extra: Value) -> Result<Box<Add>, String> {
    match Request::read(environment, document(extra)) {
        Ok(Request::Add(add)) => Ok(add),
        Ok(other) => panic!("{other:?} is no ADD"),
        Err(error) => Err(error.to_string()),
    }
}

/// cni:E2 and cni:E3.
#[test]
fn all_missing_variables_are_named() {
    let bare = |command: &str| Environment { command: Some(command.to_owned()), ..Environment::default() };
    let error = |command| Request::read(&bare(command), document(json!({}))).unwrap_err().to_string();
    assert_eq!(error("ADD"), "missing environment variables: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME");
    assert_eq!(error("DEL"), "missing environment variables: CNI_CONTAINERID, CNI_IFNAME");
    assert_eq!(error(""), "missing environment variables: CNI_COMMAND");
    for empty in [None, Some(String::new())] {
        let del = Environment { namespace: empty, ..environment("DEL") };
        assert!(matches!(Request::read(&del, document(json!({}))), Ok(Request::Del(_))));
    }
}

/// cni:E1.
#[test]
fn an_unknown_command_is_a_bad_variable() {
    let error = Request::read(&environment("Check"), document(json!({}))).unwrap_err();
    assert!(matches!(error, Error::Variable { name: "CNI_COMMAND", .. }));
}

/// cni:E6 and cni:E7.
#[test]
fn identifiers_that_are_not_safe_names_are_refused() {
    let good = environment("ADD");
    for bad in ["-a", ".", "..", "a/b", "a b", "ä", "_a"] {
        let environment = Environment { container: Some(bad.to_owned()), ..environment("ADD") };
        assert!(add(&environment, json!({})).unwrap_err().contains("CNI_CONTAINERID"), "{bad}");
        assert!(add(&good, json!({"name": bad})).unwrap_err().contains("name"));
    }
    for bad in [".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-xx"] {
        let environment = Environment { ifname: Some(bad.to_owned()), ..environment("ADD") };
        assert!(add(&environment, json!({})).unwrap_err().contains("CNI_IFNAME"), "{bad}");
    }
    let longest = Environment { ifname: Some("fifteen-bytes-x".to_owned()), ..environment("ADD") };
    assert_eq!(add(&longest, json!({})).unwrap().attachment.ifname, "fifteen-bytes-x");
}

/// cni:L5: a configuration that does not say is one of 0.1.0.
#[test]
fn only_the_versions_that_are_listed_are_spoken() {
    for version in Version::ALL {
        let asked = json!({"cniVersion": version.as_str()});
        assert_eq!(add(&environment("ADD"), asked).unwrap().version, version);
    }
    let error = add(&environment("ADD"), json!({"cniVersion": "1.0"})).unwrap_err();
    assert_eq!(error, "cniVersion \"1.0\" is not supported");
    assert_eq!(add(&environment("ADD"), json!({"cniVersion": null})).unwrap().version, Version::V0_1_0);
}

fn request(command: &str, extra: Value) -> Result<Request, String> {
    Request::read(&environment(command), document(extra)).map_err(|error| error.to_string())
}

/// cni:C1, cni:G1, cni:T1: a command that the configuration's version does not have is refused.
#[test]
fn commands_come_with_their_versions() {
    let previous = json!({"interfaces": [{"name": "eth0", "sandbox": "/x"}]});
    for (command, first) in [("CHECK", Version::V0_4_0), ("GC", Version::V1_1_0), ("STATUS", Version::V1_1_0)]
    {
        for version in Version::ALL {
            let asked = json!({"cniVersion": version.as_str(), "prevResult": previous});
            let expected = format!("cniVersion {version} has no {command}; it came with {first}");
            match request(command, asked) {
                Ok(_) => assert!(version >= first),
                Err(error) => assert_eq!((error, version < first), (expected, true)),
            }
        }
    }
    assert_eq!(request("CHECK", json!({})).unwrap_err(), "prevResult: CHECK needs it");
}

/// cni:G1, cni:G2: both spellings of the list, and no list is not an empty one.
#[test]
fn the_attachments_that_are_valid_are_read_or_not_known() {
    let valid = |extra| match request("GC", extra) {
        Ok(Request::Gc(gc)) => {
            Ok(gc.valid.map(|list| list.into_iter().map(|a| a.container).collect::<Vec<_>>()))
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let list = json!([{"containerID": "c1", "ifname": "eth0"}]);
    assert_eq!(valid(json!({})), Ok(None));
    assert_eq!(valid(json!({"cni.dev/valid-attachments": []})), Ok(Some(vec![])));
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(valid(json!({key: list})), Ok(Some(vec!["c1".to_owned()])));
    }
    assert_eq!(
        valid(json!({"cni.dev/attachments": [], "cni.dev/valid-attachments": list})).unwrap().unwrap().len(),
        1
    );
    for bad in
        [json!("c1"), json!([{"containerID": "c1"}]), json!([{"containerID": "c1", "ifname": "eth0"}, 7])]
    {
        assert!(
            valid(json!({"cni.dev/valid-attachments": bad}))
                .unwrap_err()
                .contains("cni.dev/valid-attachments: ")
        );
    }
}

/// cni:O2, cni:L3: the runtime's keys, and those of the whole list, are none of ours.
#[test]
fn reserved_keys_are_tolerated() {
    let keys = json!({"capabilities": {"portMappings": true}, "disableCheck": "true", "disableGC": true,
        "loadOnlyInlinedPlugins": "false", "cniVersions": ["1.1.0"], "args": {"x": {}}, "cni.dev/attachments": []});
    assert!(add(&environment("ADD"), keys).is_ok());
}

/// cni:D4, cni:A3.
#[test]
fn the_result_of_earlier_plugins_is_read_where_it_counts() {
    let bad = json!({"prevResult": {"ips": [{"address": "x"}]}});
    assert_eq!(request("ADD", bad.clone()).unwrap_err(), "prevResult: address \"x\" is not in CIDR notation");
    assert!(request("DEL", bad).is_ok(), "a DEL does not need it");
    assert!(request("DEL", json!({"prevResult": 7})).is_ok());
    let good = json!({"prevResult": {"ips": [{"address": "10.0.0.2/24"}]}});
    assert_eq!(add(&environment("ADD"), good).unwrap().previous.unwrap().ips.len(), 1);
}

/// cni:D3: the configuration may be another one, or broken, by the time of the DEL.
#[test]
fn a_del_does_not_look_at_keys_that_it_does_not_need() {
    let broken =
        json!({"ipMasq": true, "mtu": "x", "ipam": {"type": 7, "ranges": "?", "dataDir": "/run/leases"}});
    match Request::read(&environment("DEL"), document(broken)) {
        Ok(Request::Del(del)) => assert_eq!(del.leases, PathBuf::from("/run/leases")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_that_ask_for_what_is_not_there_are_refused_with_their_value() {
    for (key, asks, does_not) in [
        ("ipMasq", json!(true), json!(false)),
        ("macspoofchk", json!(true), json!(null)),
        ("enabledad", json!(true), json!(false)),
    ] {
        let error = add(&environment("ADD"), json!({key: asks})).unwrap_err();
        assert_eq!(error, format!("unsupported field: {key} is {asks}"));
        assert!(add(&environment("ADD"), json!({key: does_not})).is_ok(), "{key}");
    }
    let device = json!({"runtimeConfig": {"deviceID": "0000:03:00.1"}});
    let refused = add(&environment("ADD"), device).unwrap_err();
    assert!(refused.starts_with("unsupported field: runtimeConfig.deviceID"), "{refused}");
    let unknown = json!({"preserveDefaultVlan": false, "x": {"y": 1}, "runtimeConfig": {"cgroupPath": "/a"}});
    assert!(add(&environment("ADD"), unknown).is_ok(), "cni:O1");
}

#[test]
fn what_makes_no_sense_is_named() {
    let error = |extra| add(&environment("ADD"), extra).unwrap_err();
    assert!(error(json!({"hairpinMode": true, "promiscMode": true})).starts_with("hairpinMode: "));
    assert!(error(json!({"vlan": 4095})).starts_with("vlan: 4095 "));
    assert!(error(json!({"vlan": 7, "bridge": "eleven-byte"})).starts_with("bridge: \"eleven-byte\" "));
    assert!(error(json!({"VlanTrunk": [{"MinID": 7}]})).starts_with("vlanTrunk: "), "cni:1.6");
    assert!(error(json!({"mtu": 20})).starts_with("mtu: 20 "));
    assert!(error(json!({"bridge": "a-name-that-is-too-long"})).starts_with("bridge: "));
    assert!(error(json!({"ipam": {}})).contains("write \"heddle\""));
    assert!(error(json!({"ipam": {"type": "../x"}})).starts_with("ipam.type: \"../x\": "));
    assert!(error(json!({"ipam": {"type": "heddle"}})).starts_with("ipam.ranges: no range"));
    let route = |dst, gw| json!({"ipam": {"type": "heddle", "subnet": "10.0.0.0/24", "routes": [{"dst": dst, "gw": gw}]}});
    assert!(error(route("10.0.0.1", "")).contains("dst \"10.0.0.1\""));
    assert!(error(route("10.0.0.0/8", "fd00::1")).contains("two address families"));
}

#[test]
fn null_is_absent() {
    let ipam =
        json!({"type": "heddle", "subnet": "10.0.0.0/24", "ranges": null, "routes": null, "dataDir": null});
    assert!(add(&environment("ADD"), json!({"ipam": ipam, "mtu": null, "dns": {"search": null}})).is_ok());
}

fn sets(extra: &Value) -> Vec<String> {
    match add(&environment("ADD"), extra.clone()).unwrap().config.ipam {
        Some(Ipam::Own(Own { sets, .. })) => sets.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

/// cni:1.6: in containerd's spelling.
#[test]
fn ranges_of_the_runtime_come_first() {
    let ranges = json!({"ipRanges": [[{"Subnet": "10.7.0.0/24", "RangeStart": "10.7.0.9", "Gateway": ""}]]});
    assert_eq!(sets(&json!({"runtimeConfig": ranges})), ["10.7.0.9-10.7.0.254", "10.0.0.1-10.0.0.254"]);
}

#[test]
fn host_locals_single_range_is_the_first_set() {
    let ipam = json!({"type": "heddle", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "gateway": "10.1.0.254",
        "ranges": [[{"subnet": "fd00::/64"}]]});
    assert_eq!(sets(&json!({"ipam": ipam})), ["10.1.0.9-10.1.0.254", "fd00::1-fd00::ffff:ffff:ffff:ffff"]);
}

#[test]
fn wanted_addresses_come_from_the_first_place_that_has_any() {
    let mut environment = environment("ADD");
    environment.args = Some("IP=10.0.0.7;MAC=02:00:00:00:00:01".to_owned());
    let wanted = |environment: &Environment, extra| {
        let config = add(environment, extra).unwrap().config;
        (config.addresses[0].to_string(), config.mac.unwrap().to_string())
    };
    assert_eq!(wanted(&environment, json!({})), ("10.0.0.7".to_owned(), "02:00:00:00:00:01".to_owned()));
    let args = json!({"cni": {"ips": ["10.0.0.8/24"]}});
    assert_eq!(wanted(&environment, json!({"args": args})).0, "10.0.0.8");
    let runtime = json!({"Ips": ["10.0.0.9"], "mac": "02:00:00:00:00:02"});
    assert_eq!(
        wanted(&environment, json!({"args": args, "runtimeConfig": runtime})),
        ("10.0.0.9".to_owned(), "02:00:00:00:00:02".to_owned())
    );
}
