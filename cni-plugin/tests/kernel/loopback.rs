//! The name `loopback`, which containerd starts for every pod beside its network.

use crate::node::{Node, Pod};
use heddle_tests::process::Invocation;
use serde_json::{Value, json};
use std::path::PathBuf;

struct Loopback {
    node: Node,
    program: PathBuf,
}

impl Loopback {
    fn new() -> Self {
        let node = Node::new();
        let program = node.folder().join("loopback");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_heddle-cni"), &program).unwrap();
        Self { node, program }
    }

    fn call(&self, command: &str, namespace: &str, extra: &Value) -> (bool, String) {
        let mut config = json!({"cniVersion": "1.1.0", "name": "cni-loopback", "type": "loopback"});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let call = Invocation::foreign(self.program.clone())
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_NETNS", namespace)
            .env("CNI_IFNAME", "lo")
            .input(config.to_string());
        let output = call.run(&self.node.namespace).unwrap();
        (output.status.success(), output.stdout)
    }
}

fn is_up(pod: &Pod) -> bool {
    let flags = pod.ip(&["link", "show", "lo"])[0]["flags"].clone();
    flags.as_array().unwrap().contains(&json!("UP"))
}

/// cni:1.9, cni:7: the link works, and the result of every version says which addresses it has.
#[test]
fn add_sets_the_link_up_and_reports_it() {
    let loopback = Loopback::new();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let pod = Pod::new();
        assert!(!is_up(&pod));
        let (success, result) = loopback.call("ADD", &pod.path(), &json!({"cniVersion": version}));
        assert!(success && is_up(&pod), "{result}");
        let result: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(result["cniVersion"], version);
        if version < "0.3.0" {
            assert_eq!(
                (&result["ip4"]["ip"], &result["ip6"]["ip"]),
                (&json!("127.0.0.1/8"), &json!("::1/128"))
            );
        } else {
            let lo = &result["interfaces"][0];
            assert_eq!((&lo["name"], &lo["mac"]), (&json!("lo"), &json!("00:00:00:00:00:00")));
            assert_eq!(lo["sandbox"], pod.path());
            let ips = result["ips"]
                .as_array()
                .unwrap()
                .iter()
                .map(|ip| (ip["address"].clone(), ip["interface"].clone()));
            let wanted = ["127.0.0.1/8", "::1/128"].map(|address| (json!(address), json!(0)));
            assert_eq!(ips.collect::<Vec<_>>(), wanted);
        }
        // Once more, and after another plugin: the same link, and the result that came in.
        let mut again = json!({"cniVersion": version});
        if version >= "0.3.0" {
            again["prevResult"] = result.clone();
        }
        let (success, handed_on) = loopback.call("ADD", &pod.path(), &again);
        assert_eq!((success, serde_json::from_str::<Value>(&handed_on).unwrap()), (true, result));
    }
}

#[test]
fn every_other_command_has_little_to_do() {
    let loopback = Loopback::new();
    let pod = Pod::new();
    let (_, result) = loopback.call("ADD", &pod.path(), &json!({}));
    let config = json!({"prevResult": serde_json::from_str::<Value>(&result).unwrap()});
    let done = (true, String::new());
    assert_eq!(loopback.call("CHECK", &pod.path(), &config), done);
    assert_eq!(loopback.call("STATUS", "", &json!({})), done);
    assert_eq!(loopback.call("GC", "", &json!({"cni.dev/valid-attachments": []})), done);
    for path in [pod.path().as_str(), "", "/var/run/netns/gone"] {
        assert_eq!(loopback.call("DEL", path, &config), done);
    }
    pod.ip(&["link", "set", "lo", "down"]);
    let (success, failure) = loopback.call("CHECK", &pod.path(), &config);
    assert!(!success && failure.contains("the loopback link is down"), "{failure}");
    let (success, failure) = loopback.call("ADD", "/proc/self/ns/net", &json!({}));
    assert!(!success && failure.contains("\"code\":8,"), "{failure}");
    assert!(loopback.call("VERSION", "", &json!({})).1.contains("\"1.1.0\""));
}
