//! A trace for people, and for programs.

use super::{Reached, Reason, Told, Trace};
use crate::frontends::Reach;
use crate::look::words;
use crate::model::Policy;
use crate::packet::Outcome;
use serde_json::{Value, json};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

impl Reason {
    /// The reason as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Served => "an endpoint takes it",
            Self::NoEndpoint => "rejected: the Service has no endpoint that serves, on any node",
            Self::NoLocalEndpoint => "dropped: the policy wants an endpoint on this node, and there is none",
            Self::SourceRange => "dropped: loadBalancerSourceRanges does not let this source in",
            Self::UnusedPort => "rejected: a cluster IP, but no Service has this port of it",
            Self::UnusedAddress => "dropped: an address of the Services' ranges that no Service has",
            Self::NotServedHere => {
                "untouched: a node port of a Service, but not on this address; it goes where it was going"
            }
            Self::SetAside => {
                "not served on this node: the kernel refuses the frontend (heddle-proxy status says why)"
            }
            Self::NoService => "untouched: no Service claims it; it goes where it was going",
        }
    }
}

impl Reached<'_> {
    /// The field that chose the list of endpoints, and its value.
    fn policy(&self) -> String {
        let field = if self.backends.reach == Reach::ClusterIp {
            "internalTrafficPolicy"
        } else {
            "externalTrafficPolicy"
        };
        format!("{field}: {:?}", self.backends.policy)
    }
}

impl Trace<'_> {
    fn list(&self) -> Option<&'static str> {
        let reached = self.reached.as_ref().filter(|_| self.reason == Reason::Served)?;
        Some(match (self.keeps_to_this_node(), reached.backends.policy) {
            (true, _) => "endpoints of this node",
            (false, Policy::Cluster) => "endpoints of the whole cluster",
            (false, Policy::Local) => {
                "from a pod or the node itself as from within the cluster: endpoints of the whole cluster"
            }
        })
    }

    fn is_here(&self, endpoint: SocketAddr) -> bool {
        let lists = self.reached.as_ref().map(|reached| [&reached.backends.cluster, &reached.backends.local]);
        let mut all = lists.iter().flatten().flat_map(|list| list.iter());
        all.any(|e| e.local && SocketAddr::new(e.address, e.port) == endpoint)
    }

    /// The rules on all ways, each with the elements that it found on any of them.
    fn rules(&self) -> Vec<(String, Vec<String>)> {
        let mut rules: Vec<(String, Vec<String>)> = Vec::new();
        for visit in self.ways.values().flat_map(|way| &way.passage.path) {
            let rule = visit.to_string();
            let at = rules.iter().position(|(known, _)| *known == rule).unwrap_or_else(|| {
                rules.push((rule, Vec::new()));
                rules.len() - 1
            });
            let hits = visit.hits.iter().map(ToString::to_string);
            let new: Vec<String> = hits.filter(|hit| !rules[at].1.contains(hit)).collect();
            rules[at].1.extend(new);
        }
        rules
    }

    fn table(&self) -> Option<String> {
        let visit = self.ways.values().find_map(|way| way.passage.path.first())?;
        Some(format!("table {} {}", visit.table.family, visit.table.name))
    }
}

fn endpoint(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

impl fmt::Display for Trace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_packet(f)?;
        if let Some(reached) = &self.reached {
            reached.write(f)?;
            if let Some(told) = &self.socket {
                told.fmt(f)?;
            }
            if let Some(list) = self.list() {
                writeln!(f, "policy    {}, {list}", reached.policy())?;
            } else if self.reason == Reason::NoLocalEndpoint {
                writeln!(f, "policy    {}", reached.policy())?;
            }
        }
        self.write_ways(f)?;
        if let Some(table) = self.table() {
            writeln!(f, "kernel    {table}")?;
        }
        for (rule, hits) in self.rules() {
            writeln!(f, "  {rule}")?;
            hits.iter().try_for_each(|hit| writeln!(f, "    {hit}"))?;
        }
        Ok(())
    }
}

impl Trace<'_> {
    fn write_packet(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = &self.packet;
        let to = endpoint(packet.destination, packet.port);
        write!(f, "packet    {} {} -> {to}", packet.protocol, packet.source)?;
        match &packet.in_interface {
            None => writeln!(f, ", made on the node"),
            Some(_) if words::is_unnamed(packet) => writeln!(f, ", in by an interface that was not named"),
            Some(name) => writeln!(f, ", in by {name}"),
        }
    }

    fn write_ways(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason != Reason::Served {
            return writeln!(f, "outcome   {}", self.reason.sentence());
        }
        let endpoints = if self.ways.len() == 1 {
            "1 endpoint"
        } else {
            &format!("one of {} endpoints", self.ways.len())
        };
        writeln!(f, "outcome   {endpoints}")?;
        for (outcome, way) in &self.ways {
            let Outcome::Endpoint { address, port, source_kept } = *outcome else { continue };
            let to = endpoint(address, port);
            let here = if self.is_here(to) { " (on this node)" } else { "" };
            let source = match source_kept {
                true => "client's address kept",
                false if way.is_hairpin() => "to itself: source becomes the node's address on the way out",
                false => "source becomes the node's address on the way out",
            };
            writeln!(f, "  {}/{}  {to}{here}  {source}", way.share, self.choices())?;
        }
        Ok(())
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let outcome = |(outcome, way): (&Outcome, &super::Way<'_>)| match *outcome {
            Outcome::Endpoint { address, port, source_kept } => json!({
                "endpoint": endpoint(address, port).to_string(),
                "onThisNode": self.is_here(endpoint(address, port)),
                "share": way.share,
                "of": self.choices(),
                "sourceKept": source_kept,
                "hairpin": way.is_hairpin(),
            }),
            other => json!({ "verdict": other.to_string() }),
        };
        let kernel =
            self.rules().into_iter().map(|(rule, elements)| json!({ "rule": rule, "elements": elements }));
        json!({
            "packet": {
                "protocol": self.packet.protocol.to_string(),
                "source": self.packet.source,
                "destination": self.packet.destination,
                "port": self.packet.port,
                "inInterface": self.packet.in_interface.as_deref().filter(|_| !words::is_unnamed(&self.packet)),
                "madeOnTheNode": self.packet.in_interface.is_none(),
            },
            "socket": self.socket.as_ref().map(Told::json),
            "reason": format!("{:?}", self.reason),
            "frontend": self.reached.as_ref().map(|reached| json!({
                "frontend": reached.frontend.to_string(),
                "reach": reached.backends.reach.to_string(),
                "service": reached.owner.to_string(),
                "rivals": reached.rivals.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "policy": reached.policy(),
                "sourceRanges": reached.backends.sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "affinitySeconds": reached.backends.affinity.as_ref().map(|a| a.seconds),
            })),
            "outcomes": self.ways.iter().map(outcome).collect::<Vec<_>>(),
            "table": self.table(),
            "kernel": kernel.collect::<Vec<_>>(),
        })
    }
}

impl Reached<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "frontend  {}, {} of Service {}", self.frontend, self.backends.reach, self.owner)?;
        for rival in &self.rivals {
            writeln!(f, "          Service {rival} claims it too, and does not have it")?;
        }
        if !self.backends.sources.is_empty() {
            let sources: Vec<String> = self.backends.sources.iter().map(ToString::to_string).collect();
            writeln!(f, "sources   only {}", sources.join(", "))?;
        }
        if let Some(affinity) = &self.backends.affinity {
            writeln!(f, "affinity  a client keeps its endpoint for {} s", affinity.seconds)?;
        }
        Ok(())
    }
}
