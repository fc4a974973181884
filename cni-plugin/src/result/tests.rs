//! The forms of a result, one golden file for each version.

use super::*;
use crate::version::Version;
use serde_json::{Map, Value};

fn everything() -> Outcome {
    let sandbox = Some("/run/netns/x".to_owned());
    let interface = |name: &str, mac: &str| Interface {
        name: name.to_owned(),
        mac: mac.to_owned(),
        mtu: Some(1400),
        ..Interface::default()
    };
    let host = Interface { socket_path: Some("/run/s".to_owned()), ..interface("hdl0", "02:00:00:00:00:01") };
    let pod =
        Interface { sandbox, pci_id: Some("0000:1".to_owned()), ..interface("eth0", "02:00:00:00:00:02") };
    let ip = |address: &str, gateway: Option<&str>| Ip {
        interface: Some(1),
        address: address.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    let special = Route {
        mtu: Some(1300),
        advmss: Some(1260),
        priority: Some(7),
        table: Some(300),
        scope: Some(0),
        ..Route::new("192.0.2.0/24".parse().unwrap(), Some("10.0.0.9".parse().unwrap()))
    };
    Outcome {
        interfaces: vec![host, pod],
        ips: vec![
            ip("fd00::2/64", Some("fd00::1")),
            ip("10.0.0.2/24", Some("10.0.0.1")),
            ip("10.0.1.2/24", None),
        ],
        routes: vec![
            special,
            Route::new("0.0.0.0/0".parse().unwrap(), Some("10.0.0.1".parse().unwrap())),
            Route::new("::/0".parse().unwrap(), Some("fd00::1".parse().unwrap())),
            Route::new("10.9.0.0/16".parse().unwrap(), None),
        ],
        dns: Dns { nameservers: vec!["10.96.0.10".to_owned()], ..Dns::default() },
    }
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

/// cni:1.7, cni:A5: one form for each version, in files that are reviewed like code; `BLESS=1` writes them anew.
#[test]
fn every_version_has_its_form() {
    for version in Version::ALL {
        let path = format!("{}/tests/results/{version}.json", env!("CARGO_MANIFEST_DIR"));
        let written = serde_json::to_string_pretty(&object(&everything().write(version))).unwrap() + "\n";
        #[expect(clippy::disallowed_methods, reason = "the tests' one switch, as in the scenarios")]
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &written).unwrap();
        }
        assert_eq!(written, std::fs::read_to_string(&path).unwrap_or_default(), "{path}");
    }
}

/// cni:1.7: what a version has words for comes through; before 0.3.0 that is one address of each family.
#[test]
fn what_is_written_is_read_again() {
    assert_eq!(Outcome::read(object(&everything().write(Version::V1_1_0))), Ok(everything()));
    let mut plain = everything();
    plain.interfaces.iter_mut().for_each(|i| (i.mtu, i.socket_path, i.pci_id) = (None, None, None));
    plain.routes[0] = Route::new(plain.routes[0].to, plain.routes[0].gateway);
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0] {
        assert_eq!(Outcome::read(object(&everything().write(version))), Ok(plain.clone()), "{version}");
    }
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let read = Outcome::read(object(&everything().write(version))).unwrap();
        let ips: Vec<_> = read.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!((ips, read.routes.len()), (vec!["10.0.0.2/24".to_owned(), "fd00::2/64".to_owned()], 4));
        assert!(read.interfaces.is_empty());
    }
}

/// cni:1.6: the result that an older library hands back.
#[test]
fn a_result_in_gos_spelling_is_read() {
    let text = r#"{"CNIVersion":"0.4.0","Interfaces":[{"Name":"eth0","Mac":"","Sandbox":"/x"}],
        "IPs":[{"Version":"4","Interface":0,"Address":"10.0.0.2/24","Gateway":null}],"Routes":null,"DNS":{}}"#;
    let read = Outcome::read(object(text)).unwrap();
    assert_eq!((read.ips[0].interface, read.interfaces[0].name.as_str()), (Some(0), "eth0"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let error = |text| Outcome::read(object(text)).unwrap_err();
    assert_eq!(error(r#"{"ips":[{"address":"10.0.0.2"}]}"#), "address \"10.0.0.2\" is not in CIDR notation");
    assert_eq!(
        error(r#"{"ips":[{"address":"10.0.0.2/24","gateway":"x"}]}"#),
        "gateway \"x\" is not an IP address"
    );
    assert!(error(r#"{"ips":{}}"#).contains("invalid type"));
    let far = Outcome::read(object(r#"{"ips":[{"address":"10.0.0.2/24","interface":7}]}"#)).unwrap();
    assert_eq!(far.ips[0].interface, None, "an index that points at nothing is none");
}

/// cni:A3.
#[test]
fn a_chained_result_has_all_that_earlier_plugins_reported() {
    let joined = everything().and(everything());
    assert_eq!((joined.interfaces.len(), joined.ips.len(), joined.routes.len()), (4, 6, 8));
    assert_eq!((joined.ips[0].interface, joined.ips[3].interface), (Some(1), Some(3)));
    assert_eq!(joined.dns, everything().dns);
}
