//! A ruleset in the layout of kube-proxy's nftables mode, as text for `nft -f`.
//!
//! Not kube-proxy: what it would write for cluster IPs alone, with no pod network set. A chain and an anonymous map for
//! each Service, a chain for each endpoint, and the checks of new connections in filter chains.

use crate::cluster::{PORT, Size, TARGET};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

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

/// The whole table for a cluster whose last Service has only this endpoint.
pub fn ruleset(size: Size, last: IpAddr) -> String {
    let mut text = format!("table ip kube-proxy {{{FIXED}}}\n");
    let mut elements = Elements { services: String::new(), addresses: String::new() };
    for number in 0..size.services {
        let endpoints = if number + 1 == size.services { vec![last] } else { size.endpoints(number) };
        write_service(&mut text, &mut elements, (size, number), &endpoints)
            .expect("a string takes everything");
    }
    let Elements { services, addresses } = elements;
    text + &format!(
        "add element ip kube-proxy service-ips {{ {services} }}\nadd element ip kube-proxy cluster-ips {{ {addresses} }}\n"
    )
}

struct Elements {
    services: String,
    addresses: String,
}

fn write_service(
    text: &mut String,
    elements: &mut Elements,
    (size, number): (Size, u32),
    endpoints: &[IpAddr],
) -> fmt::Result {
    let (name, ip) = (size.name(number), size.cluster_ip(number));
    let chain = |endpoint: &IpAddr| format!("endpoint-{name}/tcp/http__{endpoint}/{TARGET}");
    let mut targets = String::new();
    for (slot, endpoint) in endpoints.iter().enumerate() {
        let chain = chain(endpoint);
        writeln!(text, "add chain ip kube-proxy {chain}")?;
        writeln!(text, "add rule ip kube-proxy {chain} ip saddr {endpoint} jump mark-for-masquerade")?;
        writeln!(text, "add rule ip kube-proxy {chain} meta l4proto tcp dnat to {endpoint}:{TARGET}")?;
        write!(targets, "{slot} : goto {chain}, ")?;
    }
    let service = format!("service-{name}/tcp/http");
    writeln!(text, "add chain ip kube-proxy {service}")?;
    let count = endpoints.len();
    writeln!(text, "add rule ip kube-proxy {service} numgen random mod {count} vmap {{ {targets} }}")?;
    write!(elements.services, "{ip} . tcp . {PORT} : goto {service}, ")?;
    write!(elements.addresses, "{ip}, ")
}
