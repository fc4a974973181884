//! A node with an uplink and a host at its other end.

use crate::node::Node;
use heddle_tests::namespace::Namespace;
use heddle_tests::process::Invocation;
use heddle_tests::traffic::{self, Outcome, Transport};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};

/// The node's addresses on its uplink, and the other host's.
pub(crate) const NODE: [&str; 2] = ["192.0.2.1", "2001:db8:2::1"];
pub(crate) const SECOND: [&str; 2] = ["192.0.2.2", "2001:db8:2::2"];
pub(crate) const OUTSIDE: [&str; 2] = ["192.0.2.250", "2001:db8:2::250"];

pub(crate) struct Site {
    pub(crate) node: Node,
    pub(crate) outside: Namespace,
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self { node: Node::new(), outside: Namespace::new("outside").unwrap() };
        let path = site.outside.path().display().to_string();
        site.node.ip(&["link", "add", "up0", "type", "veth", "peer", "up0", "netns", &path]);
        ip(&site.node.namespace, &["link", "set", "lo", "up"]);
        for (host, addresses) in
            [(&site.node.namespace, [NODE, SECOND].concat()), (&site.outside, OUTSIDE.to_vec())]
        {
            ip(host, &["link", "set", "up0", "up"]);
            for address in addresses {
                let length = if address.contains(':') { 64 } else { 24 };
                ip(host, &["address", "add", &format!("{address}/{length}"), "dev", "up0", "nodad"]);
            }
        }
        ip(&site.outside, &["route", "add", "default", "via", NODE[0]]);
        ip(&site.outside, &["-6", "route", "add", "default", "via", NODE[1]]);
        site
    }

    /// What nft, which we did not write, does on the node.
    pub(crate) fn nft(&self, arguments: &[&str]) -> String {
        let output = Invocation::foreign("nft").args(arguments).run(&self.node.namespace).unwrap();
        assert!(output.status.success(), "nft {arguments:?}: {}", output.stderr);
        output.stdout
    }

    /// All elements of host ports, in nft's words.
    pub(crate) fn elements(&self) -> Vec<String> {
        let listed = self.nft(&["list", "ruleset"]);
        let lines = listed
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("comment \"hdl") || line.contains("comment \"ext"));
        lines.map(str::to_owned).collect()
    }
}

fn ip(host: &Namespace, arguments: &[&str]) {
    let output = Invocation::foreign("ip").args(arguments).run(host).unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", output.stderr);
}

/// One attempt, and how it ended.
pub(crate) fn ask(from: &Namespace, transport: Transport, (address, port): (&str, u16)) -> Outcome {
    traffic::attempt(from, transport, SocketAddr::new(address.parse().unwrap(), port)).unwrap()
}

/// The name of the server that answers, and the address that it saw.
pub(crate) fn answer(from: &Namespace, transport: Transport, to: (&str, u16)) -> (String, IpAddr) {
    match ask(from, transport, to) {
        Outcome::Answer { endpoint, source } => (endpoint, source),
        other => panic!("{to:?} {transport}: {other}"),
    }
}

/// Keys that map ports as containerd sends them, with Go's capital letters.
pub(crate) fn ports(mappings: &[(u16, u16, &str, &str)]) -> Value {
    let mapping = |(host, container, protocol, address): &(u16, u16, &str, &str)| json!({"HostPort": host, "ContainerPort": container, "Protocol": protocol, "HostIP": address});
    json!({"runtimeConfig": {"portMappings": mappings.iter().map(mapping).collect::<Vec<_>>()}})
}
