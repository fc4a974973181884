//! The layout of the nftables mode, as text for `nft -f`.
//!
//! A chain and an anonymous map for each port, a chain for each endpoint, and the checks of new connections in filter chains.

use super::{Port, ports, target};
use crate::cluster::{PORT, Size};
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::iter;
use std::net::IpAddr;

/// Ports in one transaction: the kernel takes ten thousand in a quarter of the time that one transaction of all of them needs.
const PIECE: usize = 500;

const FIXED: &str = "
  set cluster-ips { type ipv4_addr; }
  set nodeport-ips { type ipv4_addr; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-nodeports { type inet_proto . inet_service : verdict; }
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading {
    meta mark & 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
  chain cluster-ips-check { ip daddr @cluster-ips reject; }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain filter-prerouting-pre-dnat {
    type filter hook prerouting priority -110;
    ct state new jump firewall-check
  }
  chain filter-output-pre-dnat {
    type filter hook output priority -110;
    ct state new jump firewall-check
  }
  chain filter-input {
    type filter hook input priority 0;
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }
  chain filter-forward {
    type filter hook forward priority 0;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority 0;
    ct state new jump service-endpoints-check
  }
  chain filter-output-post-dnat {
    type filter hook output priority -90;
    ct state new jump cluster-ips-check
  }
  chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
";

/// The whole table, in pieces that follow each other; node ports are asked for at these addresses.
pub(super) fn pieces(size: Size, nodes: &[IpAddr]) -> impl Iterator<Item = String> {
    let nodes: Vec<String> = nodes.iter().filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect();
    let table = format!(
        "table ip kube-proxy {{{FIXED}}}\nadd element ip kube-proxy nodeport-ips {{ {} }}\n",
        nodes.join(", ")
    );
    let mut ports = ports(size);
    let piece = move || {
        let some: Vec<Port> = ports.by_ref().take(PIECE).collect();
        (!some.is_empty()).then(|| piece(&some).expect("a string takes everything"))
    };
    iter::once(table).chain(iter::from_fn(piece))
}

fn piece(ports: &[Port]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let mut services = String::new();
    for port in ports {
        write_port(&mut text, port)?;
        write!(services, "{} . {} . {PORT} : goto {}, ", port.ip, port.protocol, chain(port))?;
    }
    let addresses: BTreeSet<String> = ports.iter().map(|port| port.ip.to_string()).collect();
    let addresses: Vec<String> = addresses.into_iter().collect();
    writeln!(text, "add element ip kube-proxy service-ips {{ {services} }}")?;
    writeln!(text, "add element ip kube-proxy cluster-ips {{ {} }}", addresses.join(", "))?;
    Ok(text)
}

fn chain(port: &Port) -> String {
    format!("service-{}/{}/http", port.service, port.protocol)
}

fn write_port(text: &mut String, port: &Port) -> fmt::Result {
    let Port { service, protocol, .. } = port;
    let mut targets = String::new();
    for (slot, endpoint) in port.endpoints.iter().enumerate() {
        let target = target(endpoint);
        let chain = format!("endpoint-{service}/{protocol}/http__{}", target.replace(':', "/"));
        writeln!(text, "add chain ip kube-proxy {chain}")?;
        writeln!(text, "add rule ip kube-proxy {chain} ip saddr {endpoint} jump mark-for-masquerade")?;
        writeln!(text, "add rule ip kube-proxy {chain} meta l4proto {protocol} dnat to {target}")?;
        write!(targets, "{slot} : goto {chain}, ")?;
    }
    let (chain, count) = (chain(port), port.endpoints.len());
    writeln!(text, "add chain ip kube-proxy {chain}")?;
    writeln!(text, "add rule ip kube-proxy {chain} numgen random mod {count} vmap {{ {targets} }}")?;
    port.node_port.map_or(Ok(()), |number| write_node_port(text, port, number))
}

fn write_node_port(text: &mut String, port: &Port, number: u16) -> fmt::Result {
    let external = format!("external-{}/{}/http", port.service, port.protocol);
    writeln!(text, "add chain ip kube-proxy {external}")?;
    writeln!(text, "add rule ip kube-proxy {external} jump mark-for-masquerade")?;
    writeln!(text, "add rule ip kube-proxy {external} goto {}", chain(port))?;
    writeln!(
        text,
        "add element ip kube-proxy service-nodeports {{ {} . {number} : goto {external} }}",
        port.protocol
    )
}
