//! One line of a scenario's traffic: who tries to reach what.

use crate::scenario::expected::{Expected, expected};
use crate::scenario::parse::{Line, ParseError, transport_named};
use crate::traffic::Transport;
use std::fmt;
use std::net::SocketAddr;

/// A repeated attempt must see every endpoint that is named. With this many attempts per endpoint, the chance that
/// random selection among four leaves one out is below one in a hundred million.
const ATTEMPTS_PER_ENDPOINT: usize = 20;
/// The name of the host outside the cluster.
pub(super) const OUTSIDE: &str = "outside";

/// One line of the traffic section: each transport is tried with each target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Line number in the file.
    pub line: usize,
    /// Name of the pod or node that tries, or `outside`.
    pub from: String,
    /// The transports.
    pub transports: Vec<Transport>,
    /// How often.
    pub count: usize,
    /// To where.
    pub to: Vec<Target>,
    /// The node to which the host outside sends what is for the targets' addresses.
    pub via: Option<String>,
    /// With what outcome.
    pub expected: Expected,
}

/// To what a client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address and a port.
    Address(SocketAddr),
    /// A port of a node's own address: `node-1:30080` for IPv4, `[node-1]:30080` for IPv6.
    Node {
        /// The node's name.
        name: String,
        /// Its IPv6 address is meant.
        ipv6: bool,
        /// The port.
        port: u16,
    },
}

impl Target {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let (name, port) = text.rsplit_once(':')?;
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let (name, ipv6) = (bare.unwrap_or(name).to_owned(), bare.is_some());
        Some(Self::Node { name, ipv6, port: port.parse().ok()? })
    }

    /// It is reached over IPv6.
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Address(address) => address.is_ipv6(),
            Self::Node { ipv6, .. } => *ipv6,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Node { name, ipv6: false, port } => write!(f, "{name}:{port}"),
            Self::Node { name, ipv6: true, port } => write!(f, "[{name}]:{port}"),
        }
    }
}

/// `FROM TRANSPORT[+TRANSPORT] [xCOUNT] -> TARGET … [via NODE] = EXPECTED`
pub(super) fn attempt((line, text): Line<'_>) -> Result<Attempt, ParseError> {
    let wrong = |what: String| ParseError { line, what };
    let missing = |what: &str| ParseError { line, what: what.to_owned() };
    let (question, answer) = text.split_once(" = ").ok_or_else(|| missing("no ` = ` before the outcome"))?;
    let (client, to) = question.split_once(" -> ").ok_or_else(|| missing("no ` -> ` before the address"))?;
    let (from, transports, count) = self::client(client).map_err(wrong)?;
    let (to, via) = targets(to).map_err(wrong)?;
    let attempt = Attempt {
        line,
        from: from.to_owned(),
        transports,
        count,
        to,
        via,
        expected: expected(answer.trim()).map_err(wrong)?,
    };
    attempt.check().map_err(missing)?;
    Ok(attempt)
}

fn client(text: &str) -> Result<(&str, Vec<Transport>, usize), String> {
    let (from, transports, count) = match text.split_whitespace().collect::<Vec<_>>()[..] {
        [from, transports] => (from, transports, "x1"),
        [from, transports, count] => (from, transports, count),
        _ => return Err("a client is `name tcp` or `name tcp+udp x300`".to_owned()),
    };
    let transports: Option<Vec<_>> = transports.split('+').map(transport_named).collect();
    let count = count.strip_prefix('x').and_then(|n| n.parse().ok()).ok_or("a count is `x300`")?;
    Ok((from, transports.ok_or("the transport is tcp or udp")?, count))
}

fn targets(text: &str) -> Result<(Vec<Target>, Option<String>), String> {
    let (to, via) = match text.split_once(" via ") {
        Some((to, via)) => (to, Some(via.trim().to_owned())),
        None => (text, None),
    };
    let target = |word| Target::parse(word).ok_or("a target is an address or a node, and a port");
    Ok((to.split_whitespace().map(target).collect::<Result<_, _>>()?, via))
}

impl Attempt {
    /// What no single part can say.
    fn check(&self) -> Result<(), &'static str> {
        let named = match &self.expected {
            Expected::Answers { endpoints, .. } => endpoints.len(),
            _ => 0,
        };
        if self.to.is_empty() {
            Err("no target")
        } else if self.count > 1 && self.count < named * ATTEMPTS_PER_ENDPOINT {
            Err("too few attempts to see every endpoint: 20 for each, or a single one")
        } else if self.count > 1 && self.expected == Expected::Timeout {
            Err("what does not answer is tried once")
        } else if self.via.is_some() && self.from != OUTSIDE {
            Err("only the host outside chooses the node that it goes through")
        } else {
            Ok(())
        }
    }

    /// Every name that must be in the topology.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let targets = self.to.iter().filter_map(|target| match target {
            Target::Node { name, .. } => Some(name.as_str()),
            Target::Address(_) => None,
        });
        [self.from.as_str()]
            .into_iter()
            .chain(self.via.as_deref())
            .chain(targets)
            .chain(self.expected.names())
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    fn fault(traffic: &str) -> String {
        let text = format!("# x\n--- topology\nnode-1\n  a 10.244.1.1\n--- traffic\n{traffic}\n");
        Scenario::parse(&text).unwrap_err().to_string()
    }

    #[test]
    fn a_line_that_does_not_fit_is_named() {
        assert_eq!(fault("a tcp 10.96.0.10:80 = a"), "line 6: no ` -> ` before the address");
        assert_eq!(fault("a icmp -> 10.96.0.10:80 = a"), "line 6: the transport is tcp or udp");
        assert_eq!(fault("a tcp -> 10.96.0.10 = a"), "line 6: a target is an address or a node, and a port");
        assert_eq!(fault("b tcp -> 10.96.0.10:80 = a"), "line 6: nobody in the topology is called \"b\"");
        assert_eq!(
            fault("a tcp -> 10.96.0.10:80 = refusd"),
            "line 6: nobody in the topology is called \"refusd\""
        );
        assert_eq!(fault("a tcp x2 -> 1.2.3.4:80 = a").matches("too few attempts").count(), 1);
        assert_eq!(
            fault("a tcp -> 1.2.3.4:80 = a, sauce kept"),
            "line 6: \"sauce kept\" is neither a source nor a spread"
        );
        assert_eq!(fault("a tcp -> b:80 = a"), "line 6: nobody in the topology is called \"b\"");
        assert_eq!(
            fault("a tcp -> 1.2.3.4:80 = a, source b"),
            "line 6: nobody in the topology is called \"b\""
        );
        assert!(fault("a tcp -> 1.2.3.4:80 via node-1 = a").contains("only the host outside"));
        assert!(fault("a tcp x2 -> 1.2.3.4:80 = timeout").contains("tried once"));
    }
}
