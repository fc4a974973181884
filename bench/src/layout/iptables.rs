//! The layout of the iptables mode, as text for `iptables-restore`.
//!
//! A rule for each port in one list, which a new connection is compared with from the top; a chain for each port that throws a
//! dice for each endpoint but the last; a chain for each endpoint.

use super::{Port, ports, target};
use crate::cluster::{PORT, Size};
use std::fmt::{self, Write as _};

/// Which of the kernel's packet filters holds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `iptables-nft-restore`: nf_tables, as on today's distributions.
    Nft,
    /// `iptables-legacy-restore`: ip_tables.
    Legacy,
}

impl Kind {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Nft => "iptables-nft-restore",
            Self::Legacy => "iptables-legacy-restore",
        }
    }
}

const FILTER: &str = "*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

const NAT: &str = "-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
";

/// Both tables.
pub(super) fn ruleset(size: Size) -> String {
    let mut chains = String::new();
    let mut rules = NAT.to_owned();
    for port in ports(size) {
        write_port(&mut chains, &mut rules, &port).expect("a string takes everything");
    }
    let own = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"];
    let own: String = own.iter().map(|chain| format!(":{chain} - [0:0]\n")).collect();
    // Ports on the node come after all cluster IPs.
    let local = "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n";
    format!("{FILTER}*nat\n{own}{chains}{rules}{local}COMMIT\n")
}

fn write_port(chains: &mut String, rules: &mut String, port: &Port) -> fmt::Result {
    let (number, protocol, count) = (port.number, port.protocol, port.endpoints.len());
    let comment = format!("-m comment --comment \"default/{}:http", port.service);
    let service = format!("KUBE-SVC-{number:016}");
    writeln!(chains, ":{service} - [0:0]")?;
    let of_protocol = format!("-p {protocol} -m {protocol}");
    let to = format!("-d {}/32 {comment} cluster IP\" {of_protocol} --dport {PORT}", port.ip);
    writeln!(rules, "-A KUBE-SERVICES {to} -j {service}")?;
    for (slot, endpoint) in port.endpoints.iter().enumerate() {
        let chain = format!("KUBE-SEP-{number:08}{slot:08}");
        let target = target(endpoint);
        writeln!(chains, ":{chain} - [0:0]")?;
        writeln!(rules, "-A {service} {comment} -> {target}\" {}-j {chain}", dice(count - slot))?;
        writeln!(rules, "-A {chain} -s {endpoint}/32 {comment}\" -j KUBE-MARK-MASQ")?;
        writeln!(rules, "-A {chain} {comment}\" {of_protocol} -j DNAT --to-destination {target}")?;
    }
    port.node_port.map_or(Ok(()), |node_port| {
        let external = format!("KUBE-EXT-{number:016}");
        writeln!(chains, ":{external} - [0:0]")?;
        writeln!(rules, "-A KUBE-NODEPORTS {comment}\" {of_protocol} --dport {node_port} -j {external}")?;
        writeln!(rules, "-A {external} {comment}\" -j KUBE-MARK-MASQ")?;
        writeln!(rules, "-A {external} -j {service}")
    })
}

/// One of so many endpoints, all of them alike; the last one takes the rest.
fn dice(left: usize) -> String {
    let left = u32::try_from(left).map_or(f64::INFINITY, f64::from);
    if left > 1.0 {
        format!("-m statistic --mode random --probability {:.11} ", 1.0 / left)
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_endpoint_takes_what_the_dice_leave() {
        let text = ruleset(Size::from((1, 2)));
        let jumps: Vec<&str> =
            text.lines().filter(|line| line.contains("cluster IP") || line.contains("->")).collect();
        assert_eq!(jumps.len(), 6, "two ports of one Service: {jumps:?}");
        assert!(jumps[1].contains("--probability 0.50000000000") && !jumps[2].contains("statistic"));
    }
}
