//! Host ports of heddle-cni beside the real `heddle-proxy` on the same node.

use heddle_tests::lab::{Lab, Node};
use heddle_tests::namespace::Namespace;
use heddle_tests::objects::{service, slice};
use heddle_tests::process::Invocation;
use heddle_tests::proxy::{Manifests, Proxy};
use heddle_tests::traffic::{self, Server, Transport};
use serde_json::json;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 8080);
const NODE_PORT: u16 = 30_080;

/// A pod that the runtime asks ports of the node for.
fn add(node: &Node, pod: &Namespace, ports: &[u16]) -> Result<(), Box<dyn Error>> {
    let mappings: Vec<_> =
        ports.iter().map(|port| json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"})).collect();
    let config = json!({"cniVersion": "1.0.0", "name": "ports", "type": "heddle-cni", "bridge": "cni1",
        "isDefaultGateway": true, "hairpinMode": true, "runtimeConfig": {"portMappings": mappings},
        "ipam": {"type": "heddle", "subnet": "10.77.0.0/24", "dataDir": node.directory().join("ports")}});
    let call = Invocation::of("heddle-cni")?
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", "ported")
        .env("CNI_NETNS", pod.path())
        .env("CNI_IFNAME", "eth0")
        .input(config.to_string());
    let output = call.run(node.namespace())?;
    assert!(output.status.success(), "{}", output.stdout);
    Ok(())
}

/// Each has its own ports and addresses, whoever comes first: a host port does not take a Service's connections, not even
/// with the Service's port, and where both claim one port of the node, the Service has it.
#[test]
fn host_ports_and_services_stand_beside_each_other() -> Result<(), Box<dyn Error>> {
    let lab = Lab::new(&["node-1"])?;
    let node = lab.node("node-1")?;
    let (web, ported) = (node.pod("web")?, Namespace::new("ported")?);
    let _web = Server::start(web.namespace(), "service", Transport::Tcp, 80)?;
    let _ported = Server::start(&ported, "ported", Transport::Tcp, 80)?;
    let manifests = Manifests::of(node)?;
    let mut object = service("web", &[VIP.ip()], VIP.port(), 80);
    object["spec"]["type"] = json!("NodePort");
    object["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
    manifests.put("service.json", &object.to_string())?;
    let address = web.addresses().iter().find(|address| address.is_ipv4()).ok_or("an IPv4 address")?;
    manifests.put("slice.json", &slice("web", node.name(), &[*address], 80).to_string())?;
    add(node, &ported, &[VIP.port(), NODE_PORT])?;
    let proxy = Proxy::start(node, &manifests)?;
    proxy.ready(node)?;
    let own = node.addresses().into_iter().find(IpAddr::is_ipv4).ok_or("an IPv4 address")?;
    for from in [lab.outside(), web.namespace(), node.namespace(), &ported] {
        let answers = |to| traffic::tcp(from, to).map(|outcome| outcome.endpoint().map(str::to_owned));
        assert_eq!(answers((own, VIP.port()).into())?.as_deref(), Some("ported"), "{from:?}");
        assert_eq!(answers((own, NODE_PORT).into())?.as_deref(), Some("service"), "{from:?}");
    }
    for from in [web.namespace(), node.namespace(), &ported] {
        assert_eq!(traffic::tcp(from, VIP)?.endpoint(), Some("service"), "{from:?}");
    }
    assert!(node.nft(["list", "ruleset"])?.status.success());
    Ok(())
}
