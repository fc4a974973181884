//! The ways into what stands, for another shell.

use crate::cluster::agent_socket;
use crate::demo::stage::Stage;
use crate::demo::{CLIENT, CLUSTER_IPS, NODE_PORT, PORT, TARGET};
use crate::namespace::Namespace;
use crate::process::program;
use crate::proxy::socket;
use std::io::{self, Write};
use std::net::IpAddr;

impl Stage {
    /// Prints the ways into what stands, for another shell.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn show_ways_in(&self, out: &mut impl Write) -> io::Result<()> {
        let lab = &self.cluster.lab;
        writeln!(out, "Paste this into another shell of root's: each host is a word before a command.\n")?;
        lab.nodes().iter().try_for_each(|node| enter(out, node.namespace(), ""))?;
        for (node, pod) in self.pods() {
            enter(out, pod.namespace(), &format!("on {}, {}", node.name(), join(pod.addresses())))?;
        }
        enter(out, lab.outside(), &join(&lab.outside_addresses()))?;
        enter(out, lab.fabric(), "the switches and the router")?;
        writeln!(out, "\nThen try: who answers, and whom it saw")?;
        self.questions().iter().try_for_each(|question| writeln!(out, "  {question}"))?;
        writeln!(out, "\nWhat heddle keeps on a node, and what becomes of it when it is damaged:")?;
        self.looks()?.iter().try_for_each(|look| writeln!(out, "  {look}"))
    }

    fn questions(&self) -> Vec<String> {
        let ask = |word: &str, ip: IpAddr, port: u16| format!("{word} bash -c 'cat </dev/tcp/{ip}/{port}'");
        let (_, last) = self.webs().last().expect("there are nodes besides the client's");
        let pods = last.addresses().iter().map(|ip| ask(CLIENT, *ip, TARGET));
        let services = CLUSTER_IPS.into_iter().map(|ip| ask(CLIENT, ip, PORT));
        let ports = self.near().addresses().into_iter().take(1).map(|ip| ask("outside", ip, NODE_PORT));
        pods.chain(services).chain(ports).collect()
    }

    fn looks(&self) -> io::Result<Vec<String>> {
        let near = self.near();
        let word = word(near.namespace());
        let program =
            |name| Ok::<_, io::Error>(program(name).map_err(io::Error::other)?.display().to_string());
        let (agent, proxy) = (program("heddle-node")?, program("heddle-proxy")?);
        let (of_agent, of_proxy) = (agent_socket(near), socket(near));
        let kubeconfig = self.cluster.kubeconfig(near.name()).map_err(io::Error::other)?;
        let kubectl = format!("{word} kubectl --kubeconfig={}", kubeconfig.display());
        Ok(vec![
            format!("{word} ip route"),
            format!("{word} nft list ruleset"),
            format!("{word} ip route flush proto 110"),
            format!("{word} {agent} status --status-socket {of_agent}"),
            format!("{word} {proxy} status --status-socket {of_proxy}"),
            format!(
                "{word} {proxy} trace --status-socket {of_proxy} {} {}:{PORT}",
                self.client().addresses()[0],
                CLUSTER_IPS[0]
            ),
            format!("{kubectl} get nodes,services,endpointslices -A"),
        ])
    }
}

/// Defines a word that runs a command on a host.
fn enter(out: &mut impl Write, host: &Namespace, about: &str) -> io::Result<()> {
    let about = if about.is_empty() { String::new() } else { format!("  # {about}") };
    writeln!(out, "  {}() {{ nsenter --net={} \"$@\"; }}{about}", word(host), host.path().display())
}

/// A host's name as a shell takes it.
fn word(host: &Namespace) -> String {
    host.name().replace('-', "_")
}

fn join(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join("  ")
}
